"""A network as a SONATA circuit: read back by h5py alone, by libsonata, and as a prior."""

import csv

import h5py
import libsonata
import numpy as np
import pytest

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.anatomy import grid, sonata_probabilities
from ecpolicy.cli import main
from ecpolicy.networks import RSNN, IntegerRSNN, RealRSNN
from probes import Match

COLUMN = {"Pyr": (0.6, 1), "PV": (0.2, -1), "SST cell": (0.2, -1)}
NETWORK = RSNN(20, cell_types=COLUMN, tau_m={"PV": 5.0}, tau_syn=np.linspace(2, 9, 20), t_ref={"Pyr": 2.0})
SETTINGS = {"n_generations": 1, "population_size": 8, "eval_episodes": 1, "confirm_episodes": 1, "random_state": 0}
ENDS = {"input": ("observation", "neurons"), "recurrent": ("neurons", "neurons"), "output": ("neurons", "output")}


@pytest.fixture(scope="module")
def policy():
    return EvolvingConnectivityPolicy(network=NETWORK, **SETTINGS).fit(Match)


@pytest.fixture(scope="module")
def folder(policy, tmp_path_factory):
    path = tmp_path_factory.mktemp("circuit") / "match.sonata"
    policy.to_sonata(path, positions=grid(20))
    return path


def types(path):
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, delimiter=" ")
    return {int(row[0]): dict(zip(header, row, strict=True)) for row in rows}


