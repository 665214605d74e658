"""A spiking network as a SONATA circuit (Dai et al., 2020): HDF5 tables of nodes and edges, types as CSV, a config."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecpolicy.connectome import Connectome
from ecpolicy.networks import RSNN
from ecpolicy.optional import require

MAGIC, VERSION = 0x0A7A, (0, 1)
FIRST_TYPE = 100
ENDS = {"input": ("observation", "neurons"), "recurrent": ("neurons", "neurons"), "output": ("neurons", "output")}
CONFIG = {
    "manifest": {"$BASE_DIR": "."},
    "networks": {
        "nodes": [
            {
                "nodes_file": "$BASE_DIR/nodes.h5",
                "node_types_file": "$BASE_DIR/node_types.csv",
                "populations": {"observation": {"type": "virtual"}, "neurons": {"type": "point_neuron"},
                                "output": {"type": "virtual"}},
            }
        ],
        "edges": [
            {
                "edges_file": "$BASE_DIR/edges.h5",
                "edge_types_file": "$BASE_DIR/edge_types.csv",
                "populations": {f"{pre}_to_{post}": {"type": "point_neuron"} for pre, post in ENDS.values()},
            }
        ],
    },
}  # fmt: skip


def write_sonata(
    folder: Path,
    network: RSNN,
    connectome: Connectome,
    initial_potentials: NDArray[np.float32],
    positions: ArrayLike | None = None,
) -> None:
    """Write a network into a folder, see :meth:`ecpolicy.EvolvingConnectivityPolicy.to_sonata`.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    network : RSNN
    connectome : Connectome
        Of the deployed network.
    initial_potentials : ndarray, shape (neurons,)
    positions : array, shape (neurons, 2 or 3), optional

    Raises
    ------
    ImportError
        Where h5py is missing.
    ValueError
        Where ``positions`` are none.
    """
    require("h5py", "to_sonata", extra="connectome")
    import h5py

    places = _places(positions, network.n_neurons)
    nodes, types = _nodes(connectome)
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "nodes.h5", "w") as file:
        _head(file)
        for population, groups in nodes.items():
            part = file.create_group(f"nodes/{population}")
            part["node_id"] = np.arange(groups.size, dtype=np.uint64)
            part["node_type_id"] = np.array([types[population, group] for group in groups], np.uint32)
            _group_index(part, "node", groups.size)
            names = [*dict.fromkeys(groups.tolist())]
            part["0/cell_type"] = np.array([names.index(group) for group in groups], np.uint32)
            part["0/@library/cell_type"] = np.array(names, h5py.string_dtype())
            if population == "neurons":
                for axis, values in places.items():
                    part[f"0/{axis}"] = values
                for name, values in _dynamics(network, initial_potentials).items():
                    part[f"0/dynamics_params/{name}"] = values
    blocks = {
        (matrix, pre, post): FIRST_TYPE + k for k, ((pre, post), (matrix, *_)) in enumerate(connectome.blocks().items())
    }
    with h5py.File(folder / "edges.h5", "w") as file:
        _head(file)
        for matrix, (source, target) in ENDS.items():
            pre, post = np.nonzero(connectome.connectivity[matrix])
            part = file.create_group(f"edges/{source}_to_{target}")
            for end, population, ids in (("source", source, pre), ("target", target, post)):
                part[f"{end}_node_id"] = ids.astype(np.uint64)
                part[f"{end}_node_id"].attrs["node_population"] = population
            ends = zip(nodes[source][pre].tolist(), nodes[target][post].tolist(), strict=True)
            part["edge_type_id"] = np.array([blocks[matrix, *pair] for pair in ends], np.uint32)
            _group_index(part, "edge", pre.size)
            part["0/syn_weight"] = _weights(network, connectome, matrix)[pre, post]
            part["0/probability"] = connectome.probabilities[matrix][pre, post].astype(np.float32)
    (folder / "node_types.csv").write_text(_node_types(connectome, types), encoding="utf-8")
    (folder / "edge_types.csv").write_text(_edge_types(network, blocks), encoding="utf-8")
    (folder / "circuit_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def _head(file: Any) -> None:
    file.attrs["magic"], file.attrs["version"] = np.uint32(MAGIC), np.array(VERSION, np.uint32)


def _group_index(part: Any, what: str, size: int) -> None:
    """All are of group 0, in their order."""
    part[f"{what}_group_id"] = np.zeros(size, np.uint32)
    part[f"{what}_group_index"] = np.arange(size, dtype=np.uint64)
    part.create_group("0")


def _places(positions: ArrayLike | None, n: int) -> dict[str, NDArray[np.float64]]:
    if positions is None:
        return {}
    points = np.asarray(positions, np.float64)
    if points.ndim != 2 or points.shape[0] != n or points.shape[1] not in (2, 3) or not np.isfinite(points).all():
        raise ValueError(f"positions must be finite and have the shape ({n}, 2) or ({n}, 3); got {points.shape}.")
    return dict(zip("xyz", np.pad(points, ((0, 0), (0, 3 - points.shape[1]))).T, strict=True))


def _nodes(connectome: Connectome) -> tuple[dict[str, NDArray[np.str_]], dict[tuple[str, str], int]]:
    """The group of every node by population, and a number for every population and group."""
    groups, observed = connectome.groups, connectome.probabilities["input"].shape[0]
    last = observed + connectome.excitatory.size
    nodes = {"observation": groups[:observed], "neurons": groups[observed:last], "output": groups[last:]}
    pairs = dict.fromkeys((population, group) for population, part in nodes.items() for group in part.tolist())
    return nodes, {pair: FIRST_TYPE + k for k, pair in enumerate(pairs)}


def _dynamics(network: RSNN, initial_potentials: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """What NEST's iaf_psc_exp takes: with C_m = tau_m, a constant current is the potential that it leads to."""
    tau_m, tau_syn, threshold, t_ref = (network.each(name) for name in ("tau_m", "tau_syn", "threshold", "t_ref"))
    zero = np.zeros(network.n_neurons)
    return {"C_m": tau_m, "tau_m": tau_m, "tau_syn_ex": tau_syn, "tau_syn_in": tau_syn, "V_th": threshold,
            "t_ref": t_ref, "E_L": zero, "V_reset": zero, "V_m": initial_potentials.astype(np.float64)}  # fmt: skip


