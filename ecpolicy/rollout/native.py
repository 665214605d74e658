"""Rollouts on native simulations: physics by MuJoCo's batch engine and networks by the kernels, in threads.

Neither holds Python's lock, so threads work at the same time. Each has lanes of its own and takes the next row of the
table wherever an episode ends.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions import Connections
from ecpolicy.kernels import host as kernels
from ecpolicy.networks import Network
from ecpolicy.networks.network import overwrite
from ecpolicy.normalization import Moments
from ecpolicy.random import Key
from ecpolicy.rollout.episodes import CHUNK, Networks, Table, playing
from ecpolicy.rollout.mujoco import Simulations
from ecpolicy.rollout.mujoco_tasks import Robot
from ecpolicy.rollout.outcome import (
    MEND,
    TRAVEL,
    EpisodeError,
    Outcome,
    bad_observation,
    bad_return,
    beside,
    network_failed,
    started_with,
)
from ecpolicy.rollout.schedule import Chunk, Schedule
from ecpolicy.spaces import action_decoder, action_outputs, observation_size

LANES = 64  # episodes that a thread plays at once
PORTION = 16  # that it begins at once, so that the threads share what there is
NOBODY = -1  # in place of an environment's number: the lane is free
LOOK = 0.1  # seconds between two looks at whether episodes are still wanted


class _Open:
    """A chunk of a table that is being played: its networks, and what is known of its episodes so far."""

    def __init__(self, chunk: Chunk, obs_size: int) -> None:
        self.chunk, table = chunk, chunk.table
        rows = table.seeds.size
        self.left = rows
        self.returns, self.lengths = np.zeros(rows), np.zeros(rows, np.int64)
        self.travel = np.full((rows, 2), np.nan)
        self.sums, self.squares = np.zeros((2, rows, obs_size))
        # Sums are of deviations from the first observation of the episodes that are added up together.
        self.shifts = np.zeros((table.episodes, obs_size))
        self.shifted = [threading.Event() for _ in range(table.episodes)]
        self._lock = threading.Lock()
        self._drawn: tuple[Connections, NDArray[np.int64]] | None = None

    def network(self, row: int) -> dict[str, NDArray[Any]]:
        """The connections of the network that plays a row; those of the whole chunk are drawn together."""
        with self._lock:
            if self._drawn is None:
                self._drawn = self.chunk.table.draw()
        connections, owners = self._drawn
        owner = owners[row // self.chunk.table.episodes]
        return {name: drawn[owner] for name, drawn in connections.items()}

    def outcome(self) -> Outcome:
        """The outcome of the chunk (members, episodes)."""
        table = self.chunk.table
        for row in np.flatnonzero(~np.isfinite(self.returns)):
            raise EpisodeError(bad_return(self.returns[row], started_with(table.seeds[row])))
        columns = []
        for k in range(table.episodes):
            rows = slice(k, None, table.episodes)
            sums, squares = (part[rows].sum(axis=0) for part in (self.sums, self.squares))
            moments = Moments.from_sums(int(self.lengths[rows].sum()), self.shifts[k], sums, squares)
            columns.append(
                Outcome(self.returns[rows, None], self.lengths[rows, None], moments, self.travel[rows, None])
            )
        return beside(columns)


class Feed:
    """The rows that threads take, one by one, from the chunks of a schedule.

    Parameters
    ----------
    schedule : Schedule
    obs_size : int
    deliver : callable (number, Outcome)
        What is done with the outcome of a chunk.
    """

    def __init__(self, schedule: Schedule[Any], obs_size: int, deliver: Callable[[int, Any], None]) -> None:
        self.closed = False
        self._schedule, self._obs_size, self._deliver = schedule, obs_size, deliver
        self._rows: deque[tuple[_Open, int]] = deque()
        self._changed = threading.Condition()

    def take(self, count: int, *, wait: bool) -> list[tuple[_Open, int]]:
        """Up to ``count`` further rows; where there is none, and ``wait`` is set, those that come before the end."""
        taken: list[tuple[_Open, int]] = []
        with self._changed:
            while not self.closed:
                while len(taken) < count and (self._rows or self._refill()):
                    row = self._rows.popleft()
                    if self.is_wanted(row[0]):
                        taken.append(row)
                if taken or not wait or self._schedule.finished:
                    break
                self._changed.wait()
        return taken

    def _refill(self) -> bool:
        chunk = self._schedule.pull()
        if chunk is None:
            return False
        opened = _Open(chunk, self._obs_size)
        in_order = np.arange(chunk.table.seeds.size).reshape(-1, chunk.table.episodes).T.reshape(-1)
        self._rows.extend((opened, int(row)) for row in in_order)
        return True

    @property
    def n_dropped(self) -> int:
        """How often chunks that were handed out were given up."""
        return self._schedule.n_dropped

    def is_wanted(self, opened: _Open) -> bool:
        """Whether the outcome of a chunk is still waited for."""
        return self._schedule.is_wanted(opened.chunk)

    def ended(self, opened: _Open) -> None:
        """Note that an episode of a chunk has ended."""
        with self._changed:
            opened.left -= 1
        if not opened.left:
            self._deliver(opened.chunk.number, opened.outcome())

    def wake(self) -> None:
        """Let those who wait for rows look again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out nothing more; what is being played is given up."""
        self.closed = True
        self.wake()


class _LaneNetworks:
    """The networks of the lanes, as far as their members are drawn from one distribution; arrays over lanes."""

    def __init__(self, networks: Networks, network: Network, lanes: int, obs_size: int, output: NDArray[Any]) -> None:
        self.networks, self._network, self._output = networks, network, output
        self._owners = np.arange(lanes)
        self._connections: dict[str, NDArray[Any]] = {}
        self._state = network.initial_state(np.zeros((lanes, 2), np.uint32), output.shape[1])
        self._x = np.zeros((lanes, obs_size), np.float32)
        self.shift, self.sums, self.squares = np.zeros((3, lanes, obs_size))

    def begin(self, lane: int, connections: Mapping[str, NDArray[Any]], membrane_key: Key) -> None:
        """Let a network take a lane, at the start of an episode."""
        for name, drawn in connections.items():
            if name not in self._connections:
                self._connections[name] = np.empty((self._owners.size, *drawn.shape), drawn.dtype)
            self._connections[name][lane] = drawn
        lanes = self._owners == lane
        overwrite(self._state, lanes, self._network.initial_state(membrane_key[None], self._output.shape[1]))
        self.sums[lane] = self.squares[lane] = 0

    def step(self, raw: NDArray[np.float64], lanes: NDArray[np.int64]) -> int:
        """Outputs for the observations of these lanes; a lane with one that cannot be learnt from, or -1."""
        bad = kernels.accumulate(raw, lanes, self.shift, self.sums, self.squares)
        if bad >= 0:
            return int(bad)
        kernels.standardize(raw, lanes, *self.networks.standardizer, self._x)
        try:
            self._network.step(self._connections, self._state, self._x, self._output, owners=self._owners, rows=lanes)
        except Exception as error:  # of a network of the user's own
            raise network_failed(self._network, error) from error
        return -1


class Player:
    """One thread's simulations and networks.

    Parameters
    ----------
    robots : sequence of Robot
        By number of environment.
    network : Network
    observation_space, action_space : gymnasium.Space
    lanes : int
        Episodes at once.
    """

    def __init__(
        self, robots: tuple[Robot, ...], network: Network, observation_space: Any, action_space: Any, lanes: int = LANES
    ) -> None:
        self.obs_size = observation_size(observation_space)
        self._simulations = [Simulations(robot, lanes) for robot in robots]
        self._network, self._decode = network, action_decoder(action_space)
        self._output = np.zeros((lanes, action_outputs(action_space)), np.float32)
        self._environment = np.full(lanes, NOBODY)
        self._rows: list[Any] = [None] * lanes  # the chunk and the row that each lane plays
        self._drawn = np.zeros(lanes, np.int64)  # which of self._networks the lane's network belongs to
        self._networks: list[_LaneNetworks] = []
        self._horizons, self._returns, self._velocities = np.zeros((3, lanes))
        self._lengths = np.zeros(lanes, np.int64)
        self._n_dropped = 0

    def play(self, feed: Feed) -> None:
        """Play the rows of a feed until it has no more."""
        self._n_dropped = feed.n_dropped
        try:
            while not feed.closed:
                self._drop(feed)
                free = np.flatnonzero(self._environment == NOBODY)
                if free.size:
                    rows = feed.take(min(free.size, PORTION), wait=free.size == self._environment.size)
                    self._begin(free[: len(rows)], rows)
                    if free.size == self._environment.size and not rows:
                        return
                for index, simulations in enumerate(self._simulations):
                    lanes = np.flatnonzero(self._environment == index)
                    if lanes.size:
                        self._step(simulations, lanes, feed)
        finally:
            self._environment[:] = NOBODY
            self._rows = [None] * len(self._rows)
            self._networks = []

    def _drop(self, feed: Feed) -> None:
        """Free the lanes whose episodes are no longer wanted."""
        if self._n_dropped == feed.n_dropped:
            return
        self._n_dropped = feed.n_dropped
        for lane in np.flatnonzero(self._environment != NOBODY):
            if not feed.is_wanted(self._rows[lane][0]):
                self._environment[lane], self._rows[lane] = NOBODY, None

    def _begin(self, lanes: NDArray[np.int64], rows: list[tuple[_Open, int]]) -> None:
        """Start episodes on free lanes."""
        tables = [opened.chunk.table for opened, _ in rows]
        for lane, (opened, row), table in zip(lanes, rows, tables, strict=True):
            index = int(table.environments[row])
            self._environment[lane], self._rows[lane] = index, (opened, row)
            self._simulations[index].reset([lane], [int(table.seeds[row])])
            if row < table.episodes:  # of the chunk's first member
                opened.shifts[row] = self._simulations[index].observations[lane]
                opened.shifted[row].set()
        for lane, (opened, row), table in zip(lanes, rows, tables, strict=True):
            self._drawn[lane] = self._numbered(table.networks)
            networks = self._networks[self._drawn[lane]]
            networks.begin(int(lane), opened.network(row), table.membrane_keys[row])
            opened.shifted[row % table.episodes].wait()  # another thread may have that row, and has begun it already
            networks.shift[lane] = opened.shifts[row % table.episodes]
            self._horizons[lane], self._lengths[lane] = table.horizons[row], 0
            self._returns[lane] = self._velocities[lane] = 0.0

    def _numbered(self, networks: Networks) -> int:
        """Where in ``self._networks`` those of a table are, which it makes in the place of some that nobody uses."""
        for number, known in enumerate(self._networks):
            if known.networks is networks:
                return number
        fresh = _LaneNetworks(networks, self._network, self._environment.size, self.obs_size, self._output)
        used = set(self._drawn[self._environment != NOBODY])
        for number in range(len(self._networks)):
            if number not in used:
                self._networks[number] = fresh
                return number
        self._networks.append(fresh)
        return len(self._networks) - 1

    def _step(self, simulations: Simulations, lanes: NDArray[np.int64], feed: Feed) -> None:
        """A step of the episodes on these lanes."""
        drawn = self._drawn[lanes]
        for number, networks in enumerate(self._networks):
            mine = lanes if len(self._networks) == 1 else lanes[drawn == number]
            bad = networks.step(simulations.observations, mine) if mine.size else -1
            if bad >= 0:
                raise EpisodeError(f"{bad_observation(simulations.observations[bad])} in {self._episode(bad)}. {MEND}")
        simulations.step(lanes, self._decode(self._output[lanes]))
        self._returns[lanes] += simulations.rewards[lanes]
        self._lengths[lanes] += 1
        velocities = simulations.info.get(TRAVEL[0])
        if velocities is not None:
            self._velocities[lanes] += velocities[lanes]
        over = simulations.terminated[lanes] | (self._lengths[lanes] >= self._horizons[lanes])
        for lane in lanes[over]:
            self._end(int(lane), simulations, feed)

    def _end(self, lane: int, simulations: Simulations, feed: Feed) -> None:
        """Note what came of an episode, and free its lane."""
        (opened, row), networks = self._rows[lane], self._networks[self._drawn[lane]]
        opened.returns[row], opened.lengths[row] = self._returns[lane], self._lengths[lane]
        opened.sums[row], opened.squares[row] = networks.sums[lane], networks.squares[lane]
        if all(name in simulations.info for name in TRAVEL):
            mean = self._velocities[lane] / self._lengths[lane]
            opened.travel[row] = mean, simulations.info[TRAVEL[1]][lane]
        self._environment[lane], self._rows[lane] = NOBODY, None
        feed.ended(opened)

    def _episode(self, lane: int) -> str:
        opened, row = self._rows[lane]
        return started_with(opened.chunk.table.seeds[row])


def play(player: Player, table: Table) -> Outcome:
    """Play a table in this thread."""
    schedule = Schedule(playing(table), None, lambda result: True, lambda table: CHUNK)
    player.play(Feed(schedule, player.obs_size, schedule.deliver))
    return schedule.result


class Threads:
    """Chunks in threads of this process, each with simulations of its own.

    Parameters
    ----------
    players : list of Player
        One for each thread.
    """

    def __init__(self, players: list[Player]) -> None:
        self._players = players

    def play(self, schedule: Schedule[Any]) -> None:
        """Play until the schedule is finished."""
        results: SimpleQueue[tuple[int, Outcome | BaseException]] = SimpleQueue()
        feed = Feed(schedule, self._players[0].obs_size, lambda number, outcome: results.put((number, outcome)))

        def work(player: Player) -> None:
            try:
                player.play(feed)
            except BaseException as error:
                results.put((NOBODY, error))

        threads = [threading.Thread(target=work, args=(player,), daemon=True) for player in self._players]
        for thread in threads:
            thread.start()
        try:
            while not schedule.finished:
                try:
                    number, outcome = results.get(timeout=LOOK)
                except Empty:
                    schedule.look()
                    continue
                if isinstance(outcome, BaseException):
                    raise outcome
                schedule.deliver(number, outcome)
                feed.wake()
        finally:
            feed.close()
            for thread in threads:
                thread.join()

    def close(self, error: BaseException | None) -> None:
        """There is nothing to close."""
