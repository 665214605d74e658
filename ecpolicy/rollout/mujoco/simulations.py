"""Simulations of robots on MuJoCo's own batched stepping.

From the same seeds and actions, they give the numbers of ``gym.Env.reset`` and ``gym.Env.step`` bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecpolicy.rollout.mujoco.robot import Floats, Robot, Rows
from ecpolicy.rollout.mujoco.tasks import TASKS
from ecpolicy.rollout.outcome import EpisodeError

if TYPE_CHECKING:
    from mujoco import MjData, MjModel


STATE = "qpos", "qvel", "ctrl"


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
        self.info: dict[str, np.ndarray] = {}

    def reset(self, simulations: ArrayLike, seeds: Sequence[int] | NDArray[np.integer]) -> None:
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

    def step(self, simulations: ArrayLike, actions: np.ndarray) -> None:
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
        taken: dict[str, np.ndarray] = {}

        def now(name: str) -> np.ndarray:
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

    def __init__(self, model: "MjModel", n: int, fields: Sequence[str]) -> None:
        import mujoco.batch

        self._failure = mujoco.batch.SimulationError
        self._batch = mujoco.batch.Batch(model, n, nthread=1)
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._reset = self._batch.state[0].copy()
        self.fields = {name: self._batch.bind(name) for name in (*STATE, *fields)}

    def start(self, rows: NDArray[np.int32], starts: Sequence[tuple[Floats, Floats]]) -> None:
        self._batch.state[rows] = self._reset
        for row, (qpos, qvel) in zip(rows.tolist(), starts, strict=True):
            self.fields["qpos"][row], self.fields["qvel"][row] = qpos, qvel
        self._call(self._batch.forward, rows)

    def step(self, rows: NDArray[np.int32], actions: np.ndarray, substeps: int) -> None:
        self.fields["ctrl"][rows] = actions
        self._call(self._batch.step, rows, nstep=substeps)

    def _call(self, call: Callable[..., None], rows: NDArray[np.int32], **settings: int) -> None:
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

    def __init__(self, model: "MjModel", n: int, fields: Sequence[str]) -> None:
        import mujoco

        self._mujoco, self._model = mujoco, model
        self._data = [mujoco.MjData(model) for _ in range(n)]
        self._live = [[getattr(data, name) for name in (*STATE, *fields)] for data in self._data]
        self.fields = {
            name: np.stack(live) for name, live in zip((*STATE, *fields), zip(*self._live, strict=True), strict=True)
        }
        self._rows = [[array[row] for array in self.fields.values()] for row in range(n)]

    def start(self, rows: NDArray[np.int32], starts: Sequence[tuple[Floats, Floats]]) -> None:
        for row, (qpos, qvel) in zip(rows.tolist(), starts, strict=True):
            data = self._data[row]
            self._mujoco.mj_resetData(self._model, data)
            data.qpos, data.qvel = qpos, qvel
            self._call(row, self._mujoco.mj_forward, data)

    def step(self, rows: NDArray[np.int32], actions: np.ndarray, substeps: int) -> None:
        for row, action in zip(rows.tolist(), actions, strict=True):
            data = self._data[row]
            data.ctrl = action
            self._call(row, self._step, data, substeps)

    def _step(self, model: "MjModel", data: "MjData", substeps: int) -> None:
        self._mujoco.mj_step(model, data, substeps)
        self._mujoco.mj_rnePostConstraint(model, data)

    def _call(self, row: int, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(self._model, *arguments)
        except self._mujoco.FatalError as error:
            raise _PhysicsError(row, str(error)) from error
        for target, live in zip(self._rows[row], self._live[row], strict=True):
            target[...] = live
