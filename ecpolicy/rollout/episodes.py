"""The table of episodes: what is to be played, row by row, and whoever asks for it.

A row is a network (a member's key, or the deployed network), the key of its initial potentials, an environment, a seed
and a horizon. Engines take chunks of rows, in any order and anywhere, and give an outcome for each; observation sums
are added up in chunks of a fixed size, so that no bit depends on the engine.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions import Connections, Sampler
from ecpolicy.normalization import Standardizer
from ecpolicy.random import Key, Stream, environment_seed, fold_in
from ecpolicy.rollout.outcome import Outcome

CHUNK = 16  # members whose observations are added up together, before those of chunks are: part of the result

T = TypeVar("T")


class Networks(NamedTuple):
    """What the networks of a table are drawn from, and how observations enter them."""

    sampler: Sampler
    standardizer: Standardizer


class Table(NamedTuple):
    """Episodes to play with networks of one distribution; arrays over rows, a member's episodes one after the other.

    The first episodes of all members are on the same environment and have the same horizon, and so are the second ones.
    """

    networks: Networks
    keys: Key | None  # (rows, 2) that draw the members; None is the deployed network in every row
    membrane_keys: Key  # (rows, 2)
    environments: NDArray[np.int64]  # (rows,) numbers of environments
    seeds: NDArray[np.int64]  # (rows,) for env.reset(seed=...)
    horizons: NDArray[np.float64]  # (rows,) steps after which an episode is cut, inf for never
    episodes: int  # of each member

    @property
    def members(self) -> int:
        """The number of members."""
        return self.seeds.size // self.episodes

    def chunk(self, first: int, size: int) -> "Table":
        """The rows of ``size`` members, from the one numbered ``first``."""
        rows = slice(first * self.episodes, (first + size) * self.episodes)
        return Table(
            self.networks,
            None if self.keys is None else self.keys[rows],
            self.membrane_keys[rows],
            self.environments[rows],
            self.seeds[rows],
            self.horizons[rows],
            self.episodes,
        )

    def chunks(self, size: int) -> "list[Table]":
        """All rows, ``size`` members at a time."""
        return [self.chunk(first, size) for first in range(0, self.members, size)]

    def draw(self) -> tuple[Connections, NDArray[np.int64]]:
        """The networks, and which of them each member is."""
        if self.keys is None:
            return self.networks.sampler.mode(), np.zeros(self.members, np.int64)
        return self.networks.sampler.sample(self.keys[:: self.episodes]), np.arange(self.members)


def population(
    networks: Networks, keys: Key, *, n_episodes: int, horizons: Sequence[float], common: bool = False
) -> Table:
    """``n_episodes`` on every environment for every member: potentials and seeds follow from the member's key.

    Parameters
    ----------
    networks : Networks
    keys : (members, 2)
    n_episodes : int
    horizons : sequence of float
        Of the environments.
    common : bool
        All members' seeds follow from the first one's key instead, so that all play the same episodes.
    """
    members, plays = keys.shape[0], np.arange(len(horizons) * n_episodes)
    environments = plays // n_episodes
    membrane_keys = fold_in(fold_in(keys, Stream.MEMBRANE)[:, None, :], plays)
    seeding = np.broadcast_to(keys[:1], keys.shape) if common else keys
    seeds = environment_seed(fold_in(fold_in(seeding, Stream.ENVIRONMENT)[:, None, :], plays))
    return Table(
        networks,
        np.repeat(keys, plays.size, axis=0),
        membrane_keys.reshape(-1, 2),
        np.tile(environments, members),
        seeds.reshape(-1),
        np.tile(np.asarray(horizons, np.float64)[environments], members),
        plays.size,
    )


def of_deployed(networks: Networks, seeds: NDArray[np.int64], *, membrane_key: Key, horizons: Sequence[float]) -> Table:
    """Episodes of the deployed network, one per seed (environments, episodes), all from the same initial state.

    Their outcome is (episodes, environments).
    """
    n_environments, n_episodes = seeds.shape
    rows = n_environments * n_episodes
    return Table(
        networks,
        None,
        np.tile(membrane_key, (rows, 1)),
        np.tile(np.arange(n_environments), n_episodes),
        np.ascontiguousarray(seeds.T).reshape(-1),
        np.tile(np.asarray(horizons, np.float64), n_episodes),
        n_environments,
    )


Play = Generator[Table, Outcome, T]  # asks for episodes, is sent their outcome, and ends with a result


def playing(table: Table) -> Play[Outcome]:
    """Play a table; its outcome."""
    return (yield table)
