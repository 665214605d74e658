"""Gymnasium's MuJoCo tasks on MuJoCo's own batched stepping: which environments are recognised, and their simulations.

From the same seeds and actions, simulations give the numbers of ``gym.Env.reset`` and ``gym.Env.step`` bit for bit.
What is not plainly Gymnasium's own code is not recognised, and Gymnasium plays it.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecpolicy.rollout.mujoco_tasks import TASKS, Robot, Rows
from ecpolicy.rollout.outcome import EpisodeError

__all__ = ["Robot", "Simulations", "recognised"]

PACKAGE = "gymnasium.envs.mujoco."
KNOWN = "1.3", "1.4"  # versions of Gymnasium compared with the tasks: up to 1.2, the Humanoid adds in another order
TRANSPARENT = (
    gym.wrappers.TimeLimit, gym.wrappers.OrderEnforcing, gym.wrappers.PassiveEnvChecker,
    gym.wrappers.RecordEpisodeStatistics,
)  # fmt: skip
ENGINE = "mj_resetData", "mj_forward", "mj_step", "mj_rnePostConstraint"  # what MujocoEnv calls
STATE = "qpos", "qvel", "ctrl"


class _NotOursError(Exception):
    """Why an environment is not recognised."""


def recognised(environment: Any) -> Robot | str:
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


class Simulations:
    """Simulations of a robot, played on the thread that calls.

    Threads may play objects of their own at the same time, as the physics releases the GIL: for all simulations of a
    step at once, or for one after the other where contact forces are part of the task.

    Parameters
    ----------
    robot : Robot
        What is simulated.
    n : int
        Number of simulations.

    Attributes
    ----------
    observations : ndarray of float64, (n, observation_size)
        The last of each simulation, as ``rewards`` (n,), ``terminated`` (n,) and ``info``, whose arrays (n, ...) bear
        the names that Gymnasium gives after a step.
    """

    def __init__(self, robot: Robot, n: int) -> None:
        self._robot, self._task = robot, TASKS[robot.task]
        fields = self._task.fields(robot.settings)
        self._physics = (_OneByOne if "cfrc_ext" in fields else _Batched)(robot.model, n, fields)
        self._seeds = np.full(n, -1, dtype=np.int64)
        parts = self._task.observe(robot, self._rows(np.arange(n, dtype=np.int32)))
        self.observations = np.zeros((n, sum(part[0].size for part in parts)))
        self.rewards = np.zeros(n)
        self.terminated = np.zeros(n, dtype=np.bool_)
        self.info: dict[str, NDArray[Any]] = {}

    def reset(self, simulations: ArrayLike, seeds: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        """Start an episode in each of these simulations, as ``reset(seed=seed)``; the others are left as they are."""
        rows = np.asarray(simulations, dtype=np.int32)
        if not rows.size:
            return
        starts = []
        for row, seed in zip(rows.tolist(), seeds, strict=True):
            self._seeds[row] = seed
            starts.append(self._task.start(self._robot, np.random.Generator(np.random.PCG64(int(seed)))))
        with self._named_failures():
            self._physics.start(rows, starts)
        self.rewards[rows], self.terminated[rows] = 0, False
        self._observe(rows, self._rows(rows))

    def step(self, simulations: ArrayLike, actions: NDArray[Any]) -> None:
        """Take one action (k, action_size), of the action space's dtype, in each of these k simulations."""
        rows = np.asarray(simulations, dtype=np.int32)
        if not rows.size:
            return
        before = self._task.where(self._robot, self._rows(rows))
        with self._named_failures():
            self._physics.step(rows, actions, self._robot.frame_skip)
        now = self._rows(rows)
        score = self._task.score(self._robot, before, now, actions)
        self.rewards[rows], self.terminated[rows] = score.rewards, score.terminated
        for name, part in self._task.info.items():
            values = score.parts[part]
            if name not in self.info:
                self.info[name] = np.zeros((len(self.rewards), *values.shape[1:]), values.dtype)
            self.info[name][rows] = values
        self._observe(rows, now)

    def _rows(self, rows: NDArray[np.int32]) -> Rows:
        """A function that gives these rows of a field, taken once."""
        taken: dict[str, NDArray[Any]] = {}

        def now(name: str) -> NDArray[Any]:
            if name not in taken:
                taken[name] = self._physics.fields[name][rows]
            return taken[name]

        return now

    def _observe(self, rows: NDArray[np.int32], now: Rows) -> None:
        parts = self._task.observe(self._robot, now)
        self.observations[rows] = np.concatenate([part.reshape(len(rows), -1) for part in parts], axis=1)

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except _PhysicsError as error:
            row, message = error.args
            raise EpisodeError(f"MuJoCo raised in the episode of reset(seed={self._seeds[row]}): {message}") from error


