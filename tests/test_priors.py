"""Priors that hold: density budgets against exhaustive answers, and what a search leaves of a prior."""

import itertools

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array
from test_connectome import Unsigned, random_connectome

from ecpolicy import EvolvingConnectivityPolicy, load
from ecpolicy.anatomy import block_probabilities, distance_probabilities, edge_probabilities, mixed, ring
from ecpolicy.distributions.budget import LEVELS, budget_blocks, within_budget
from ecpolicy.networks import RSNN
from probes import SEED, Match

BLOCKS = {("E", "E"): 0.05, ("E", "I"): 0.1, ("I", "E"): 0.2, ("I", "I"): 0.4}
SMALL = {"network": RSNN(40), "population_size": 16, "n_generations": 6, "eval_episodes": 1, "confirm_episodes": 1,
         "keep_best": False, "random_state": SEED}  # fmt: skip


def drawn(shape=(12, 9), seed=SEED):
    generator = np.random.default_rng(seed)
    prior = generator.choice(np.float32([0.1, 0.3, 0.5, 0.0, 1.0]), shape)
    return generator.random(shape).astype(np.float32), prior, generator.integers(0, 3, shape)


def block_means(p, blocks):
    return np.bincount(blocks.ravel(), p.ravel().astype(np.float64)) / np.bincount(blocks.ravel())


@pytest.mark.parametrize("eps", [0.0, 0.01, 0.2])
def test_a_budget_keeps_means_and_bounds_and_is_kept(eps):
    rho, prior, blocks = drawn()
    held = within_budget(rho, prior, blocks, eps)
    np.testing.assert_allclose(block_means(held, blocks), block_means(prior, blocks), atol=2e-6)
    fixed = (prior == 0) | (prior == 1)
    np.testing.assert_array_equal(held[fixed], prior[fixed])
    assert (held >= np.where(fixed, 0, 2 * eps * prior) - 1e-7).all()
    assert (held <= np.where(fixed, 1, 1 - 2 * eps * (1 - prior)) + 1e-7).all()
    np.testing.assert_array_equal(within_budget(held, prior, blocks, eps), held)  # bit for bit


def test_a_budget_takes_the_nearest_probabilities():
    rho, prior, _ = drawn((1, 7))
    low, high = 0.1 * prior, 1 - 0.1 * (1 - prior)
    prior[prior == 0] = prior[prior == 1] = 0.5
    low, high = 0.1 * prior[0], 1 - 0.1 * (1 - prior[0])
    wanted = minimize(
        lambda p: np.square(p - rho[0]).sum(), prior[0], bounds=list(zip(low, high, strict=True)), tol=1e-12,
        constraints={"type": "eq", "fun": lambda p: (p - prior[0]).sum()},
    )  # fmt: skip
    held = within_budget(rho, prior, np.zeros_like(prior, np.int64), 0.05)
    np.testing.assert_allclose(held[0], wanted.x, atol=1e-4)


def test_a_block_that_is_decided_has_the_priors_density():
    prior = np.full((20, 50), 0.1, np.float32)
    present = np.arange(1000).reshape(20, 50) % 10 == 0
    held = within_budget(present.astype(np.float32), prior, np.zeros((20, 50), np.int64), 0.01)
    np.testing.assert_array_equal(held > 0.5, present)
    np.testing.assert_allclose(np.unique(held), [0.002, 1 - 0.018], rtol=1e-4)


def test_blocks_are_groups_and_levels():
    groups = np.repeat([0, 1], 15)
    prior = block_probabilities(30, {("E", "I"): 0.1, ("I", "I"): 0.0}, otherwise=0.3)
    prior[:15, :6] = 0.7
    blocks = budget_blocks(prior, groups, groups)
    levels = {(0, 0, 0.7), (0, 0, 0.3), (0, 1, 0.1), (1, 0, 0.3), (1, 1, 0.0)}
    assert blocks.max() + 1 == len(levels)
    cells = zip(np.repeat(groups, 30), np.tile(groups, 30), np.round(prior.ravel().astype(float), 3), strict=True)
    assert len({(*cell, block) for cell, block in zip(cells, blocks.ravel(), strict=True)}) == len(levels)


def test_many_probabilities_are_classes_and_what_is_fixed_takes_none():
    prior = distance_probabilities(ring(60), length=0.1, reach=0.2)
    alike = np.zeros(60, np.int64)
    blocks = budget_blocks(prior, alike, alike)
    open_ = (prior > 0) & (prior < 1)
    members = [prior[open_ & (blocks == block)] for block in np.unique(blocks[open_])]
    assert LEVELS // 2 < len(members) <= LEVELS
    ranges = sorted((part.min(), part.max()) for part in members)
    assert all(high < low for (_, high), (low, _) in itertools.pairwise(ranges))


def test_classes_expect_several_connections():
    generator, alike = np.random.default_rng(SEED), np.zeros(20, np.int64)
    for mean, classes in ((0.01, 1), (0.05, 2), (0.95, 2), (0.2, 10)):
        prior = np.float32(mean + 0.005 * generator.random((20, 20)) - 0.0025)
        assert abs(budget_blocks(prior, alike, alike).max() + 1 - classes) <= 1


