"""Triads: how three neurons are connected with each other, and how often each way occurs."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.wiring import frame


class TriadCensus(NamedTuple):
    """How often each of the 16 triads occurs among recurrent neurons, and in random graphs."""

    names: tuple[
        str, ...
    ]  # mutual, asymmetric and null pairs, and a letter where that leaves several (Holland, Leinhardt)
    counts: NDArray[np.int64]  #: (16,)
    random_mean: NDArray[np.float64]  #: (16,)
    random_std: NDArray[np.float64]  #: (16,)
    n_random: int = 0  #: random graphs
    keep: str = "block_densities"  #: what these have in common with the network, see ``Connectome.triads``

    def __repr__(self) -> str:
        scores = [(name, z) for name, z in zip(self.names, self.z_scores, strict=True) if np.isfinite(z)]
        farthest = sorted(scores, key=lambda each: -abs(each[1]))[:4]
        return (
            f"TriadCensus({self.counts.sum():,} triads; z-scores against {self.n_random} random graphs of the same "
            f"{self.kept}, the farthest: {', '.join(f'{name} {z:+.1f}' for name, z in farthest) or 'none'})"
        )

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for every triad: its count, the random graphs' mean and deviation, z-score."""
        columns = {"triad": self.names, "count": self.counts, "random_mean": self.random_mean}
        return frame({**columns, "random_std": self.random_std, "z_score": self.z_scores}, "TriadCensus.to_pandas")

    @property
    def kept(self) -> str:
        """What the random graphs have in common with the network, in words."""
        return self.keep.replace("_", " ")

    @property
    def z_scores(self) -> NDArray[np.float64]:
        """Standard deviations by which the counts differ from the random graphs'; NaN where those never vary."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = (self.counts - self.random_mean) / self.random_std
        return np.where(self.random_std > 0, scores, np.nan)


def triad_counts(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the 16 triads of a directed graph.

    Parameters
    ----------
    present : ndarray of bool, shape (nodes, nodes)
        Presynaptic by postsynaptic; the diagonal does not count.

    Returns
    -------
    ndarray of int64, shape (16,)
        In the order of :func:`triad_names`.
    """
    kinds = _triad_kinds()
    forward = present.astype(np.int8)
    pair = forward + 2 * forward.T  # 1: i to j, 2: j to i
    counts = np.zeros(64, np.int64)
    for i in range(len(pair) - 2):
        rest = pair[i, i + 1 :]
        codes = rest[:, None] + 4 * rest[None, :] + 16 * pair[i + 1 :, i + 1 :]
        counts += np.bincount(codes[np.triu_indices(rest.size, 1)], minlength=64)
    return np.bincount(kinds, counts, minlength=16).astype(np.int64)


@cache
def triad_names() -> tuple[str, ...]:
    """The triads' names: numbers of mutual, asymmetric and null pairs, then Down, Up, Cyclic or Transitive."""
    return (
        "003", "012", "102", "021D", "021U", "021C", "111D", "111U",
        "030T", "030C", "201", "120D", "120U", "120C", "210", "300",
    )  # fmt: skip


@cache
def triad_edges(name: str) -> tuple[tuple[int, int], ...]:
    """Edges of a triad of this name between nodes 0, 1 and 2, pre and post."""
    return _edges(int(np.flatnonzero(_triad_kinds() == triad_names().index(name))[0]))


def _edges(code: int) -> tuple[tuple[int, int], ...]:
    ends = {(0, 1): code % 4, (0, 2): code // 4 % 4, (1, 2): code // 16}
    there = [pair for pair, way in ends.items() if way & 1]
    return (*there, *((j, i) for (i, j), way in ends.items() if way & 2))


@cache
def _triad_kinds() -> NDArray[np.int64]:
    """The triad, as a position in ``triad_names``, of every code: pairs (i, j), (i, k) and (j, k) in base 4."""
    return np.array([triad_names().index(_triad(code)) for code in range(64)])


def _triad(code: int) -> str:
    edges = set(_edges(code))
    mutual = [(i, j) for i, j in edges if i < j and (j, i) in edges]
    single = [(i, j) for i, j in edges if (j, i) not in edges]
    name = f"{len(mutual)}{len(single)}{3 - len(mutual) - len(single)}"
    sources, targets = [i for i, _ in single], [j for _, j in single]
    if name in ("021", "120"):  # two single edges: from one node, to one node, or a path
        return name + ("D" if len(set(sources)) == 1 else "U" if len(set(targets)) == 1 else "C")
    if name == "030":
        return name + ("C" if len(set(sources)) == 3 else "T")
    if name == "111":  # a mutual pair, and one edge that comes to it or leaves it
        return name + ("U" if sources[0] in mutual[0] else "D")
    return name
