"""Which environments are Gymnasium's robots, and may be simulated natively.

What is not plainly Gymnasium's own code is not recognised, and Gymnasium plays it.
"""

import copy
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from ecpolicy.rollout.mujoco.robot import Robot
from ecpolicy.rollout.mujoco.simulations import Simulations
from ecpolicy.rollout.mujoco.tasks import TASKS
from ecpolicy.untyped import Env

if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv


PACKAGE = "gymnasium.envs.mujoco."
KNOWN = "1.3", "1.4"  # versions of Gymnasium compared with the tasks: up to 1.2, the Humanoid adds in another order
TRANSPARENT = (
    gym.wrappers.TimeLimit, gym.wrappers.OrderEnforcing, gym.wrappers.PassiveEnvChecker,
    gym.wrappers.RecordEpisodeStatistics,
)  # fmt: skip
ENGINE = "mj_resetData", "mj_forward", "mj_step", "mj_rnePostConstraint"  # what MujocoEnv calls


class _NotOursError(Exception):
    """Why an environment is not recognised."""


def recognised(environment: Env) -> Robot | str:
    """The robot that an environment is, or in words why it is left to Gymnasium.

    Everything is read from the environment itself, so what somebody changed in its attributes or its model is played as
    it is now. Its time limit is not looked at.

    Parameters
    ----------
    environment : gymnasium.Env or any other environment
        It is not stepped and not reset.

    Returns
    -------
    Robot or str
        What :class:`Simulations` are made of, or a clause such as "it is wrapped in RecordVideo".
    """
    try:
        return _robot(environment)
    except _NotOursError as reason:
        return str(reason)


def _robot(environment: Any) -> Robot:
    layers = [environment]
    while type(layers[-1]) in TRANSPARENT:
        layers.append(layers[-1].env)
    inner, kind = layers[-1], type(layers[-1])
    name = kind.__module__.removeprefix(PACKAGE)
    if isinstance(inner, gym.Wrapper):
        raise _NotOursError(f"it is wrapped in {kind.__qualname__}")
    if kind.__module__ != PACKAGE + name or name not in TASKS:
        raise _NotOursError(f"{kind.__qualname__} is not one of Gymnasium's MuJoCo tasks")
    if not gym.__version__.startswith(tuple(f"{version}." for version in KNOWN)):
        raise _NotOursError(f"it is of Gymnasium {gym.__version__}, and known are {' and '.join(KNOWN)}")
    for layer in layers:
        _check_code(layer)
    _check_engine(inner)
    robot = _read(inner, name)
    _check_spaces(environment, inner, robot)
    return robot


def _check_code(layer: object) -> None:
    """Raise unless a wrapper or an environment runs the code that Gymnasium's files define, and no other."""
    for attribute in vars(layer):
        if callable(getattr(type(layer), attribute, None)):
            raise _NotOursError(f"its {attribute} was replaced")
    for base in type(layer).__mro__:
        module = sys.modules.get(base.__module__)
        if not base.__module__.startswith("gymnasium.") or module is None:
            continue
        if getattr(module, base.__qualname__, None) is not base:
            raise _NotOursError(f"its {base.__qualname__} is not the one of {base.__module__}")
        for attribute, value in vars(base).items():
            if not all(_is_defined_in(module, function) for function in _functions(value)):
                raise _NotOursError(f"{base.__qualname__}.{attribute} was replaced")
        helpers = {
            k: v for k, v in vars(module).items() if module.__name__.startswith(PACKAGE) and isinstance(v, FunctionType)
        }
        for attribute, value in helpers.items():
            if not _is_defined_in(module, value):
                raise _NotOursError(f"{module.__name__}.{attribute} was replaced")


def _functions(value: object) -> Iterator[object]:
    """What is called when an attribute of a class is."""
    if isinstance(value, property):
        yield from (part for part in (value.fget, value.fset, value.fdel) if part is not None)
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif callable(value) and not isinstance(value, type):
        yield value