def test_a_prior_is_left_without_a_budget_and_kept_with_it(tmp_path):
    prior = {"recurrent": block_probabilities(40, BLOCKS)}
    free = EvolvingConnectivityPolicy(**SMALL, initial_probability=prior).fit(Match)
    means = free.connectome_.mean_probabilities()
    assert all(means[pair] > 1.2 * BLOCKS[pair] for pair in [("E", "E"), ("E", "I")])
    kept = EvolvingConnectivityPolicy(**SMALL, initial_probability=prior, keep_density=True).fit(Match)
    wiring = kept.connectome_
    means, densities = wiring.mean_probabilities(), wiring.densities()
    for pair, p in BLOCKS.items():
        assert means[pair] == pytest.approx(p, abs=1e-5)
        assert densities[pair] == pytest.approx(p, rel=0.2, abs=0.01)
    assert np.ptp(wiring.probabilities["recurrent"][:20, 20:]) > 0.9  # which ones there are is searched for
    assert max(abs(p.mean() - 0.5) for name, p in wiring.probabilities.items() if name != "recurrent") > 1e-3

    kept.save(tmp_path / "kept.ecp")
    again = load(tmp_path / "kept.ecp").set_params(n_generations=8, warm_start=True).fit(Match)
    straight = kept.set_params(n_generations=8).fit(Match)
    for name, p in straight.search_probabilities_.items():
        np.testing.assert_array_equal(again.search_probabilities_[name], p)

    free.set_params(keep_density=True, warm_start=True, n_generations=7).fit(Match)
    assert free.connectome_.mean_probabilities()["E", "I"] == pytest.approx(0.1, abs=1e-5)


def test_a_number_is_kept_in_every_block_and_by_networks_without_groups():
    policy = EvolvingConnectivityPolicy(**SMALL, initial_probability=0.3, keep_density=True).fit(Match)
    assert all(mean == pytest.approx(0.3, abs=1e-5) for mean in policy.connectome_.mean_probabilities().values())
    policy.set_params(network=Unsigned()).fit(Match)
    assert policy.connection_probabilities_["output"].mean() == pytest.approx(0.3, abs=1e-5)


def test_what_is_between_cell_types_is_kept():
    network = RSNN(40, cell_types={"Pyr": (0.5, 1), "PV": (0.3, -1), "SST": (0.2, -1)})
    between = {("Pyr", "PV"): 0.3, ("Pyr", "SST"): 0.3, ("PV", "Pyr"): 0.2, ("SST", "Pyr"): 0.4}
    types, peak = network.types, block_probabilities(network.types, between, otherwise=0.1)
    prior = {"recurrent": distance_probabilities(ring(40), length=0.3, peak=peak)}
    policy = EvolvingConnectivityPolicy(**{**SMALL, "network": network}, initial_probability=prior, keep_density=True)
    means = policy.fit(Match).connectome_.mean_probabilities()
    for pre, post in itertools.product(np.unique(types), repeat=2):
        wanted = prior["recurrent"][np.ix_(types == pre, types == post)].mean()
        assert means[pre, post] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("given", [1, "yes", None])
def test_a_wrong_flag_is_named(given):
    with pytest.raises(TypeError, match="keep_density must be True or False"):
        EvolvingConnectivityPolicy(**SMALL, keep_density=given).fit(Match)


# Tables of types and edges

ATLAS = {("Pyr", "Pyr"): 0.1, ("Pyr", "PV"): 0.4, ("PV", "Pyr"): 0.5}
TYPES = ["Pyr"] * 4 + ["PV"] * 3
WIDE = pd.DataFrame({"Pyr": [0.1, 0.5], "PV": [0.4, np.nan]}, index=["Pyr", "PV"])  # rows presynaptic
LONG = pd.DataFrame([(*ends, p) for ends, p in ATLAS.items()], columns=["pre", "post", "probability"])


