"""Rows of tables dealt to devices, and what devices tell of them as outcomes.

Rows of one table and one environment are dealt in groups. A row's episode is the same wherever and with whatever it is
played, and so are the sums over a group's observations: no bit depends on the number of devices or on what rides along.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecpolicy.normalization import Moments
from ecpolicy.rollout.episodes import Table
from ecpolicy.rollout.outcome import EpisodeError, Outcome

A = TypeVar("A")  # of NumPy or JAX

GROUP = 16  # rows whose observations are added up together, before those of groups are: part of the result
FOREVER = 2**31 - 1  # steps
LARGEST_OBSERVATION = 1e15  # squares of larger ones, summed up, would leave the range of float32


class Rows(NamedTuple, Generic[A]):
    """Episodes as devices take them: arrays of NumPy or JAX over rows."""

    keys: Mapping[str, A]  # (rows, 2) that draw each matrix
    signs: A  # (rows,) of the noise: 1, or -1 for the second member of a pair; 0 is the deployed network
    membrane_keys: A  # (rows, 2)
    seeds: A  # (rows,) uint32
    horizons: A  # (rows,) int32


class Scores(NamedTuple, Generic[A]):
    """What devices tell of episodes: arrays of NumPy or JAX over rows."""

    returns: A
    lengths: A
    spoilt: A  # an observation was NaN, infinite or beyond LARGEST_OBSERVATION
    velocities: A  # sum of the x-velocities, NaN where the environment reports none
    positions: A  # last x-position, likewise


class Sums(NamedTuple, Generic[A]):
    """What devices tell of observations: arrays of NumPy or JAX (groups, obs_size)."""

    shifts: A  # the first observation of the group's first row
    sums: A  # of obs - shift over all steps of all rows
    squares: A  # of its square


class Group(NamedTuple):
    """Rows of one table and one environment whose observations are added up together."""

    number: int
    environment: int
    rows: NDArray[np.int64]  # counted through all tables


def rows(tables: Sequence[Table]) -> Rows[np.ndarray]:
    """The rows of all tables, whose networks are the same; the second member of each pair has the first one's key."""
    parts = []
    for table in tables:
        keys = np.zeros((table.seeds.size, 2), np.uint32) if table.keys is None else table.keys
        streams = table.networks.sampler.streams(keys[:: table.episodes])
        signs = np.resize(np.array([1, -1], np.float32), table.members) * np.float32(table.keys is not None)
        horizons = np.minimum(table.horizons, FOREVER).astype(np.int32)
        part = np.repeat(signs, table.episodes), table.membrane_keys, table.seeds.astype(np.uint32), horizons
        parts.append(Rows({name: np.repeat(keys, table.episodes, axis=0) for name, keys in streams.items()}, *part))
    drawn = {name: np.concatenate([part.keys[name] for part in parts]) for name in parts[0].keys}
    return Rows(drawn, *(np.concatenate(each) for each in zip(*(part[1:] for part in parts), strict=True)))


def groups(tables: Sequence[Table]) -> list[Group]:
    """The groups of all tables, the first table's first."""
    found: list[Group] = []
    first_row = 0
    for table in tables:
        for environment in np.unique(table.environments):
            same = first_row + np.flatnonzero(table.environments == environment)
            for first in range(0, same.size, GROUP):
                found.append(Group(len(found), int(environment), same[first : first + GROUP]))
        first_row += table.seeds.size
    return found


def rounds(waiting: Sequence[Group], capacity: int, n_devices: int) -> Iterator[list[Sequence[Group]]]:
    """Groups dealt to the devices, up to ``capacity`` to each, again and again, in rounds of about the same size.

    The first groups are played in the first round: episodes of a deployed network tend to be the longest ones, and
    every round waits for its longest.
    """
    n_rounds = -(-len(waiting) // (capacity * n_devices))
    each = -(-len(waiting) // n_rounds)
    for first in range(0, len(waiting), each):
        yield [waiting[first : first + each][device::n_devices] for device in range(n_devices)]


def rows_of(dealt: Sequence[Group]) -> NDArray[np.int64]:
    """The rows of some groups."""
    return np.concatenate([np.zeros(0, np.int64), *(group.rows for group in dealt)])


def places(dealt: Sequence[Group]) -> NDArray[np.int32]:
    """Where the sums of the rows of some groups go, of which each has ``GROUP`` places."""
    each = (position * GROUP + np.arange(group.rows.size) for position, group in enumerate(dealt))
    return np.concatenate([np.zeros(0, np.int64), *each]).astype(np.int32)


def outcomes(
    tables: Sequence[Table], dealt: Sequence[Group], scores: Scores[np.ndarray], sums: Sums[np.ndarray]
) -> list[Outcome | EpisodeError]:
    """The outcome of each table, given the scores of all rows and the sums of all groups; an error in its place."""
    ends = np.cumsum([0, *(table.seeds.size for table in tables)])
    return [
        _outcome(table, first, [group for group in dealt if first <= group.rows[0] < end], scores, sums)
        for table, (first, end) in zip(tables, pairwise(ends), strict=True)
    ]


def _outcome(
    table: Table, first: int, dealt: Sequence[Group], scores: Scores[np.ndarray], sums: Sums[np.ndarray]
) -> Outcome | EpisodeError:
    """The outcome of the table whose rows begin with this one."""
    mine = slice(first, first + table.seeds.size)
    returns, lengths, spoilt, velocities, positions = (part[mine] for part in scores)
    for row in np.flatnonzero(spoilt):
        return EpisodeError(
            f"An observation is NaN, infinite or beyond {LARGEST_OBSERVATION:g} in the episode started with "
            f"reset(PRNGKey({table.seeds[row]})), after at most {lengths[row]} steps. Mend the environment, or "
            "wrap it to end such episodes."
        )
    for row in np.flatnonzero(~np.isfinite(returns)):
        return EpisodeError(
            f"The return is {returns[row]} in the episode started with reset(PRNGKey({table.seeds[row]})): a reward "
            "was NaN or infinite. Mend the environment."
        )
    moments = Moments.empty(sums.sums.shape[1])
    for group in dealt:
        count = int(scores.lengths[group.rows].sum(dtype=np.int64))
        shift, total, squares = (part[group.number].astype(np.float64) for part in sums)
        moments = moments.merge(Moments.from_sums(count, shift, total, squares))
    travel = np.stack([velocities.astype(np.float64) / np.maximum(lengths, 1), positions.astype(np.float64)], axis=1)
    shape = table.members, table.episodes
    return Outcome(
        returns.astype(np.float64).reshape(shape),
        lengths.astype(np.int64).reshape(shape),
        moments,
        travel.reshape(*shape, 2),
    )
