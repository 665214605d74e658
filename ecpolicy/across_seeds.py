"""Several trainings of one network side by side: how their numbers vary together, and which connections they share."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import methodcaller
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.wiring import frame

Connectome = Any  # an ecpolicy.connectome.Connectome, which imports this module


class SeedCovariance(NamedTuple):
    """How numbers that describe networks vary together over trainings with different seeds."""

    names: tuple[Any, ...]  #: the features'
    covariance: NDArray[np.float64]  #: (features, features), of the sample

    def __repr__(self) -> str:
        return f"SeedCovariance({len(self.names)} features, rank {self.rank})"

    @property
    def rank(self) -> int:
        """Directions in which the networks differ: at most one less than there are networks."""
        return int(np.linalg.matrix_rank(self.covariance, hermitian=True))

    def to_pandas(self) -> Any:
        """A pandas DataFrame (features, features)."""
        names = [name if isinstance(name, str) else " to ".join(name) for name in self.names]
        return frame(dict(zip(names, self.covariance.T, strict=True)), "SeedCovariance.to_pandas", names)


def covariance_across_seeds(
    connectomes: Iterable[Connectome],
    features: Callable[[Connectome], Mapping[Any, float]] = methodcaller("mean_probabilities"),
) -> SeedCovariance:
    """Covariance, over trainings with different seeds, of numbers that describe a network.

    Neurons of two trainings do not correspond, so what is compared must not depend on their order: by default the mean
    probability of every block, else for instance ``Connectome.pair_covariances``.

    Parameters
    ----------
    connectomes : iterable of Connectome
        At least two; for a covariance of full rank, one more than there are features. Fewer are a warning.
    features : callable (Connectome) -> mapping of name to float
        ``Connectome.mean_probabilities`` unless given.

    Returns
    -------
    SeedCovariance
        The features' names, and their sample covariance (features, features).
    """
    described = [features(connectome) for connectome in connectomes]
    if len(described) < 2:
        raise ValueError(f"A covariance across seeds needs at least two connectomes, got {len(described)}.")
    names = tuple(described[0])
    if len(described) <= len(names):
        warnings.warn(
            f"The covariance of {len(names)} features from {len(described)} networks has rank {len(described) - 1} at "
            f"most: for all {len(names)} directions give at least {len(names) + 1} networks.",
            stacklevel=2,
        )
    values = np.array([[each[name] for name in names] for each in described])
    return SeedCovariance(names, np.cov(values, rowvar=False).reshape(len(names), len(names)))


class Stability(NamedTuple):
    """In how many trainings each connection is present, and how many would be by chance.

    Chance is trainings that are independent but for the density of every block: a connection is then present in a
    number of runs that is Poisson binomial, of each run's density of its block.
    """

    counts: dict[str, NDArray[np.int64]]  #: (pre, post) by matrix: runs in which the connection is present
    connections: NDArray[np.int64]  #: (runs + 1,): connections that are present in 0, 1, ... runs
    by_chance: NDArray[np.float64]  #: (runs + 1,): those expected

    def __repr__(self) -> str:
        runs = self.connections.size - 1
        return (
            f"Stability({runs} runs, {self.connections.sum():,} connections; in all runs {self.connections[-1]:,} "
            f"(by chance {self.by_chance[-1]:.3g}), in none {self.connections[0]:,} ({self.by_chance[0]:.3g}); counts "
            f"vary {self.variance_ratio:.2f} times as much as by chance)"
        )

    @property
    def variance_ratio(self) -> float:
        """Variance of the counts over connections, as a share of that by chance: 1 where trainings share nothing."""
        runs = np.arange(self.connections.size)
        observed, expected = (
            float(np.average(np.square(runs - np.average(runs, weights=part)), weights=part))
            for part in (self.connections, self.by_chance)
        )
        return observed / expected if expected > 0 else float("nan")

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for every number of runs."""
        columns = {"runs": np.arange(self.connections.size), "connections": self.connections}
        return frame({**columns, "by_chance": self.by_chance}, "Stability.to_pandas")


def stability(
    connectomes: Iterable[Connectome], matrices: Sequence[str] = ("input", "recurrent", "output")
) -> Stability:
    """In how many trainings each connection is present, against chance.

    Connections are compared place by place. Neurons of two trainings correspond where a prior tells them apart, by
    types, positions or a measured connectome; where nothing does, chance is what there is to see.

    Parameters
    ----------
    connectomes : iterable of Connectome
        At least two, with the same groups and sizes.
    matrices : sequence of str
        Those that are counted.

    Returns
    -------
    Stability
    """
    wired = list(connectomes)
    if len(wired) < 2:
        raise ValueError(f"Stability needs at least two connectomes, got {len(wired)}.")
    first = wired[0]
    for index, other in enumerate(wired):
        sizes = {name: p.shape for name, p in other.probabilities.items()}
        if sizes != {name: p.shape for name, p in first.probabilities.items()} or (other.groups != first.groups).any():
            raise ValueError(f"Connectome {index} has other groups or sizes than the first one: {other} and {first}.")
    present = {name: np.array([each.connectivity[name] for each in wired]) for name in matrices}  # (runs, pre, post)
    counts = {name: part.sum(axis=0) for name, part in present.items()}
    by_chance = np.zeros(len(wired) + 1)
    for name, rows, columns in first.blocks().values():
        if name in present:
            block = present[name][:, rows, columns]
            pmf = np.ones(1)
            for density in block.mean(axis=(1, 2)):
                pmf = np.convolve(pmf, [1 - density, density])
            by_chance += block[0].size * pmf
    total = np.bincount(np.concatenate([part.ravel() for part in counts.values()]), minlength=len(wired) + 1)
    return Stability(counts, total, by_chance)
