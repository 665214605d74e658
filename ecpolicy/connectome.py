"""A network's wiring as data: edges, matrices and graphs, densities, degrees, motifs and covariances."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecpolicy.across_seeds import covariance_across_seeds as covariance_across_seeds
from ecpolicy.constraints import Choice, Integer
from ecpolicy.null_models import with_degrees, with_densities
from ecpolicy.optional import require
from ecpolicy.triads import TriadCensus, triad_counts, triad_names
from ecpolicy.wiring import Blocks, Degrees, DistanceProfile, distance_profile, pair_covariances

PAIRS = "recurrent"


@dataclass(frozen=True, repr=False)
class Connectome:
    """The connections of a spiking network, with their probabilities and signs.

    Nodes are the observation's numbers, once as they are ("observation") and once with the sign changed
    ("-observation"), the neurons by their types ("E", then "I", unless given) and the outputs ("output"), in this
    order.

    Parameters
    ----------
    probabilities : mapping of str to ndarray, shape (pre, post)
        "input", "recurrent", "output".
    excitatory : ndarray of bool, shape (neurons,)
        Excitatory neurons come first.
    types : ndarray of str, shape (neurons,), optional
        The cell type of each; neurons of a type stand together, and have one sign. Left out, they are "E" and "I".
    """

    probabilities: Mapping[str, NDArray[np.float32]]
    excitatory: NDArray[np.bool_]
    types: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if (np.diff(np.asarray(self.excitatory, np.int8)) > 0).any():
            raise ValueError("Excitatory neurons must come first: sort the neurons of all matrices.")
        types = np.where(self.excitatory, "E", "I") if self.types is None else np.asarray(self.types)
        if types.shape != np.shape(self.excitatory):
            raise ValueError(f"types must be one for each of {np.size(self.excitatory)} neurons; got {types.shape}.")
        runs = np.flatnonzero((types[1:] != types[:-1]) | (self.excitatory[1:] != self.excitatory[:-1])) + 1
        names = types[[0, *runs]].tolist()
        if len(set(names)) < len(names):
            raise ValueError(f"Neurons of a type must stand together and have one sign; got the order {names}.")
        object.__setattr__(self, "types", types)

    def __repr__(self) -> str:
        present = ", ".join(f"{name} {int(p.sum()):,} of {p.size:,}" for name, p in self.connectivity.items())
        return f"Connectome({self.excitatory.size} neurons, {int(self.excitatory.sum())} excitatory; {present})"

    @property
    def connectivity(self) -> dict[str, NDArray[np.bool_]]:
        """The deployed network, by name: (pre, post), probabilities above one half."""
        return {name: p > 0.5 for name, p in self.probabilities.items()}

    def _neurons(self) -> NDArray[np.str_]:
        assert self.types is not None  # since the instance was made
        return self.types

    @property
    def groups(self) -> NDArray[np.str_]:
        """The group of every node, (nodes,)."""
        observed = self.probabilities["input"].shape[0] // 2
        outputs = self.probabilities["output"].shape[1]
        inputs = ["observation"] * observed + ["-observation"] * observed
        return np.array([*inputs, *self._neurons(), *["output"] * outputs])

    @property
    def names(self) -> NDArray[np.str_]:
        """The name of every node, (nodes,): its group and its number in it, as in "E17"; neurons count through."""
        kinds = dict.fromkeys(self._neurons().tolist(), "neuron")
        seen: dict[str, int] = {}
        labels = []
        for group in self.groups.tolist():
            kind = kinds.get(group, group)
            labels.append(f"{group}{seen.get(kind, 0)}")
            seen[kind] = seen.get(kind, 0) + 1
        return np.array(labels)

    @property
    def signs(self) -> NDArray[np.int8]:
        """+1 or -1 for every node, (nodes,): the sign of what it passes on; 0 for outputs."""
        observed = self.probabilities["input"].shape[0] // 2
        outputs = self.probabilities["output"].shape[1]
        neurons = np.where(self.excitatory, 1, -1)
        return np.array([*[1] * observed, *[-1] * observed, *neurons, *[0] * outputs], dtype=np.int8)

    def to_sparse(self, values: str = "present") -> Any:
        """The whole graph as a SciPy sparse array (nodes, nodes), presynaptic by postsynaptic.

        Parameters
        ----------
        values : {"present", "sign", "probability"}
            1 for every present connection; its sign; or the probability of every possible connection.
        """
        from scipy.sparse import csr_array

        if values not in ("present", "sign", "probability"):
            raise ValueError(f'values must be "present", "sign" or "probability", got {values!r}.')
        first = self._first_nodes()
        rows, columns, entries = [], [], []
        for name, p in self.probabilities.items():
            pre, post = np.nonzero(p if values == "probability" else p > 0.5)
            rows.append(first[name][0] + pre)
            columns.append(first[name][1] + post)
            entries.append(p[pre, post] if values == "probability" else np.ones(pre.size, np.float32))
        row, column, entry = np.concatenate(rows), np.concatenate(columns), np.concatenate(entries)
        if values == "sign":
            entry = self.signs[row].astype(np.float32)
        size = self.groups.size
        return csr_array((entry, (row, column)), shape=(size, size))

    def to_pandas(self, *, absent: bool = False) -> Any:
        """The connections as a pandas DataFrame, one a row.

        Columns: "projection", "pre", "post" (names of nodes), "pre_group", "post_group", "sign", "probability" and
        "present".

        Parameters
        ----------
        absent : bool
            Also list the possible connections that the deployed network does not have.
        """
        require("pandas", "Connectome.to_pandas", extra="connectome")
        import pandas as pd

        first, signs = self._first_nodes(), self.signs
        names, groups = self.names.astype(object), self.groups.astype(object)  # rows share strings, and copy none
        parts = []
        for name, p in self.probabilities.items():
            pre, post = np.nonzero(np.ones_like(p) if absent else p > 0.5)
            row, column = first[name][0] + pre, first[name][1] + post
            parts.append(
                pd.DataFrame(
                    {
                        "projection": name,
                        "pre": names[row],
                        "post": names[column],
                        "pre_group": groups[row],
                        "post_group": groups[column],
                        "sign": signs[row],
                        "probability": p[pre, post],
                        "present": p[pre, post] > 0.5,
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def to_networkx(self) -> Any:
        """The deployed network as a networkx DiGraph: nodes have a "group", edges a "sign" and a "probability"."""
        require("networkx", "Connectome.to_networkx", extra="connectome")
        import networkx as nx

        first, names, signs = self._first_nodes(), self.names, self.signs
        graph = nx.DiGraph()
        graph.add_nodes_from((str(name), {"group": str(group)}) for name, group in zip(names, self.groups, strict=True))
        for name, p in self.probabilities.items():
            pre, post = np.nonzero(p > 0.5)
            row, column = first[name][0] + pre, first[name][1] + post
            graph.add_edges_from(
                (str(names[i]), str(names[j]), {"sign": int(signs[i]), "probability": float(q)})
                for i, j, q in zip(row, column, p[pre, post], strict=True)
            )
        return graph

    def blocks(self) -> dict[tuple[str, str], tuple[str, slice, slice]]:
        """The blocks of connections between groups: (pre, post) to matrix, rows and columns."""
        observed = self.probabilities["input"].shape[0] // 2
        types, first, sizes = np.unique(self._neurons(), return_index=True, return_counts=True)
        neurons = {
            str(types[k]): slice(int(first[k]), int(first[k] + sizes[k])) for k in np.argsort(first)
        }  # in the order of the neurons
        inputs = {"observation": slice(0, observed), "-observation": slice(observed, 2 * observed)}
        output = slice(0, self.probabilities["output"].shape[1])
        found = {
            (pre, post): ("input", rows, columns)
            for (pre, rows), (post, columns) in product(inputs.items(), neurons.items())
        }
        found |= {
            (pre, post): ("recurrent", rows, columns)
            for (pre, rows), (post, columns) in product(neurons.items(), neurons.items())
        }
        found |= {(pre, "output"): ("output", rows, output) for pre, rows in neurons.items()}
        return {pair: block for pair, block in found.items() if self.probabilities[block[0]][block[1:]].size}

    def by_block(self) -> Blocks:
        """Connections, density and mean probability of every block, as a table."""
        parts = [(self.probabilities[name][rows, columns]) for name, rows, columns in self.blocks().values()]
        pre, post = zip(*self.blocks(), strict=True)
        possible, present = (np.array(list(map(count, parts))) for count in (np.size, lambda p: (p > 0.5).sum()))
        means = np.array([p.mean() for p in parts], dtype=np.float64)
        return Blocks(pre, post, possible, present, np.array([(p > 0.5).mean() for p in parts]), means)

    def densities(self) -> dict[tuple[str, str], float]:
        """Share of present connections in every block, by (presynaptic, postsynaptic) group."""
        found = self.by_block()
        return dict(zip(zip(found.pre, found.post, strict=True), found.density.tolist(), strict=True))

    def mean_probabilities(self) -> dict[tuple[str, str], float]:
        """Mean connection probability of every block, by (presynaptic, postsynaptic) group."""
        found = self.by_block()
        return dict(zip(zip(found.pre, found.post, strict=True), found.mean_probability.tolist(), strict=True))

    def by_distance(self, positions: ArrayLike, *, bins: int = 10) -> DistanceProfile:
        """Recurrent connections by the distance of the neurons that they join; those of one with itself are left out.

        Parameters
        ----------
        positions : array, shape (neurons, dimensions)
        bins : int
            Of equal width, from 0 to the largest distance.
        """
        points = np.asarray(positions, dtype=np.float64)
        if points.ndim != 2 or len(points) != self.excitatory.size:
            raise ValueError(f"positions must have the shape ({self.excitatory.size}, dimensions), got {points.shape}.")
        return distance_profile(self.connectivity[PAIRS], self.probabilities[PAIRS], points, Integer(1)("bins", bins))

    def degrees(self) -> Degrees:
        """Recurrent connections of every neuron, by the sign of the neuron at the other end."""
        present, e = self.connectivity[PAIRS], self.excitatory
        return Degrees(present[e].sum(0), present[~e].sum(0), present[:, e].sum(1), present[:, ~e].sum(1))

    def triads(self, *, n_random: int = 100, seed: int = 0, keep: str = "block_densities") -> TriadCensus:
        """Count motifs of three neurons, connections of a neuron with itself left out, and compare with random graphs.

        Parameters
        ----------
        n_random : int
            Random graphs.
        seed : int
        keep : {"block_densities", "degrees", "block_degrees"}
            What random graphs have in common with the network, so that it alone makes nothing stand out. The number of
            connections in each block (E to E, E to I, I to E, I to I, or between types); the number of incoming and of
            outgoing connections of every neuron; or the number of those from and to each type, which is both. Graphs
            are drawn uniformly from all that have it; see :func:`ecpolicy.null_models.with_degrees`.
        """
        kept = Choice(("block_densities", "degrees", "block_degrees"))("keep", keep)
        present, everyone = self.connectivity[PAIRS], slice(0, self.excitatory.size)
        generator = np.random.default_rng(Integer(0)("seed", seed))
        between = [(rows, columns) for name, rows, columns in self.blocks().values() if name == PAIRS]
        blocks = [(everyone, everyone)] if kept == "degrees" else between
        draw = with_densities if kept == "block_densities" else with_degrees
        censuses = np.array([triad_counts(draw(present, blocks, generator)) for _ in range(n_random)])
        censuses = censuses.reshape(-1, len(triad_names()))
        mean, deviation = (of(axis=0) if n_random else np.full(16, np.nan) for of in (censuses.mean, censuses.std))
        return TriadCensus(triad_names(), triad_counts(present), mean, deviation, n_random, kept)

    def pair_covariances(self) -> dict[str, float]:
        """Covariances of the probabilities of recurrent connections that share neurons (Zhao et al., 2011).

        "reciprocal": i to j with j to i; "convergent": i to k with j to k; "divergent": k to i with k to j; "chain":
        i to k with k to j. Connections of a neuron with itself are left out. Each is 0 where connections are
        independent.
        """
        return pair_covariances(self.probabilities[PAIRS].astype(np.float64))

    def _first_nodes(self) -> dict[str, tuple[int, int]]:
        """The first presynaptic and the first postsynaptic node of every matrix."""
        observed, n = self.probabilities["input"].shape[0], self.excitatory.size
        return {"input": (0, observed), "recurrent": (observed, observed), "output": (observed, observed + n)}