def _weights(network: RSNN, connectome: Connectome, matrix: str) -> NDArray[np.float32]:
    """Sign times R_in, R_h or R_out, (pre, post)."""
    observed, n = connectome.probabilities["input"].shape[0], network.n_neurons
    signs = connectome.signs[:observed] if matrix == "input" else connectome.signs[observed : observed + n]
    gain = network.constants(observed // 2)[("input", "recurrent", "output").index(matrix) + 3]
    shape = connectome.probabilities[matrix].shape
    return np.asarray(signs[:, None] * np.broadcast_to(np.asarray(gain, np.float32), shape), np.float32)


def _node_types(connectome: Connectome, types: Mapping[tuple[str, str], int]) -> str:
    signs = dict(zip(connectome.groups.tolist(), connectome.signs.tolist(), strict=True))
    rows = [("node_type_id", "population", "cell_type", "ei", "model_type", "model_template")]
    for (population, group), number in types.items():
        ei = {1: "e", -1: "i", 0: "NULL"}[signs[group]]
        model = ("point_neuron", "nest:iaf_psc_exp") if population == "neurons" else ("virtual", "NULL")
        rows.append((str(number), population, group, ei, *model))
    return _table(rows)


def _edge_types(network: RSNN, blocks: Mapping[tuple[str, str, str], int]) -> str:
    rows = [("edge_type_id", "population", "source_query", "target_query", "delay", "model_template")]
    for (matrix, pre, post), number in blocks.items():
        queries = f"cell_type=={pre!r}", f"cell_type=={post!r}"
        rows.append((str(number), "_to_".join(ENDS[matrix]), *queries, str(float(network.dt)), "nest:static_synapse"))
    return _table(rows)


def _table(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=" ", lineterminator="\n").writerows(rows)
    return text.getvalue()
