"""Playing rows on native simulations: physics by MuJoCo's batch engine and networks by the kernels.

Neither holds Python's lock, so players in several threads work at the same time. Each has lanes of its own.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks import Network
from ecpolicy.networks.network import overwrite
from ecpolicy.networks.numba import bits as kernels
from ecpolicy.random import Key
from ecpolicy.rollout.episodes import CHUNK, Networks, Table, playing
from ecpolicy.rollout.mujoco.feed import Feed, Open
from ecpolicy.rollout.mujoco.robot import Robot
from ecpolicy.rollout.mujoco.simulations import Simulations
from ecpolicy.rollout.outcome import (
    MEND,
    TRAVEL,
    EpisodeError,
    Outcome,
    bad_observation,
    network_failed,
    started_with,
)
from ecpolicy.rollout.schedule import Schedule
from ecpolicy.rollout.seconds import Seconds
from ecpolicy.spaces import action_decoder, action_outputs, observation_size
from ecpolicy.untyped import Space

LANES = 64  # episodes that a thread plays at once
PORTION = 16  # that it begins at once, so that the threads share what there is
NOBODY = -1  # in place of an environment's number: the lane is free


class _LaneNetworks:
    """The networks of the lanes, as far as their members are drawn from one distribution; arrays over lanes."""

    def __init__(self, networks: Networks, network: Network, lanes: int, obs_size: int, output: np.ndarray) -> None:
        self.networks, self._network, self._output = networks, network, output
        self._owners = np.arange(lanes)
        self._connections: dict[str, np.ndarray] = {}
        self._state = network.initial_state(np.zeros((lanes, 2), np.uint32), output.shape[1])
        self._x = np.zeros((lanes, obs_size), np.float32)
        self.shift, self.sums, self.squares = np.zeros((3, lanes, obs_size))

    def begin(self, lane: int, connections: Mapping[str, np.ndarray], membrane_key: Key) -> None:
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

    Attributes
    ----------
    seconds : Seconds
        That it has played so far.
    """

    def __init__(
        self,
        robots: tuple[Robot, ...],
        network: Network,
        observation_space: Space,
        action_space: Space,
        lanes: int = LANES,
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
        self.seconds = Seconds()
        self._waiting = self._in_environments = self._in_networks = 0.0  # seconds of the play under way

    def play(self, feed: Feed) -> None:
        """Play the rows of a feed until it has no more."""
        self._n_dropped = feed.n_dropped
        began = perf_counter()
        self._waiting = self._in_environments = self._in_networks = 0.0
        try:
            while not feed.closed:
                self._drop(feed)
                free = np.flatnonzero(self._environment == NOBODY)
                if free.size:
                    asked = perf_counter()
                    rows = feed.take(min(free.size, PORTION), wait=free.size == self._environment.size)
                    self._waiting += perf_counter() - asked
                    self._begin(free[: len(rows)], rows)
                    if free.size == self._environment.size and not rows:
                        return
                for index, simulations in enumerate(self._simulations):
                    lanes = np.flatnonzero(self._environment == index)
                    if lanes.size:
                        self._step(simulations, lanes, feed)
        finally:
            playing = perf_counter() - began - self._waiting
            self.seconds = self.seconds.plus(Seconds(playing, self._in_environments, self._in_networks))
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

    def _begin(self, lanes: NDArray[np.int64], rows: list[tuple[Open, int]]) -> None:
        """Start episodes on free lanes."""
        tables = [opened.chunk.table for opened, _ in rows]
        began = perf_counter()
        for lane, (opened, row), table in zip(lanes, rows, tables, strict=True):
            index = int(table.environments[row])
            self._environment[lane], self._rows[lane] = index, (opened, row)
            self._simulations[index].reset([lane], [int(table.seeds[row])])
            if row < table.episodes:  # of the chunk's first member
                opened.shifts[row] = self._simulations[index].observations[lane]
                opened.shifted[row].set()
        reset = perf_counter()
        for lane, (opened, row), table in zip(lanes, rows, tables, strict=True):
            self._drawn[lane] = self._numbered(table.networks)
            networks = self._networks[self._drawn[lane]]
            networks.begin(int(lane), opened.network(row), table.membrane_keys[row])
            opened.shifted[row % table.episodes].wait()  # another thread may have that row, and has begun it already
            networks.shift[lane] = opened.shifts[row % table.episodes]
            self._horizons[lane], self._lengths[lane] = table.horizons[row], 0
            self._returns[lane] = self._velocities[lane] = 0.0
        self._in_environments += reset - began
        self._in_networks += perf_counter() - reset

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
        began, drawn = perf_counter(), self._drawn[lanes]
        for number, networks in enumerate(self._networks):
            mine = lanes if len(self._networks) == 1 else lanes[drawn == number]
            bad = networks.step(simulations.observations, mine) if mine.size else -1
            if bad >= 0:
                raise EpisodeError(f"{bad_observation(simulations.observations[bad])} in {self._episode(bad)}. {MEND}")
        actions = self._decode(self._output[lanes])
        acted = perf_counter()
        simulations.step(lanes, actions)
        self._in_networks += acted - began
        self._in_environments += perf_counter() - acted
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


def play_natively(player: Player, table: Table) -> Outcome:
    """Play a table in this thread."""
    schedule = Schedule(playing(table), None, lambda result: True, lambda table: CHUNK)
    before = player.seconds
    player.play(Feed(schedule, player.obs_size, schedule.deliver))
    return schedule.result._replace(seconds=player.seconds.minus(before))