def _is_defined_in(module: ModuleType, function: object) -> bool:
    return isinstance(function, FunctionType) and function.__code__.co_filename == module.__file__


def _check_engine(inner: "MujocoEnv") -> None:
    """Raise unless MuJoCo can step the environment's model in batches, and does what it does by itself."""
    import mujoco

    if int(mujoco.__version__.split(".")[0]) < 4:
        raise _NotOursError(f"MuJoCo is {mujoco.__version__}, and 4 or later is needed")
    try:
        import mujoco.batch
    except ImportError:
        raise _NotOursError("MuJoCo has no mujoco.batch") from None
    for name in ENGINE:
        if not isinstance(getattr(mujoco, name), BuiltinFunctionType):
            raise _NotOursError(f"mujoco.{name} was replaced")
    for name in dir(mujoco):
        if name.startswith("get_mjcb_") and getattr(mujoco, name)() is not None:
            raise _NotOursError(f"MuJoCo's callback {name.removeprefix('get_')} is set")
    if inner.render_mode is not None:
        raise _NotOursError(f"it renders (render_mode={inner.render_mode!r})")
    if not isinstance(inner.model, mujoco.MjModel):
        raise _NotOursError("its model is not a mujoco.MjModel")
    if inner.model.nplugin:
        raise _NotOursError("its model uses plugins")
    try:
        mujoco.batch.Batch(inner.model, 1, nthread=1)
    except Exception as error:  # such as of models that sleep
        raise _NotOursError(f"MuJoCo does not step its model in batches: {error}") from None


def _read(inner: Any, name: str) -> Robot:
    """The robot that an environment of this task is now."""
    task, model = TASKS[name], copy.copy(inner.model)
    settings = {setting: _setting(inner, setting) for setting in task.settings}
    init_qpos, init_qvel = inner.init_qpos, inner.init_qvel
    for values, size in (init_qpos, model.nq), (init_qvel, model.nv):
        if not (isinstance(values, np.ndarray) and values.shape == (size,) and values.dtype == np.float64):
            raise _NotOursError("its init_qpos or init_qvel do not fit its model")
    if not isinstance(inner.frame_skip, int | np.integer) or inner.frame_skip < 1:
        raise _NotOursError(f"its frame_skip is {inner.frame_skip!r}")
    try:
        bodies = tuple(model.body(inner._main_body if body == "main_body" else body).id for body in task.bodies)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _NotOursError(f"its model lacks a body: {error}") from None
    return Robot(
        name, model, int(inner.frame_skip), float(inner.dt), init_qpos.copy(), init_qvel.copy(),
        SimpleNamespace(**settings, **task.fixed), bodies,
    )  # fmt: skip


def _setting(inner: object, name: str) -> object:
    """A setting as it is: a switch, a range or a number by its name."""
    value: Any = vars(inner).get(f"_{name}")
    if name.startswith(("exclude_", "include_", "terminate_", "use_")):
        fits = isinstance(value, bool)
    elif name.endswith("_range"):
        fits = isinstance(value, tuple | list | np.ndarray) and len(value) == 2 and all(map(_is_number, value))
        value = tuple(value) if fits else value
    else:
        fits = _is_number(value)
    if not fits:
        raise _NotOursError(f"its {name} is {value!r}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.float32)


def _check_spaces(environment: Env, inner: "MujocoEnv", robot: Robot) -> None:
    """Raise unless the spaces are of the sizes that the simulations have."""
    size = Simulations(robot, 1).observations.shape[1]
    own = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
    if environment.observation_space != own or inner.observation_space != own:
        raise _NotOursError(f"its observation space is not {own}")
    space = environment.action_space
    if not isinstance(space, gym.spaces.Box) or space.shape != (robot.model.nu,):
        raise _NotOursError(f"its action space does not have the shape {(robot.model.nu,)}")