def test_files_have_every_connection_and_no_other(policy, folder):
    nodes, edges = h5py.File(folder / "nodes.h5"), h5py.File(folder / "edges.h5")
    wiring = policy.connectome_
    constants = dict(zip(ENDS, NETWORK.constants(wiring.probabilities["input"].shape[0] // 2)[3:6], strict=True))
    signs = {"observation": wiring.signs[: len(wiring.probabilities["input"])], "neurons": 2.0 * wiring.excitatory - 1}
    for file in (nodes, edges):
        assert file.attrs["magic"] == 0x0A7A
        assert file.attrs["version"].tolist() == [0, 1]
    for name, (source, target) in ENDS.items():
        part, p = edges[f"edges/{source}_to_{target}"], wiring.probabilities[name]
        ends = part["source_node_id"], part["target_node_id"]
        assert [end.attrs["node_population"] for end in ends] == [source, target]
        pre, post = (end[:] for end in ends)
        np.testing.assert_array_equal(np.stack([pre, post], 1), np.argwhere(p > 0.5))
        index = part["edge_group_index"][:]
        np.testing.assert_array_equal(part["0/probability"][:][index], p[pre, post])
        gain = np.broadcast_to(constants[name], p.shape[1])
        np.testing.assert_array_equal(part["0/syn_weight"][:][index], np.float32(signs[source][pre] * gain[post]))
        assert (pre.max() < nodes[f"nodes/{source}/node_id"].size, part["edge_group_id"][:].any()) == (True, False)


def test_types_say_what_nodes_and_edges_are(policy, folder):
    nodes, edges = h5py.File(folder / "nodes.h5"), h5py.File(folder / "edges.h5")
    of_node, of_edge = types(folder / "node_types.csv"), types(folder / "edge_types.csv")
    named = {}
    for population in ("observation", "neurons", "output"):
        rows = [of_node[number] for number in nodes[f"nodes/{population}/node_type_id"][:].tolist()]
        assert {row["population"] for row in rows} == {population}
        named[population] = [row["cell_type"] for row in rows]
        library = nodes[f"nodes/{population}/0/@library/cell_type"].asstr()[:]
        assert library[nodes[f"nodes/{population}/0/cell_type"][:]].tolist() == named[population]
    assert named["neurons"] == NETWORK.types.tolist()
    assert [name for part in named.values() for name in part] == policy.connectome_.groups.tolist()
    signs = {row["cell_type"]: row["ei"] for row in of_node.values()}
    assert (signs["Pyr"], signs["SST cell"], signs["-observation"]) == ("e", "i", "i")
    neurons = nodes["nodes/neurons/0"]
    np.testing.assert_array_equal(neurons["dynamics_params/tau_m"], [10.0] * 12 + [5.0] * 4 + [10.0] * 4)
    np.testing.assert_array_equal(neurons["dynamics_params/tau_syn_in"], np.linspace(2, 9, 20))
    np.testing.assert_array_equal(neurons["dynamics_params/t_ref"], [2.0] * 12 + [0.0] * 8)
    np.testing.assert_array_equal(np.stack([neurons[axis][:] for axis in "xyz"], 1)[:, :2], grid(20))
    for name, (source, target) in ENDS.items():
        part = edges[f"edges/{source}_to_{target}"]
        columns = (part[key][:] for key in ("edge_type_id", "source_node_id", "target_node_id"))
        for number, pre, post in zip(*columns, strict=True):
            row = of_edge[int(number)]
            assert row["population"] == f"{source}_to_{target}", name
            assert row["source_query"] == f"cell_type=={named[source][pre]!r}"
            assert row["target_query"] == f"cell_type=={named[target][post]!r}"


def test_libsonata_reads_the_same_circuit(policy, folder):
    circuit = libsonata.CircuitConfig.from_file(folder / "circuit_config.json")
    assert circuit.node_populations == {"observation", "neurons", "output"}
    neurons = circuit.node_population("neurons")
    everyone = neurons.select_all()
    assert neurons.get_attribute("cell_type", everyone).tolist() == NETWORK.types.tolist()
    np.testing.assert_array_equal(neurons.get_dynamics_attribute("tau_m", everyone), NETWORK.each("tau_m"))
    for name, (source, target) in ENDS.items():
        edges = circuit.edge_population(f"{source}_to_{target}")
        assert (edges.source, edges.target) == (source, target)
        there = edges.select_all()
        present = np.zeros(policy.connectivity_[name].shape, bool)
        present[edges.source_nodes(there), edges.target_nodes(there)] = True
        np.testing.assert_array_equal(present, policy.connectivity_[name])
        assert edges.size == present.sum()


def test_edges_are_a_prior_again(policy, folder, tmp_path):
    p = policy.connection_probabilities_["recurrent"]
    again = sonata_probabilities(folder / "edges.h5", (20, 20), population="neurons_to_neurons", absent=0.25)
    np.testing.assert_array_equal(again, np.where(p > 0.5, p, np.float32(0.25)))
    with h5py.File(tmp_path / "twice.h5", "w") as file:
        part = file.create_group("edges/a_to_b")
        part["source_node_id"], part["target_node_id"] = [0, 0, 1, 1], [2, 2, 0, 1]
        part["edge_group_id"], part["edge_group_index"] = [0, 1, 0, 1], [1, 1, 0, 0]
        part.create_group("0")
        part["1/probability"] = [0.3, 0.9]
    found = sonata_probabilities(tmp_path / "twice.h5", (2, 3), present=0.6)
    np.testing.assert_array_equal(found, np.float32([[0, 0, 0.9], [0.6, 0.3, 0]]))
    with pytest.raises(ValueError, match=r"shape must hold all nodes, up to \(2, 3\); got \(2, 2\)"):
        sonata_probabilities(tmp_path / "twice.h5", (2, 2))
    with pytest.raises(ValueError, match=r"population must be one of .*'neurons_to_output'.*; got None"):
        sonata_probabilities(folder / "edges.h5", (20, 20))


def test_the_command_writes_the_same(policy, folder, tmp_path, capsys):
    policy.save(tmp_path / "policy.ecp")
    out = tmp_path / "wiring.sonata"
    assert main(["export", str(tmp_path / "policy.ecp"), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    for name in ("edges.h5", "node_types.csv", "edge_types.csv", "circuit_config.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()


def test_what_cannot_be_written_says_why(policy, tmp_path):
    with pytest.raises(ValueError, match=r"positions must be finite and have the shape \(20, 2\) or \(20, 3\); got"):
        policy.to_sonata(tmp_path, positions=grid(19))
    real = ESPolicy(network=RealRSNN(8), n_generations=1, population_size=4).fit(Match)
    whole = EvolvingConnectivityPolicy(network=IntegerRSNN(8), **SETTINGS).fit(Match)
    for other in (real, whole):
        with pytest.raises(TypeError, match=r"wanted RSNN, .* SONATA's point neurons are differential equations"):
            other.to_sonata(tmp_path)
    assert not list(tmp_path.iterdir())
