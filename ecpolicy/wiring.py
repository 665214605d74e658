"""What is counted of a network's wiring: blocks, degrees and distances, as tables."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.optional import require

SHOWN = 12  # blocks that are printed one by one


def frame(columns: dict[str, Any], what: str, index: Any = None) -> Any:
    """A pandas DataFrame of these columns."""
    require("pandas", what, extra="connectome")
    import pandas as pd

    return pd.DataFrame(columns, index=index)


class Degrees(NamedTuple):
    """Recurrent connections of every neuron, (neurons,) each."""

    incoming_excitatory: NDArray[np.int64]  #: from excitatory neurons
    incoming_inhibitory: NDArray[np.int64]  #: from inhibitory neurons
    outgoing_excitatory: NDArray[np.int64]  #: to excitatory neurons
    outgoing_inhibitory: NDArray[np.int64]  #: to inhibitory neurons

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {part.mean():.1f} ± {part.std():.1f}" for name, part in self._asdict().items())
        return f"Degrees({self.incoming_excitatory.size} neurons; {means})"

    @property
    def incoming(self) -> NDArray[np.int64]:
        """Connections from all neurons, (neurons,)."""
        return self.incoming_excitatory + self.incoming_inhibitory

    @property
    def outgoing(self) -> NDArray[np.int64]:
        """Connections to all neurons, (neurons,)."""
        return self.outgoing_excitatory + self.outgoing_inhibitory

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for every neuron."""
        return frame(self._asdict(), "Degrees.to_pandas")


class Blocks(NamedTuple):
    """Connections between every two groups of nodes, (blocks,) each."""

    pre: tuple[str, ...]
    post: tuple[str, ...]
    possible: NDArray[np.int64]
    present: NDArray[np.int64]
    density: NDArray[np.float64]  #: present by possible
    mean_probability: NDArray[np.float64]

    def __repr__(self) -> str:
        order, most = np.arange(self.density.size), ""
        if order.size > SHOWN:
            order, most = np.argsort(self.density)[[0, -1]], f"{order.size}, density "
        found = [f"{self.pre[k]} to {self.post[k]} {self.density[k]:.3f}" for k in order]
        return f"Blocks({most}{(' up to ' if most else ', ').join(found)})"

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for every block."""
        return frame(self._asdict(), "Blocks.to_pandas")


class DistanceProfile(NamedTuple):
    """Recurrent connections by the distance of the neurons that they join, (bins,) each but for the edges."""

    edges: NDArray[np.float64]  #: (bins + 1,) of the bins
    pairs: NDArray[np.int64]  #: of different neurons at this distance, in both directions
    density: NDArray[np.float64]  #: NaN where there are no pairs
    mean_probability: NDArray[np.float64]  #: likewise

    def __repr__(self) -> str:
        pairs = f"{self.pairs.sum():,} pairs up to {self.edges[-1]:.3g}"
        if not self.pairs.any():
            return f"DistanceProfile({pairs})"
        near, far = self.density[self.pairs > 0][[0, -1]]
        bins = f"density {near:.3f} of the nearest bin, {far:.3f} of the farthest of {self.pairs.size}"
        return f"DistanceProfile({pairs}; {bins})"

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for every bin."""
        columns = {"distance_from": self.edges[:-1], "distance_to": self.edges[1:], **self._asdict()}
        del columns["edges"]
        return frame(columns, "DistanceProfile.to_pandas")


def distance_profile(
    present: NDArray[np.bool_], probability: NDArray[np.float32], positions: NDArray[np.float64], bins: int
) -> DistanceProfile:
    """The profile of matrices (neurons, neurons) at these positions (neurons, dimensions)."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    others = ~np.eye(len(positions), dtype=bool)
    edges = np.linspace(0, float(distance.max()), bins + 1)
    of_bin = np.clip(np.searchsorted(edges, distance[others], side="right") - 1, 0, bins - 1)
    pairs = np.bincount(of_bin, minlength=bins)
    sums = (np.bincount(of_bin, part[others].astype(np.float64), minlength=bins) for part in (present, probability))
    with np.errstate(invalid="ignore"):
        density, mean = (total / pairs for total in sums)
    return DistanceProfile(edges, pairs, density, mean)


def pair_covariances(p: NDArray[np.float64]) -> dict[str, float]:
    """Covariances of the probabilities (neurons, neurons) of connections that share neurons, by how they share them."""
    n = p.shape[0]
    if n < 3:
        raise ValueError(f"Covariances of pairs need at least 3 neurons, got {n}.")
    off = ~np.eye(n, dtype=bool)
    d = np.where(off, p - p[off].mean(), 0.0)
    into, out = d.sum(axis=0), d.sum(axis=1)
    squares, reciprocal = float(np.square(d).sum()), float((d * d.T).sum())
    pairs, triples = n * (n - 1), n * (n - 1) * (n - 2)
    return {
        "reciprocal": reciprocal / pairs,
        "convergent": (float(np.square(into).sum()) - squares) / triples,
        "divergent": (float(np.square(out).sum()) - squares) / triples,
        "chain": (float(into @ out) - reciprocal) / triples,
    }
