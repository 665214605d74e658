"""What comes back from playing episodes: scalars and observation sums, never connections."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.normalization import Moments


class EpisodeError(RuntimeError):
    """An environment raised, or gave an observation or a reward that cannot be learnt from."""


class Episodes(NamedTuple):
    """Episodes to play on one environment; arrays over episodes."""

    owners: NDArray[np.int64]  # which network plays
    membrane_keys: NDArray[np.uint32]  # (episodes, 2) initial membrane potentials
    seeds: NDArray[np.int64]  # for env.reset(seed=...)
    horizon: float  # steps after which an episode is cut, inf for never


class Outcome(NamedTuple):
    """Episodes played: one row per member, one column per episode."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    moments: Moments  # of all observations acted upon

    @property
    def fitness(self) -> NDArray[np.float64]:
        """Mean return of each member."""
        return np.asarray(self.returns.mean(axis=1))

    @property
    def n_steps(self) -> int:
        """Environment steps in all."""
        return int(self.lengths.sum())


def beside(outcomes: Sequence[Outcome]) -> Outcome:
    """The same members on several environments, one after the other: columns are appended."""
    return _join(outcomes, axis=1)


def below(outcomes: Sequence[Outcome]) -> Outcome:
    """Further members: rows are appended."""
    return _join(outcomes, axis=0)


def _join(outcomes: Sequence[Outcome], axis: int) -> Outcome:
    moments = outcomes[0].moments
    for outcome in outcomes[1:]:
        moments = moments.merge(outcome.moments)
    return Outcome(
        np.concatenate([o.returns for o in outcomes], axis=axis),
        np.concatenate([o.lengths for o in outcomes], axis=axis),
        moments,
    )
