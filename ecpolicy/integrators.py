"""Physics that cost less than the registered ones, for training: how, and how finely, MuJoCo integrates motion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gymnasium.envs.registration import EnvSpec, load_env_creator

from ecpolicy.constraints import Choice, Integer
from ecpolicy.ids import changed_spec
from ecpolicy.untyped import Env

INTEGRATORS = {"Euler": 0, "RK4": 1, "implicit": 2, "implicitfast": 3}  # mujoco.mjtIntegrator
INTEGRATOR = Choice(INTEGRATORS)
SUBSTEPS = Integer(1)


def with_integrator(
    environment: str | EnvSpec, integrator: str, *, substeps: int | None = None, **kwargs: object
) -> EnvSpec:
    """What makes a robot of Gymnasium whose equations of motion are integrated in another way than its file says.

    Hopper, Walker2d, Ant and Humanoid are integrated by the classical Runge-Kutta method, which computes forces four
    times a step. With "Euler" (semi-implicit, and implicit in the joints' damping) they are computed once. An
    environment's step is four or five of these steps; ``substeps`` makes it fewer and longer ones. A policy that is
    trained so acts in the registered environment: ``policy.score("Hopper-v5")`` says how well.

    Parameters
    ----------
    environment : str or EnvSpec
        One of Gymnasium's MuJoCo environments: its id, such as "Hopper-v5", or a spec, such as
        ``tuned("Hopper-v5").environment``.
    integrator : "Euler", "RK4", "implicit" or "implicitfast"
        As in MuJoCo's documentation, "Numerical integration".
    substeps : int, optional
        Steps of the physics within one of the environment, which lasts as long as before; None for as many as before.
    **kwargs
        Of the environment's constructor, such as ``healthy_reward=0.0``.

    Returns
    -------
    EnvSpec
        For ``fit`` and ``gymnasium.make``, without a reward threshold, as it is another task.

    Raises
    ------
    TypeError, ValueError
        Of another environment, integrator or number of substeps; when the environment is made, of one without a MuJoCo
        model.

    Examples
    --------
    >>> import gymnasium
    >>> hopper = gymnasium.make(with_integrator("Hopper-v5", "Euler", substeps=2)).unwrapped
    >>> hopper.model.opt.integrator, hopper.model.opt.timestep, hopper.dt  # 0 stands for Euler
    (0, 0.004, 0.008)
    """
    physics: dict[str, object] = {"integrator": INTEGRATOR("integrator", integrator)}
    if substeps is not None:
        physics["substeps"] = SUBSTEPS("substeps", substeps)
    spec: Any = changed_spec(environment, {**kwargs, **physics})
    if not isinstance(spec.entry_point, _Maker):
        spec.entry_point = _Maker(spec.entry_point)
    made: EnvSpec = spec
    return made


@dataclass(frozen=True)
class _Maker:
    """What makes an environment of a spec, with its integrator and substeps."""

    entry_point: str | Callable[..., Env]

    def __call__(self, *, integrator: str, substeps: int | None = None, **kwargs: object) -> Env:
        """The environment."""
        creator: Any = load_env_creator(self.entry_point) if isinstance(self.entry_point, str) else self.entry_point
        environment: Env = creator(**kwargs)
        robot: Any = environment.unwrapped
        options: Any = getattr(getattr(robot, "model", None), "opt", None)
        if not hasattr(options, "integrator"):
            raise ValueError(f"integrator={integrator!r} is for robots of MuJoCo, and {type(robot).__name__} is none.")
        options.integrator = INTEGRATORS[integrator]
        if substeps is not None:
            options.timestep, robot.frame_skip = robot.dt / substeps, substeps
        return environment
