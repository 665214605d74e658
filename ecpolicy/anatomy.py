"""Anatomical priors: where connections are likely, certain or impossible before anything is learnt.

Give what these functions return as ``initial_probability={"recurrent": ...}``. Probabilities of exactly 0 and 1 stay
for good: such connections are absent, or present, in every network of every generation. Others are where the search
starts, and what it keeps on average where ``keep_density=True``.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecpolicy.edges import dense, edges_of, sonata_edges

OPEN = np.float32(2**-24), np.float32(1 - 2**-24)  # the probabilities nearest to those that stay for good


COLUMNS = "pre", "post", "probability"  # as Connectome.to_pandas names them


def block_probabilities(
    neurons: int | Sequence[str] | NDArray[np.str_],
    blocks: Any,
    *,
    excitatory_ratio: float = 0.5,
    otherwise: float = 0.5,
    columns: tuple[str, str, str] = COLUMNS,
) -> NDArray[np.float32]:
    """Probabilities of recurrent connections by the types of the neurons that they join.

    Parameters
    ----------
    neurons : int, or sequence of str, shape (neurons,)
        How many there are, of types "E" and "I"; or the type of each. A network's excitatory neurons come first.
    blocks : mapping of (pre, post) to float, CSV file, pandas DataFrame
        ``{("E", "I"): 0.2}`` is excitatory to inhibitory. A table has a block a row, see ``columns``, or it is a matrix
        whose rows and columns are named by types, presynaptic by postsynaptic; empty cells are not named.
    excitatory_ratio : float
        As the network's; where ``neurons`` is a number.
    otherwise : float
        Of the blocks that are not named.
    columns : (str, str, str)
        The columns of a table with a block a row: types of both ends, and probability.

    Returns
    -------
    ndarray of float32, shape (neurons, neurons)
        Presynaptic by postsynaptic.

    Raises
    ------
    ValueError
        Where a type is unknown, a block comes twice, or a probability is none; it names row and column.

    Examples
    --------
    >>> types = ["Pyr"] * 3 + ["PV"]
    >>> block_probabilities(types, {("Pyr", "PV"): 0.9, ("PV", "Pyr"): 0.8}, otherwise=0.1)[:, 2:]
    array([[0.1, 0.9],
           [0.1, 0.9],
           [0.1, 0.9],
           [0.8, 0.1]], dtype=float32)
    """
    if isinstance(neurons, int | np.integer):
        split = round(excitatory_ratio * int(neurons))
        types = np.array(["E"] * split + ["I"] * (int(neurons) - split))
    else:
        types = np.asarray(neurons).astype(str)
        if types.ndim != 1:
            raise ValueError(f"neurons must be a number, or one type for each; got an array of shape {types.shape}.")
    known = ["E", "I"] if isinstance(neurons, int | np.integer) else [*dict.fromkeys(types.tolist())]
    between = _named(blocks, known, known, "types of neurons", columns, present=None, absent=otherwise)
    place = {name: index for index, name in enumerate(known)}
    of_type = np.array([place[name] for name in types.tolist()], dtype=np.int64)
    return between[of_type[:, None], of_type]


def edge_probabilities(
    edges: Any,
    pre: Sequence[Any] | NDArray[Any],
    post: Sequence[Any] | NDArray[Any] | None = None,
    *,
    columns: tuple[str, str, str] = COLUMNS,
    present: float = 1.0,
    absent: float = 0.0,
) -> NDArray[np.float32]:
    """Probabilities of connections that are listed, such as those of a measured connectome.

    Parameters
    ----------
    edges : CSV file, pandas DataFrame, networkx graph, mapping of (pre, post) to float, or sequence of tuples
        A table has an edge a row, see ``columns``, or it is a matrix whose rows and columns are named by neurons. Edges
        of graphs may have an attribute "probability", tuples are (pre, post) or (pre, post, probability). Names are
        compared as strings. (A SciPy sparse array needs none of this: ``initial_probability`` takes it.)
    pre, post : sequence
        Names of the neurons in the order of the matrix's rows and columns; ``post`` is ``pre`` unless given.
    columns : (str, str, str)
        The columns of a table with an edge a row; the last one names an attribute of graphs as well.
    present : float
        Probability of edges that have none.
    absent : float
        Probability of connections that are not listed. With 0 there are none at any time, with 1 as ``present`` all
        that is listed stays: nothing is learnt between these neurons.

    Returns
    -------
    ndarray of float32, shape (pre, post)

    Raises
    ------
    ValueError
        Where a neuron is unknown, an edge comes twice, or a probability is none; it names row and column.

    Examples
    --------
    >>> edge_probabilities([("AVA", "VA1"), ("AVA", "VA2", 0.3)], ["AVA"], ["VA1", "VA2"], present=0.9)
    array([[0.9, 0.3]], dtype=float32)
    """
    rows = [str(name) for name in pre]
    to = rows if post is None else [str(name) for name in post]
    return _named(edges, rows, to, "neurons", columns, present=present, absent=absent)


def sonata_probabilities(
    edges: str | os.PathLike[str],
    shape: tuple[int, int],
    *,
    population: str | None = None,
    present: float = 1.0,
    absent: float = 0.0,
) -> NDArray[np.float32]:
    """Probabilities of the connections in an edges file of SONATA, such as that of a published circuit.

    Parameters
    ----------
    edges : path
        HDF5.
    shape : (int, int)
        Source and target nodes. Their ids are the matrix's rows and columns.
    population : str, optional
        Of edges, where the file has several.
    present : float
        Probability of edges without an attribute "probability". Several edges between two nodes are one connection,
        with the largest of their probabilities.
    absent : float
        Probability of connections that are not listed.

    Returns
    -------
    ndarray of float32, shape (source, target)

    Raises
    ------
    ImportError
        Where h5py is missing: ``pip install "ecpolicy[connectome]"``.
    ValueError
        Where there is no such population, a node's id is beyond ``shape``, or a probability is none.
    """
    pre, post, p = sonata_edges(edges, population, present)
    if pre.size and (pre.max() >= shape[0] or post.max() >= shape[1]):
        raise ValueError(f"shape must hold all nodes, up to ({pre.max() + 1}, {post.max() + 1}); got {shape}.")
    listed, probabilities = np.zeros(shape, bool), np.zeros(shape, np.float32)
    listed[pre, post] = True
    np.maximum.at(probabilities, (pre, post), _checked(p))
    return _checked(np.where(listed, probabilities, np.float32(absent)))


def mixed(prior: Any, share: float, *, flat: float | None = None) -> NDArray[np.float32]:
    """A prior of which a share is taken, the rest being the same everywhere: ``share prior + (1 - share) flat``.

    Parameters
    ----------
    prior : array or SciPy sparse array, shape (pre, post)
        Probabilities. Those of 0 and 1 are open where ``share`` is below 1.
    share : float
        1 is the prior, 0 forgets all of it but its density.
    flat : float, optional
        The mean of ``prior`` unless given, so that a mixture has its density.

    Returns
    -------
    ndarray of float32, shape (pre, post)
    """
    p = dense(prior).astype(np.float64)
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share!r}.")
    return _checked(np.asarray(share * p + (1 - share) * (p.mean() if flat is None else flat), np.float32))


def distance_probabilities(
    positions: ArrayLike,
    *,
    length: ArrayLike,
    peak: ArrayLike = 1.0,
    reach: float = np.inf,
    self_connections: bool = False,
) -> NDArray[np.float32]:
    """Probabilities of recurrent connections that fall with distance: ``peak exp(-distance / length)``.

    Parameters
    ----------
    positions : array, shape (neurons, dimensions)
        Such as those of :func:`ring` and :func:`grid`; distances are straight lines.
    length : float, or array of shape (neurons, neurons)
        The distance over which probabilities fall to 1/e.
    peak : float, or array of shape (neurons, neurons)
        Probability at distance 0, such as that of :func:`block_probabilities`. Where it is 0 there are no connections,
        at any time.
    reach : float
        Beyond it there are no connections, at any time. Within it all are possible and none is certain.
    self_connections : bool
        Whether a neuron may have one with itself; otherwise it has none, at any time.

    Returns
    -------
    ndarray of float32, shape (neurons, neurons)
    """
    points, lengths, peaks = (np.asarray(part, dtype=np.float64) for part in (positions, length, peak))
    if points.ndim != 2:
        raise ValueError(f"positions must have the shape (neurons, dimensions), got {points.shape}.")
    if not (lengths > 0).all():
        raise ValueError(f"length must be above 0, got {length!r}.")
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    for name, given in (("length", lengths), ("peak", peaks)):
        if given.shape not in ((), distance.shape):
            raise ValueError(f"{name} must be a number or have the shape {distance.shape}, got {given.shape}.")
    unclipped = _checked(np.asarray(peaks * np.exp(-distance / lengths), np.float32))
    probabilities = np.where((distance <= reach) & (peaks > 0), np.clip(unclipped, *OPEN), np.float32(0))
    if not self_connections:
        np.fill_diagonal(probabilities, 0.0)
    return probabilities


def ring(n_neurons: int, *, circumference: float = 1.0) -> NDArray[np.float64]:
    """Positions evenly around a circle, where excitatory and inhibitory neurons have halves of it each.

    Interleave them by taking ``positions[order]`` with an order of your own.

    Parameters
    ----------
    n_neurons : int
    circumference : float

    Returns
    -------
    ndarray, shape (n_neurons, 2)
    """
    angle = 2 * np.pi * np.arange(n_neurons) / n_neurons
    return circumference / (2 * np.pi) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def grid(n_neurons: int) -> NDArray[np.float64]:
    """Positions row by row on a square lattice of unit spacing, the last row perhaps not full.

    Excitatory neurons are a network's first: permute the rows, or they lie apart from the inhibitory ones.

    Parameters
    ----------
    n_neurons : int

    Returns
    -------
    ndarray, shape (n_neurons, 2)
    """
    side = int(np.ceil(np.sqrt(n_neurons)))
    return np.stack(np.divmod(np.arange(n_neurons), side), axis=1).astype(np.float64)


def _named(
    source: Any,
    pre: list[str],
    post: list[str],
    what: str,
    columns: tuple[str, str, str],
    *,
    present: float | None,
    absent: float,
) -> NDArray[np.float32]:
    """The matrix (pre, post) of named probabilities; ``present`` is that of edges without, None where they need one."""
    places = [{name: index for index, name in enumerate(names)} for names in (pre, post)]
    for names, place in zip((pre, post), places, strict=True):
        if len(place) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"Names of {what} must differ, got {twice!r} twice.")
    found = np.full((len(pre), len(post)), np.nan)
    for at, *ends, given in edges_of(source, columns):
        for name, known in zip(ends, places, strict=True):
            if name not in known:
                listed = ", ".join(map(repr, [*known][:6])) + (", ..." if len(known) > 6 else "")
                raise ValueError(f"{at}: {name!r} is none of the {len(known)} {what} {listed}.")
        said: Any = present if given is None else given
        try:
            p = float(said)
        except (TypeError, ValueError):
            p = np.nan
        if not 0 <= p <= 1:
            raise ValueError(f"{at}: a probability must be a number in [0, 1]; got {given!r:.80}.")
        row, column = places[0][ends[0]], places[1][ends[1]]
        if not np.isnan(found[row, column]):
            raise ValueError(f"{at}: {ends[0]!r} to {ends[1]!r} comes twice.")
        found[row, column] = p
    return _checked(np.where(np.isnan(found), absent, found).astype(np.float32))


def _checked(probabilities: NDArray[np.float32]) -> np.ndarray:
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # NaN as well
        raise ValueError(
            f"Probabilities must lie in [0, 1]; got some from {probabilities.min()} to {probabilities.max()}."
        )
    return probabilities
