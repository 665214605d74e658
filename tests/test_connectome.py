"""Wiring as data, and anatomical priors: against networkx, exhaustive counts and known answers."""

import itertools
from dataclasses import dataclass
from types import MappingProxyType

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from ecpolicy import EvolvingConnectivityPolicy, load
from ecpolicy.anatomy import block_probabilities, distance_probabilities, grid, ring
from ecpolicy.connectome import Connectome, covariance_across_seeds
from ecpolicy.networks import RSNN, Shape
from ecpolicy.triads import triad_counts, triad_names

SMALL = {"n_generations": 2, "population_size": 16, "max_episode_steps": 30, "network": RSNN(20), "random_state": 0}


def random_connectome(seed=0, n=20, excitatory=12):
    generator = np.random.default_rng(seed)
    sizes = {"input": (6, n), "recurrent": (n, n), "output": (n, 2)}
    probabilities = {name: generator.random(size).astype(np.float32) for name, size in sizes.items()}
    return Connectome(probabilities, np.arange(n) < excitatory)


@pytest.fixture(scope="module")
def policy():
    return EvolvingConnectivityPolicy(**SMALL).fit("CartPole-v1")


def test_a_policys_connectome_is_its_connectivity(policy):
    connectome = policy.connectome_
    for name, present in policy.connectivity_.items():
        np.testing.assert_array_equal(connectome.connectivity[name], present)
    np.testing.assert_array_equal(connectome.excitatory, policy.excitatory_)


def test_sparse_frame_and_graph_agree():
    connectome = random_connectome()
    frame, graph, sparse = connectome.to_pandas(), connectome.to_networkx(), connectome.to_sparse("sign")
    assert len(frame) == graph.number_of_edges() == sparse.nnz == sum(p.sum() for p in connectome.connectivity.values())
    assert list(connectome.names[:4]) == ["observation0", "observation1", "observation2", "-observation0"]
    assert list(connectome.names[-4:]) == ["I18", "I19", "output0", "output1"]
    position = {name: index for index, name in enumerate(connectome.names)}
    for row in frame.sample(50, random_state=0).itertuples():
        edge = graph.edges[row.pre, row.post]
        assert edge["sign"] == row.sign == sparse[position[row.pre], position[row.post]]
        assert edge["probability"] == pytest.approx(row.probability)
    assert graph.nodes["E3"]["group"] == "E"
    dense = connectome.to_sparse("probability").toarray()
    np.testing.assert_array_equal(dense[6:26, 6:26], connectome.probabilities["recurrent"])
    np.testing.assert_array_equal(dense[26:], 0)
    everything = connectome.to_pandas(absent=True)
    assert len(everything) == 6 * 20 + 20 * 20 + 20 * 2
    assert everything["present"].sum() == len(frame)
    with pytest.raises(ValueError, match="values must be"):
        connectome.to_sparse("weight")


def test_densities_and_degrees_are_those_of_the_frame():
    connectome = random_connectome(1)
    frame = connectome.to_pandas(absent=True)
    wanted = frame.groupby(["pre_group", "post_group"])["present"].mean()
    densities = connectome.densities()
    assert len(densities) == len(wanted) == 10
    for pair, density in densities.items():
        assert density == pytest.approx(wanted[pair])
    means = frame.groupby(["pre_group", "post_group"])["probability"].mean()
    for pair, mean in connectome.mean_probabilities().items():
        assert mean == pytest.approx(means[pair], rel=1e-5)
    degrees, graph = connectome.degrees(), connectome.to_networkx()
    neurons = connectome.names[6:26]
    for index, name in enumerate(neurons):
        sources = [source for source in graph.predecessors(name) if source in set(neurons)]
        assert degrees.incoming_excitatory[index] == sum(source.startswith("E") for source in sources)
        assert degrees.incoming_inhibitory[index] == sum(source.startswith("I") for source in sources)
        targets = [target for target in graph.successors(name) if target in set(neurons)]
        assert degrees.outgoing_excitatory[index] == sum(target.startswith("E") for target in targets)
        assert degrees.outgoing_inhibitory[index] == sum(target.startswith("I") for target in targets)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.85])
def test_triads_are_those_of_networkx(density):
    generator = np.random.default_rng(2)
    present = generator.random((18, 18)) < density
    wanted = nx.triadic_census(nx.DiGraph((present & ~np.eye(18, dtype=bool)).astype(int)))
    assert dict(zip(triad_names(), triad_counts(present).tolist(), strict=True)) == wanted


