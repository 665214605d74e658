"""Connections by the names of their ends, from whatever form a field keeps them in."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.optional import require


class Edge(NamedTuple):
    """A connection, or a block of them."""

    place: str  # where it stands, for messages
    pre: str
    post: str
    probability: Any  # None where it is not said


def edges_of(source: Any, columns: tuple[str, str, str]) -> Iterator[Edge]:
    """The edges of a file, table, graph, mapping or sequence, see :func:`ecpolicy.anatomy.edge_probabilities`."""
    if isinstance(source, str | os.PathLike):
        return _of_file(Path(source), columns)
    if isinstance(source, Mapping):
        return (Edge(f"({pre!r}, {post!r})", str(pre), str(post), p) for (pre, post), p in source.items())
    if hasattr(source, "is_directed"):
        return _of_graph(source, columns[2])
    if hasattr(source, "columns") and hasattr(source, "itertuples"):
        table = [[str(name) for name in source.columns], *source.itertuples(index=False, name=None)]
        return _of_table(table[0], zip(map(_row_name, source.index), table[1:], strict=True), source.index, columns)
    if isinstance(source, Iterable):
        return _of_sequence(source)
    raise TypeError(
        f"Edges are a CSV file, a pandas DataFrame, a networkx graph, a mapping of (pre, post) to probability, or a "
        f"sequence of (pre, post) or (pre, post, probability); got {type(source).__name__}."
    )


def sonata_edges(
    path: str | os.PathLike[str], population: str | None, present: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Source, target and probability (edges,) of a SONATA file, see :func:`ecpolicy.anatomy.sonata_probabilities`."""
    require("h5py", "sonata_probabilities", extra="connectome")
    import h5py

    with h5py.File(path) as file:
        found = [*file.get("edges", ())]
        if population not in found and not (population is None and len(found) == 1):
            raise ValueError(f"population must be one of the edges' in {path}, {found}; got {population!r}.")
        part = file["edges"][population or found[0]]
        columns = ("source_node_id", "target_node_id", "edge_group_id", "edge_group_index")
        source, target, group, index = (part[name][:].astype(np.int64) for name in columns)
        p = np.full(source.size, present, np.float32)
        for number in np.unique(group).tolist():
            if "probability" in part[str(number)]:
                chosen = group == number
                p[chosen] = part[str(number)]["probability"][:][index[chosen]]
    return source, target, p


def _of_file(path: Path, columns: tuple[str, str, str]) -> Iterator[Edge]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    if not rows:
        raise ValueError(f"{path} is empty; wanted a line of names and lines of edges.")
    named = [(f"line {number} of {path}", row) for number, row in enumerate(rows[1:], 2) if row]
    for place, row in named:
        if len(row) != len(rows[0]):
            raise ValueError(f"{place} has {len(row)} cells, its header has {len(rows[0])}: {','.join(row):.80}")
    if set(columns[:2]) <= set(rows[0]):
        return _of_table(rows[0], named, None, columns)
    matrix = [(place, row[1:]) for place, row in named]
    return _of_table(rows[0][1:], matrix, [row[0] for _, row in named], columns)


def _of_table(
    header: list[str], rows: Iterable[tuple[str, Any]], index: Iterable[object] | None, columns: tuple[str, str, str]
) -> Iterator[Edge]:
    """Edges of a table of one a row where it has the columns for their ends, else of a matrix (pre, post)."""
    if set(columns[:2]) <= set(header):
        pre, post = (header.index(name) for name in columns[:2])
        value = header.index(columns[2]) if columns[2] in header else None
        for place, row in rows:
            at = f"{place}, column {columns[2]!r}"
            yield Edge(at, str(row[pre]), str(row[post]), None if value is None else row[value])
        return
    assert index is not None
    for (place, row), name in zip(rows, index, strict=True):
        for column, cell in zip(header, row, strict=True):
            if cell != "" and cell == cell:  # neither empty nor NaN
                yield Edge(f"{place}, column {column!r}", str(name), column, cell)


def _of_graph(graph: Any, attribute: str) -> Iterator[Edge]:
    directed = graph if graph.is_directed() else graph.to_directed()
    for pre, post, data in directed.edges(data=True):
        yield Edge(f"edge ({pre!r}, {post!r})", str(pre), str(post), data.get(attribute))


def _of_sequence(source: Iterable[Any]) -> Iterator[Edge]:
    for number, edge in enumerate(source):
        if isinstance(edge, str) or not isinstance(edge, Iterable) or len(parts := tuple(edge)) not in (2, 3):
            raise TypeError(f"Edge {number} must be (pre, post) or (pre, post, probability); got {edge!r:.80}.")
        yield Edge(f"edge {number}", str(parts[0]), str(parts[1]), parts[2] if len(parts) == 3 else None)


def dense(matrix: Any) -> np.ndarray:
    """The array of an array, a table, or a SciPy sparse array."""
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _row_name(label: object) -> str:
    return f"row {label!r}"
