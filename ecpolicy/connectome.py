"""A network's wiring as data: edges, matrices and graphs, densities, degrees, motifs and covariances."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.optional import require
from ecpolicy.triads import TriadCensus, triad_counts, triad_names

PAIRS = "recurrent"


class Degrees(NamedTuple):
    """Recurrent connections of every neuron, (neurons,) each."""

    incoming_excitatory: NDArray[np.int64]  #: from excitatory neurons
    incoming_inhibitory: NDArray[np.int64]  #: from inhibitory neurons
    outgoing_excitatory: NDArray[np.int64]  #: to excitatory neurons
    outgoing_inhibitory: NDArray[np.int64]  #: to inhibitory neurons


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
        groups = self.groups
        kinds = dict.fromkeys(self._neurons().tolist(), "neuron")
        seen: dict[str, int] = {}
        labels = []
        for group in groups:
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
        found = {(pre, post): ("input", rows, columns) for (pre, rows), (post, columns) in _product(inputs, neurons)}
        found |= {
            (pre, post): ("recurrent", rows, columns) for (pre, rows), (post, columns) in _product(neurons, neurons)
        }
        found |= {(pre, "output"): ("output", rows, output) for pre, rows in neurons.items()}
        return {pair: block for pair, block in found.items() if self.probabilities[block[0]][block[1:]].size}

    def densities(self) -> dict[tuple[str, str], float]:
        """Share of present connections in every block, by (presynaptic, postsynaptic) group."""
        return {
            pair: float((self.probabilities[name][rows, columns] > 0.5).mean())
            for pair, (name, rows, columns) in self.blocks().items()
        }

    def mean_probabilities(self) -> dict[tuple[str, str], float]:
        """Mean connection probability of every block, by (presynaptic, postsynaptic) group."""
        return {
            pair: float(self.probabilities[name][rows, columns].mean())
            for pair, (name, rows, columns) in self.blocks().items()
        }

    def degrees(self) -> Degrees:
        """Recurrent connections of every neuron, by the group of the other end."""
        present, e = self.connectivity[PAIRS], self.excitatory
        return Degrees(present[e].sum(0), present[~e].sum(0), present[:, e].sum(1), present[:, ~e].sum(1))

    def triads(self, *, n_random: int = 100, seed: int = 0) -> TriadCensus:
        """Count motifs of three neurons, connections of a neuron with itself left out.

        The reference are random graphs with as many connections in each block (E to E, E to I, I to E, I to I) as this
        network has, so that what stands out is not density alone.

        Parameters
        ----------
        n_random : int
            Random graphs.
        seed : int
        """
        present = self.connectivity[PAIRS]
        generator = np.random.default_rng(seed)
        blocks = [(rows, columns) for name, rows, columns in self.blocks().values() if name == PAIRS]
        censuses = np.array([triad_counts(_shuffled(present, blocks, generator)) for _ in range(n_random)])
        censuses = censuses.reshape(-1, len(triad_names()))
        mean, deviation = (of(axis=0) if n_random else np.full(16, np.nan) for of in (censuses.mean, censuses.std))
        return TriadCensus(triad_names(), triad_counts(present), mean, deviation)

    def pair_covariances(self) -> dict[str, float]:
        """Covariances of the probabilities of recurrent connections that share neurons (Zhao et al., 2011).

        "reciprocal": i to j with j to i; "convergent": i to k with j to k; "divergent": k to i with k to j; "chain":
        i to k with k to j. Connections of a neuron with itself are left out. Each is 0 where connections are
        independent.
        """
        p = self.probabilities[PAIRS].astype(np.float64)
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

    def _first_nodes(self) -> dict[str, tuple[int, int]]:
        """The first presynaptic and the first postsynaptic node of every matrix."""
        observed, n = self.probabilities["input"].shape[0], self.excitatory.size
        return {"input": (0, observed), "recurrent": (observed, observed), "output": (observed, observed + n)}


def covariance_across_seeds(
    connectomes: Iterable[Connectome],
    features: Callable[[Connectome], Mapping[Any, float]] = Connectome.mean_probabilities,
) -> tuple[tuple[object, ...], NDArray[np.float64]]:
    """Covariance, over trainings with different seeds, of numbers that describe a network.

    Neurons of two trainings do not correspond, so what is compared must not depend on their order: by default the mean
    probability of every block, else for instance ``Connectome.pair_covariances``.

    Parameters
    ----------
    connectomes : iterable of Connectome
        At least two.
    features : callable (Connectome) -> mapping of name to float

    Returns
    -------
    (names, covariance)
        The features' names, and their sample covariance (features, features).
    """
    described = [features(connectome) for connectome in connectomes]
    if len(described) < 2:
        raise ValueError(f"A covariance across seeds needs at least two connectomes, got {len(described)}.")
    names = tuple(described[0])
    values = np.array([[each[name] for name in names] for each in described])
    return names, np.cov(values, rowvar=False).reshape(len(names), len(names))


def _shuffled(
    present: NDArray[np.bool_], blocks: list[tuple[slice, slice]], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """A random graph with as many connections in every block, none of a node with itself."""
    random = np.zeros_like(present)
    off = ~np.eye(len(present), dtype=bool)
    for rows, columns in blocks:
        places = off[rows, columns]
        block = random[rows, columns]
        block[places] = generator.permutation(present[rows, columns][places])
    return random


def _product(one: Mapping[str, slice], other: Mapping[str, slice]) -> Iterable[Any]:
    return itertools.product(one.items(), other.items())