def test_a_planted_motif_stands_out_and_the_reference_keeps_the_densities():
    connectome = random_connectome(3, n=30, excitatory=18)
    flat = connectome.triads(n_random=50, seed=1)
    assert np.nanmax(np.abs(flat.z_scores)) < 5
    edges = [2 * int(name[0]) + int(name[1]) for name in triad_names()]
    assert edges @ flat.random_mean == pytest.approx(edges @ flat.counts)  # as many connections in every random graph
    recurrent = np.full((30, 30), 0.1, np.float32)
    for start in range(0, 30, 3):  # ten feed-forward loops
        for i, j in ((0, 1), (0, 2), (1, 2)):
            recurrent[start + i, start + j] = 0.9
    planted = Connectome({**connectome.probabilities, "recurrent": recurrent}, connectome.excitatory)
    census = planted.triads(n_random=50, seed=1)
    assert census.z_scores[triad_names().index("030T")] > 5
    assert np.isnan(census.z_scores[triad_names().index("300")])  # in none of the graphs


def test_pair_covariances_are_those_of_an_exhaustive_count():
    p = random_connectome(4, n=7, excitatory=4)
    d = p.probabilities["recurrent"].astype(np.float64)
    n, off = 7, ~np.eye(7, dtype=bool)
    d = d - d[off].mean()
    triples = list(itertools.permutations(range(n), 3))
    wanted = {
        "reciprocal": np.mean([d[i, j] * d[j, i] for i, j in itertools.permutations(range(n), 2)]),
        "convergent": np.mean([d[i, k] * d[j, k] for i, j, k in triples]),
        "divergent": np.mean([d[k, i] * d[k, j] for i, j, k in triples]),
        "chain": np.mean([d[i, k] * d[k, j] for i, j, k in triples]),
    }
    assert p.pair_covariances() == pytest.approx(wanted)


def test_covariance_across_seeds():
    connectomes = [random_connectome(seed) for seed in range(6)]
    with pytest.warns(UserWarning, match="has rank 5 at most: for all 10 directions give at least 11 networks"):
        found = covariance_across_seeds(connectomes)
    assert found.rank == 5
    names, covariance = found
    values = np.array([[c.mean_probabilities()[name] for name in names] for c in connectomes])
    np.testing.assert_allclose(covariance, np.cov(values.T))
    names, covariance = covariance_across_seeds(connectomes, Connectome.pair_covariances)
    assert covariance.shape == (4, 4)
    with pytest.raises(ValueError, match="at least two"):
        covariance_across_seeds(connectomes[:1])


def test_fixed_connections_stay_and_others_are_searched(tmp_path):
    prior = block_probabilities(20, {("E", "I"): 0.2, ("I", "I"): 0.0})
    prior[:3, :3] = 1.0
    policy = EvolvingConnectivityPolicy(
        **{**SMALL, "n_generations": 4, "keep_best": False}, learning_rate=0.3, initial_probability={"recurrent": prior}
    ).fit("CartPole-v1")
    probabilities = policy.connection_probabilities_["recurrent"]
    np.testing.assert_array_equal(probabilities[10:, 10:], 0)
    np.testing.assert_array_equal(probabilities[:3, :3], 1)
    searched = (prior > 0) & (prior < 1)
    assert np.ptp(probabilities[searched]) > 0.9
    assert probabilities[searched].min() == np.float32(policy.eps)
    policy.save(tmp_path / "prior.ecp")
    again = load(tmp_path / "prior.ecp").set_params(n_generations=6, warm_start=True).fit("CartPole-v1")
    policy.set_params(n_generations=6, warm_start=True).fit("CartPole-v1")
    for name, p in policy.connection_probabilities_.items():
        np.testing.assert_array_equal(again.connection_probabilities_[name], p)
    np.testing.assert_array_equal(again.connection_probabilities_["recurrent"][10:, 10:], 0)


@dataclass(frozen=True)
class Unsigned:
    """A layer without excitatory and inhibitory neurons."""

    def shapes(self, obs_size, n_outputs):
        return {"output": Shape(2 * obs_size, n_outputs)}

    def initial_state(self, keys, n_outputs):
        return ()

    def step(self, connections, state, x, output, *, owners, rows):
        output[rows] = 1