def written(tmp_path, text, name="atlas.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_an_atlas_is_a_mapping_a_table_or_a_file(tmp_path):
    wanted = np.full((7, 7), 0.2, np.float32)
    wanted[:4, :4], wanted[:4, 4:], wanted[4:, :4] = 0.1, 0.4, 0.5
    WIDE.to_csv(tmp_path / "wide.csv")
    LONG.to_csv(tmp_path / "long.tsv", index=False, sep="\t")
    for source in (ATLAS, WIDE, LONG, tmp_path / "wide.csv", str(tmp_path / "long.tsv")):
        np.testing.assert_array_equal(block_probabilities(TYPES, source, otherwise=0.2), wanted)
    renamed = LONG.rename(columns={"pre": "source", "post": "target", "probability": "p"})
    found = block_probabilities(TYPES, renamed, otherwise=0.2, columns=("source", "target", "p"))
    np.testing.assert_array_equal(found, wanted)
    shuffled = np.random.default_rng(0).permutation(7)
    mixed_up = block_probabilities(np.array(TYPES)[shuffled], ATLAS, otherwise=0.2)
    np.testing.assert_array_equal(mixed_up, wanted[np.ix_(shuffled, shuffled)])


def test_a_connectome_goes_to_tables_and_graphs_and_back():
    wiring = random_connectome(n=10, excitatory=6)
    neurons, outputs = wiring.names[6:16], wiring.names[16:]
    frame = wiring.to_pandas(absent=True)
    for projection, pre, post in (("recurrent", neurons, None), ("output", neurons, outputs)):
        again = edge_probabilities(frame[frame["projection"] == projection], pre, post)
        np.testing.assert_array_equal(again, wiring.probabilities[projection])
    recurrent = wiring.probabilities["recurrent"]
    graph = wiring.to_networkx().subgraph(neurons.tolist())
    np.testing.assert_array_equal(edge_probabilities(graph, neurons), np.where(recurrent > 0.5, recurrent, 0))
    undirected = nx.Graph([("a", "b")])
    np.testing.assert_array_equal(edge_probabilities(undirected, ["a", "b"], present=0.5), [[0, 0.5], [0.5, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pre,post,probability\na,b,0.5\na,X,0.5\n", r"line 3 of .*atlas.csv, column 'probability': 'X' is none of"),
        ("pre,post,probability\na,b,much\n", r"line 2 of .*: a probability must be a number in \[0, 1\]; got 'much'"),
        ("pre,post,probability\na,b,1.5\n", r"line 2 of .*\[0, 1\]; got '1.5'"),
        ("pre,post,probability\na,b,nan\n", r"line 2 of .*\[0, 1\]; got 'nan'"),
        ("pre,post\na,b\na,b\n", r"line 3 of .*: 'a' to 'b' comes twice"),
        ("pre,post\na,b,c\n", r"line 2 of .* has 3 cells, its header has 2"),
        (",a,b\na,0.1,0.2\nb,0.3,-1\n", r"line 3 of .*, column 'b': .*got '-1'"),
        (",a,c\na,0.1,0.2\n", r"line 2 of .*, column 'c': 'c' is none of the 2 neurons 'a', 'b'"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_in_a_file_is_found(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        edge_probabilities(written(tmp_path, text), ["a", "b"])


def test_what_is_wrong_in_a_table_is_found():
    with pytest.raises(ValueError, match=r"row 2, column 'probability': 'PV' is none of the 1 types of neurons 'Pyr'"):
        block_probabilities(["Pyr"], LONG.drop(index=1))
    with pytest.raises(ValueError, match=r"row 'PV', column 'Pyr': .*got 5.0"):
        block_probabilities(TYPES, WIDE.replace(0.5, 5.0))
    with pytest.raises(ValueError, match=r"row 0, column 'probability': a probability must be .*got None"):
        block_probabilities(TYPES, LONG[["pre", "post"]])
    with pytest.raises(ValueError, match="'a' twice"):
        edge_probabilities([], ["a", "b", "a"])
    with pytest.raises(TypeError, match="Edge 1 must be"):
        edge_probabilities([("a", "b"), ("a",)], ["a", "b"])
    with pytest.raises(TypeError, match=r"Edges are a CSV file.*got int"):
        edge_probabilities(3, ["a"])
    with pytest.raises(ValueError, match=r"comes twice"):
        edge_probabilities(nx.MultiDiGraph([("a", "b"), ("a", "b")]), ["a", "b"])


def test_types_and_distances_together():
    types, positions = np.array(["E", "I"]).repeat(5), ring(10)
    peak = block_probabilities(types, {("E", "I"): 0.9, ("I", "I"): 0.0}, otherwise=0.3)
    length = block_probabilities(types, {("E", "I"): 0.1}, otherwise=0.5)
    p = distance_probabilities(positions, length=length, peak=peak)
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.testing.assert_allclose(p[:5, 5:], 0.9 * np.exp(-distance[:5, 5:] / 0.1), rtol=1e-5)
    assert (p[5:, 5:] == 0).all()
    with pytest.raises(ValueError, match=r"peak must be a number or have the shape \(10, 10\)"):
        distance_probabilities(positions, length=1.0, peak=[0.5] * 3)


def test_mixtures_keep_the_density():
    prior = block_probabilities(TYPES, ATLAS, otherwise=0.2)
    np.testing.assert_array_equal(mixed(prior, 1.0), prior)
    np.testing.assert_allclose(mixed(prior, 0.0), prior.mean(), rtol=1e-6)
    np.testing.assert_allclose(mixed(csr_array(prior), 0.3, flat=0.5), 0.3 * prior + 0.35, rtol=1e-6)
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\]"):
        mixed(prior, 1.1)


def test_a_sparse_array_is_a_prior(tmp_path):
    prior = csr_array(block_probabilities(40, BLOCKS) * (np.arange(40) % 2))
    policy = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 1}, initial_probability={"recurrent": prior})
    policy.fit(Match).save(tmp_path / "sparse.ecp")
    np.testing.assert_array_equal(policy.connection_probabilities_["recurrent"][:, ::2], 0)
    np.testing.assert_array_equal(load(tmp_path / "sparse.ecp").initial_probability["recurrent"], prior.toarray())
