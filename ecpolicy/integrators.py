"""Physics that cost less than the registered ones, for training: how MuJoCo integrates the equations of motion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gymnasium.envs.registration import EnvSpec, load_env_creator

from ecpolicy.constraints import Choice
from ecpolicy.ids import changed_spec
from ecpolicy.untyped import Env

INTEGRATORS = {"Euler": 0, "RK4": 1, "implicit": 2, "implicitfast": 3}  # mujoco.mjtIntegrator
INTEGRATOR = Choice(INTEGRATORS)


def with_integrator(environment_id: str, integrator: str, **kwargs: object) -> EnvSpec:
    """What makes a robot of Gymnasium whose equations of motion are integrated in another way than its file says.

    Hopper, Walker2d, Ant and Humanoid are integrated by the classical Runge-Kutta method, which computes forces four
    times a step. With "Euler" (semi-implicit, and implicit in the joints' damping) they are computed once. A policy
    that is trained so acts in the registered environment: ``policy.score("Hopper-v5")`` says how well.

    Parameters
    ----------
    environment_id : str
        Of one of Gymnasium's MuJoCo environments, such as "Hopper-v5".
    integrator : "Euler", "RK4", "implicit" or "implicitfast"
        As in MuJoCo's documentation, "Numerical integration".
    **kwargs
        Of the environment's constructor, such as ``healthy_reward=0.0``.

    Returns
    -------
    EnvSpec
        For ``fit`` and ``gymnasium.make``, without a reward threshold, as it is another task.

    Raises
    ------
    TypeError, ValueError
        Of another integrator; when the environment is made, of one without a MuJoCo model.

    Examples
    --------
    >>> import gymnasium
    >>> gymnasium.make(with_integrator("Hopper-v5", "Euler")).unwrapped.model.opt.integrator
    0
    """
    spec: Any = changed_spec(environment_id, {**kwargs, "integrator": INTEGRATOR("integrator", integrator)})
    spec.entry_point = _Maker(spec.entry_point)
    made: EnvSpec = spec
    return made


@dataclass(frozen=True)
class _Maker:
    """What makes an environment of a spec, with its integrator."""

    entry_point: str | Callable[..., Env]

    def __call__(self, *, integrator: str, **kwargs: object) -> Env:
        """The environment."""
        creator: Any = load_env_creator(self.entry_point) if isinstance(self.entry_point, str) else self.entry_point
        environment: Env = creator(**kwargs)
        model: Any = getattr(environment.unwrapped, "model", None)
        if not hasattr(getattr(model, "opt", None), "integrator"):
            kind = type(environment.unwrapped).__name__
            raise ValueError(f"integrator={integrator!r} is for robots of MuJoCo, and {kind} is none.")
        model.opt.integrator = INTEGRATORS[integrator]
        return environment