def test_an_own_network_after_a_spiking_one_has_no_connectome():
    policy = EvolvingConnectivityPolicy(**SMALL).fit("CartPole-v1")
    policy.set_params(network=Unsigned()).fit("CartPole-v1")
    assert policy.excitatory_ is None
    with pytest.raises(TypeError, match="no excitatory and inhibitory"):
        policy.connectome_.degrees()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"hidden": 0.5}, "names the matrices"),
        ({"recurrent": np.zeros((3, 4))}, "of shape \\(20, 20\\)"),
        ({"recurrent": np.full((20, 20), 1.5)}, r"must lie in \[0, 1\]"),
        ({"recurrent": np.full((20, 20), np.nan)}, r"must lie in \[0, 1\]"),
        ({"output": "all"}, "array of numbers"),
    ],
)
def test_a_wrong_prior_is_named(prior, message):
    with pytest.raises(ValueError, match=message):
        EvolvingConnectivityPolicy(**SMALL, initial_probability=prior).fit("CartPole-v1")


def test_blocks_and_distances():
    blocks = block_probabilities(10, {("E", "I"): 0.1, ("I", "E"): 0.9}, excitatory_ratio=0.3, otherwise=0.4)
    assert (blocks[:3, 3:] == np.float32(0.1)).all()
    assert (blocks[3:, :3] == np.float32(0.9)).all()
    assert (blocks[:3, :3] == np.float32(0.4)).all()
    with pytest.raises(ValueError, match="'X'"):
        block_probabilities(10, {("E", "X"): 0.1})
    positions = grid(9)
    np.testing.assert_array_equal(positions[5], [1, 2])
    p = distance_probabilities(positions, length=2.0, peak=0.8, reach=1.0)
    assert p[4, 5] == pytest.approx(0.8 * np.exp(-0.5))
    assert p[4, 8] == 0  # a diagonal away
    assert (np.diag(p) == 0).all()
    assert np.diag(distance_probabilities(positions, length=2.0, peak=0.8, self_connections=True)) == pytest.approx(0.8)
    free = distance_probabilities(positions, length=1e-3, self_connections=True)  # none is fixed but by its reach
    assert ((free > 0) & (free < 1)).all()
    around = ring(8, circumference=4.0)
    np.testing.assert_allclose(np.linalg.norm(around, axis=1), 4 / (2 * np.pi))
    with pytest.raises(ValueError, match="length must be above 0"):
        distance_probabilities(positions, length=0.0)
    with pytest.raises(ValueError, match="Probabilities must lie in"):
        distance_probabilities(positions, length=1.0, peak=2.0, self_connections=True)


def test_neurons_must_be_sorted():
    with pytest.raises(ValueError, match="Excitatory neurons must come first"):
        Connectome(random_connectome().probabilities, np.arange(20) % 2 == 0)


@pytest.mark.parametrize("kind", [dict, pd.DataFrame, MappingProxyType])
def test_any_array_is_a_prior_that_can_be_saved(kind, tmp_path):
    table = block_probabilities(20, {("I", "I"): 0.0}).astype(np.float64)
    prior = kind({"recurrent": table}) if kind is not pd.DataFrame else {"recurrent": pd.DataFrame(table)}
    policy = EvolvingConnectivityPolicy(**SMALL, initial_probability=prior).fit("CartPole-v1")
    policy.save(tmp_path / "p.ecp")
    again = load(tmp_path / "p.ecp")
    np.testing.assert_array_equal(again.initial_probability["recurrent"], np.float32(table))
    for name, p in policy.search_probabilities_.items():
        np.testing.assert_array_equal(again.search_probabilities_[name], p)


@pytest.mark.parametrize("random_state", range(4))
def test_what_is_forbidden_later_is_absent_at_once(random_state):
    policy = EvolvingConnectivityPolicy(**{**SMALL, "random_state": random_state, "learning_rate": 0.3})
    policy.fit("CartPole-v1")
    prior = {"recurrent": block_probabilities(20, {("I", "I"): 0.0})}
    policy.set_params(initial_probability=prior, warm_start=True, n_generations=3).fit("CartPole-v1")
    assert not policy.connectivity_["recurrent"][10:, 10:].any()
    assert not policy.search_probabilities_["recurrent"][10:, 10:].any()