class _PhysicsError(Exception):
    """MuJoCo raised in a simulation: its number and the message."""


class _Batched:
    """Physics of all simulations in one call, without the GIL. Fields are live arrays (n, ...)."""

    def __init__(self, model: Any, n: int, fields: Sequence[str]) -> None:
        import mujoco.batch

        self._failure = mujoco.batch.SimulationError
        self._batch = mujoco.batch.Batch(model, n, nthread=1)
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._reset = self._batch.state[0].copy()
        self.fields = {name: self._batch.bind(name) for name in (*STATE, *fields)}

    def start(self, rows: NDArray[np.int32], starts: Sequence[tuple[Any, Any]]) -> None:
        self._batch.state[rows] = self._reset
        for row, (qpos, qvel) in zip(rows.tolist(), starts, strict=True):
            self.fields["qpos"][row], self.fields["qvel"][row] = qpos, qvel
        self._call(self._batch.forward, rows)

    def step(self, rows: NDArray[np.int32], actions: NDArray[Any], substeps: int) -> None:
        self.fields["ctrl"][rows] = actions
        self._call(self._batch.step, rows, nstep=substeps)

    def _call(self, call: Any, rows: NDArray[np.int32], **settings: int) -> None:
        try:
            call(np.sort(rows), **settings)
        except self._failure as error:
            row = int(error.ids[0])
            raise _PhysicsError(row, self._batch.error(row)) from error


class _OneByOne:
    """Physics with contact forces at the end of a step, where Gymnasium computes them from all that MjData holds.

    A batch has no call for that, and a force sensor, which has them computed within a step, sees another state with the
    integrator RK4.
    """

    def __init__(self, model: Any, n: int, fields: Sequence[str]) -> None:
        import mujoco

        self._mujoco, self._model = mujoco, model
        self._data = [mujoco.MjData(model) for _ in range(n)]
        self._live = [[getattr(data, name) for name in (*STATE, *fields)] for data in self._data]
        self.fields = {
            name: np.stack(live) for name, live in zip((*STATE, *fields), zip(*self._live, strict=True), strict=True)
        }
        self._rows = [[array[row] for array in self.fields.values()] for row in range(n)]

    def start(self, rows: NDArray[np.int32], starts: Sequence[tuple[Any, Any]]) -> None:
        for row, (qpos, qvel) in zip(rows.tolist(), starts, strict=True):
            data = self._data[row]
            self._mujoco.mj_resetData(self._model, data)
            data.qpos, data.qvel = qpos, qvel
            self._call(row, self._mujoco.mj_forward, data)

    def step(self, rows: NDArray[np.int32], actions: NDArray[Any], substeps: int) -> None:
        for row, action in zip(rows.tolist(), actions, strict=True):
            data = self._data[row]
            data.ctrl = action
            self._call(row, self._step, data, substeps)

    def _step(self, model: Any, data: Any, substeps: int) -> None:
        self._mujoco.mj_step(model, data, substeps)
        self._mujoco.mj_rnePostConstraint(model, data)

    def _call(self, row: int, call: Any, *arguments: Any) -> None:
        try:
            call(self._model, *arguments)
        except self._mujoco.FatalError as error:
            raise _PhysicsError(row, str(error)) from error
        for target, live in zip(self._rows[row], self._live[row], strict=True):
            target[...] = live


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


def _check_code(layer: Any) -> None:
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


def _functions(value: Any) -> Iterator[Any]:
    """What is called when an attribute of a class is."""
    if isinstance(value, property):
        yield from (part for part in (value.fget, value.fset, value.fdel) if part is not None)
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif callable(value) and not isinstance(value, type):
        yield value


def _is_defined_in(module: ModuleType, function: Any) -> bool:
    return isinstance(function, FunctionType) and function.__code__.co_filename == module.__file__


def _check_engine(inner: Any) -> None:
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


def _setting(inner: Any, name: str) -> Any:
    """A setting as it is: a switch, a range or a number by its name."""
    value = vars(inner).get(f"_{name}")
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.float32)


def _check_spaces(environment: Any, inner: Any, robot: Robot) -> None:
    """Raise unless the spaces are of the sizes that the simulations have."""
    size = Simulations(robot, 1).observations.shape[1]
    own = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
    if environment.observation_space != own or inner.observation_space != own:
        raise _NotOursError(f"its observation space is not {own}")
    space = environment.action_space
    if not isinstance(space, gym.spaces.Box) or space.shape != (robot.model.nu,):
        raise _NotOursError(f"its action space does not have the shape {(robot.model.nu,)}")
