"""Wiring by type, distance and seed, lesions, and their pictures: against known answers and numbers drawn."""

import dataclasses
import io
import re

import matplotlib as mpl
import networkx as nx
import numpy as np
import pytest
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from test_connectome import Unsigned, random_connectome

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.across_seeds import covariance_across_seeds, stability
from ecpolicy.anatomy import distance_probabilities, ring
from ecpolicy.connectome import Connectome
from ecpolicy.inspection import (
    BlockDisplay,
    DegreeDisplay,
    DistanceDisplay,
    LesionDisplay,
    MotifDisplay,
    NetworkDisplay,
    StabilityDisplay,
    lesion_returns,
    lesioned,
    record_activity,
)
from ecpolicy.networks import RSNN
from ecpolicy.triads import triad_counts, triad_edges, triad_names
from probes import SEED, Match

SMALL = {"network": RSNN(30), "population_size": 32, "n_generations": 12, "eval_episodes": 2, "confirm_episodes": 4,
         "random_state": SEED}  # fmt: skip
TYPES = np.array(["Pyr"] * 7 + ["SC"] * 5 + ["SST"] * 8)


def typed_connectome():
    return dataclasses.replace(random_connectome(SEED), types=TYPES)


@pytest.fixture(scope="module")
def policy():
    return EvolvingConnectivityPolicy(**SMALL).fit(Match)


@pytest.fixture(autouse=True)
def _closed_figures():
    mpl.use("Agg")
    yield
    plt.close("all")


def test_types_are_the_groups_of_every_table():
    wiring = typed_connectome()
    frame, table = wiring.to_pandas(absent=True), wiring.by_block().to_pandas()
    wanted = frame.groupby(["pre_group", "post_group"]).agg(
        possible=("present", "size"), present=("present", "sum"), density=("present", "mean"),
        mean_probability=("probability", "mean"),
    )  # fmt: skip
    assert len(table) == len(wanted) == 2 * 3 + 3 * 3 + 3
    for row in table.itertuples():
        np.testing.assert_allclose(row[3:], wanted.loc[row.pre, row.post], rtol=1e-5)
    assert wiring.densities()["SST", "Pyr"] == pytest.approx(wanted.loc["SST", "Pyr"]["density"])
    assert set(wiring.names[6:26]) == {f"{kind}{index}" for index, kind in enumerate(TYPES)}
    signs = dict(zip(wiring.names, wiring.signs, strict=True))
    assert (signs["SC11"], signs["SST12"], signs["observation0"], signs["-observation2"], signs["output1"]) == (
        1, -1, 1, -1, 0,
    )  # fmt: skip


def test_random_graphs_keep_the_densities_between_types():
    wiring = typed_connectome()
    census = wiring.triads(n_random=3)
    edges = [2 * int(name[0]) + int(name[1]) for name in triad_names()]
    assert edges @ census.random_mean == pytest.approx(edges @ census.counts)
    table = census.to_pandas()
    assert table.loc[3, "triad"] == "021D"
    np.testing.assert_array_equal(table["z_score"], census.z_scores)


def test_triads_have_their_edges():
    for name in triad_names():
        present = np.zeros((3, 3), bool)
        for edge in triad_edges(name):
            present[edge] = True
        assert triad_names()[triad_counts(present).argmax()] == name


def test_results_print_as_one_line():
    wiring = random_connectome(SEED)
    profile = wiring.by_distance(ring(20))
    same = stability([wiring, wiring])
    found = [wiring.by_block(), wiring.degrees(), wiring.triads(n_random=5), profile, same]
    for result in found:
        assert "\n" not in repr(result)
        assert repr(result).startswith(type(result).__name__)
    assert "z-scores against 5 random graphs of the same block densities" in repr(found[2])
    assert "none" in repr(wiring.triads(n_random=0))
    many = dataclasses.replace(wiring, types=np.repeat([f"t{k}" for k in range(10)], 2), excitatory=np.ones(20, bool))
    blocks = many.by_block()
    densities = blocks.density
    low, high = (rf"\S+ to \S+ {extreme:.3f}" for extreme in (densities.min(), densities.max()))
    assert re.fullmatch(rf"Blocks\(130, density {low} up to {high}\)", repr(blocks))
    one = Connectome(
        {"input": np.ones((2, 1)), "recurrent": np.ones((1, 1)), "output": np.ones((1, 1))}, np.ones(1, bool)
    )
    assert repr(one.by_distance(np.zeros((1, 2)))) == "DistanceProfile(0 pairs up to 0)"
    assert len(one.by_distance(np.zeros((1, 2))).to_pandas()) == 10


def test_lesions_and_activity_print_as_one_line_however_many_there_are(policy):
    found = lesion_returns(policy, Match, range(12), n_episodes=1)
    assert repr(found).startswith(
        f"Lesions(mean return over 1 episodes {found.returns[0, 0]:.1f}; costliest of 12 lesions:"
    )
    assert repr(found).count("neuron") == 10
    activity = record_activity(policy, Match)
    table = activity.to_pandas()
    np.testing.assert_array_equal(table["rate"], activity.rates)
    np.testing.assert_array_equal(table["sign"], np.where(policy.excitatory_, 1, -1))
    assert table["spikes"].sum() == activity.spikes.sum()


def test_densities_by_distance():
    positions = ring(20, circumference=20)
    p = distance_probabilities(positions, length=1e9, peak=0.9, reach=1.5)  # a neighbour at each side
    wiring = Connectome({**random_connectome().probabilities, "recurrent": p}, np.arange(20) < 12)
    profile = wiring.by_distance(positions, bins=4)
    assert profile.pairs.sum() == 20 * 19
    assert profile.density[0] * profile.pairs[0] == pytest.approx(40)
    assert (profile.density[1:] == 0).all()
    assert profile.to_pandas()["mean_probability"][0] == pytest.approx(0.9 * 40 / profile.pairs[0])
    with pytest.raises(ValueError, match=r"positions must have the shape \(20, dimensions\), got \(19, 2\)"):
        wiring.by_distance(ring(19))


def test_stability_is_that_of_chance_or_more():
    def drawn(seed, p):
        present = np.random.default_rng(seed).random((40, 40)) < p
        sizes = {"input": np.zeros((2, 40)), "recurrent": present, "output": np.zeros((40, 1))}
        return Connectome({k: np.float32(v) for k, v in sizes.items()}, np.arange(40) < 20)

    alone = stability([drawn([SEED, seed], 0.3) for seed in range(10)], ["recurrent"])
    assert alone.connections.sum() == alone.by_chance.sum().round(6) == 1600
    assert alone.connections @ np.arange(11) == pytest.approx(alone.by_chance @ np.arange(11))
    assert alone.variance_ratio == pytest.approx(1, abs=0.2)
    tied = np.random.default_rng(SEED).random((40, 40))  # places that are likely in all trainings
    shared = stability([drawn([SEED, seed], tied) for seed in range(10)], ["recurrent"])
    assert shared.variance_ratio > 3
    np.testing.assert_array_equal(shared.to_pandas()["connections"], shared.connections)
    one = drawn(0, 0.3)
    assert stability([one] * 5, ["recurrent"]).connections[5] == one.connectivity["recurrent"].sum()
    with pytest.raises(ValueError, match="at least two"):
        stability([one])
    with pytest.raises(ValueError, match="Connectome 1 has other groups or sizes"):
        stability([one, random_connectome()])


def test_a_covariance_is_a_table_and_says_its_rank():
    found = covariance_across_seeds(map(random_connectome, range(12)))
    assert found.rank == len(found.names) == 10
    assert found.to_pandas().loc["E to I", "I to E"] == found.covariance[5, 6]
    assert repr(found) == "SeedCovariance(10 features, rank 10)"


def test_a_graph_goes_to_graphml_and_back():
    graph = random_connectome(SEED).to_networkx()
    file = io.BytesIO()
    nx.write_graphml(graph, file)
    file.seek(0)
    again = nx.read_graphml(file)
    assert dict(again.nodes(data=True)) == dict(graph.nodes(data=True))
    assert sorted(again.edges(data="sign")) == sorted(graph.edges(data="sign"))


@pytest.mark.parametrize(
    ("lesion", "left"),
    [
        ("recurrent", {"input": 1, "recurrent": 0, "output": 1}),
        (("E", "I"), {"input": 1, "recurrent": 1, "output": 1}),
        (range(30), {"input": 0, "recurrent": 0, "output": 0}),
    ],
)
def test_a_lesion_removes_what_it_names(policy, lesion, left):
    before = policy.connectivity_
    without = lesioned(policy, lesion)
    for name, present in without.connectivity_.items():
        assert bool(present.any()) == bool(left[name])
        assert not (present & ~before[name]).any()
    if lesion == ("E", "I"):
        changed = before["recurrent"] ^ without.connectivity_["recurrent"]
        np.testing.assert_array_equal(changed[:15, 15:], before["recurrent"][:15, 15:])
        assert changed.sum() == changed[:15, 15:].sum()
    assert policy.connectivity_["recurrent"].any()


def test_lesions_of_groups_types_and_neurons(policy):
    neuron = lesioned(policy, 7).connectivity_
    for present in (neuron["input"][:, 7], neuron["recurrent"][7], neuron["recurrent"][:, 7], neuron["output"][7]):
        assert not present.any()
    np.testing.assert_array_equal(neuron["input"][:, 8], policy.connectivity_["input"][:, 8])
    excitatory = lesioned(policy, "E").connectivity_
    by_number = lesioned(policy, np.arange(15)).connectivity_
    for name, present in excitatory.items():
        np.testing.assert_array_equal(present, by_number[name])
    with pytest.raises(ValueError, match="cannot be resumed"):
        lesioned(policy, 7).set_params(warm_start=True).fit(Match)


def test_what_lesions_cost(policy):
    found = lesion_returns(policy, Match, ["input", ("E", "E"), 3, [4, 5]], n_episodes=6, seed=50)
    assert found.names == ("none", "input", "E to E", "neuron 3", "2 neurons from 4")
    np.testing.assert_array_equal(found.returns[0], policy.episode_returns(Match, n_episodes=6, seed=50)[:, 0])
    blind = lesioned(policy, "input")
    np.testing.assert_array_equal(found.returns[1], blind.episode_returns(Match, n_episodes=6, seed=50)[:, 0])
    assert found.costs[0] == 0
    assert found.costs[1] > 1  # Match pays for what is observed
    assert found.connections[1] == policy.connectivity_["input"].sum()
    differences = found.returns[0] - found.returns[1]
    table = found.to_pandas()
    assert table["standard_error"][1] == pytest.approx(differences.std(ddof=1) / np.sqrt(6))
    every = lesion_returns(policy, Match, n_episodes=1)
    assert len(every.names) == 1 + len(policy.connectome_.blocks())
    assert np.isnan(every.errors).all()


@pytest.mark.parametrize("wrong", ["X", ("E", "X"), 30, -1, 1.5, [], np.zeros(30, bool)])
def test_what_is_no_lesion_is_named(policy, wrong):
    with pytest.raises(ValueError, match=r"A lesion is a matrix .*input, recurrent, output.*numbers from 0 to 29"):
        lesioned(policy, wrong)


def test_lesions_are_of_signed_networks():
    with pytest.raises(TypeError, match="Lesions are of an EvolvingConnectivityPolicy; got ESPolicy"):
        lesioned(ESPolicy(), 0)
    with pytest.raises(NotFittedError):
        lesion_returns(EvolvingConnectivityPolicy(), Match)
    own = EvolvingConnectivityPolicy(**{**SMALL, "network": Unsigned(), "n_generations": 1}).fit(Match)
    with pytest.raises(TypeError, match="no excitatory and inhibitory neurons"):
        lesioned(own, 0)


@pytest.mark.parametrize("style", ["default", "dark_background", "grayscale"])
def test_pictures_show_the_numbers(policy, style):
    wiring = policy.connectome_
    with plt.style.context(style):
        ax = BlockDisplay.from_estimator(policy).ax_
        densities = wiring.densities()
        ends = [(i, j) for i in ("observation", "-observation", "E", "I") for j in ("E", "I", "output")]
        wanted = [f"{densities[pair]:.2f}" for pair in ends if pair in densities]
        assert [text.get_text() for text in ax.texts] == wanted
        degrees = DegreeDisplay.from_estimator(policy)
        heights = degrees.axes_[0].patches[0].get_xy()
        assert heights[:, 1].max() > 0
        census = wiring.triads(n_random=10)
        bars = [bar.get_height() for bar in MotifDisplay(census).plot().ax_.patches[:13]]
        np.testing.assert_allclose(bars, np.nan_to_num(census.z_scores[3:]))
        lines = DistanceDisplay.from_estimator(policy, ring(30)).ax_.lines
        np.testing.assert_array_equal(lines[0].get_ydata(), wiring.by_distance(ring(30)).density)
        seeds = stability([wiring, wiring])
        bars = [bar.get_height() for bar in StabilityDisplay(seeds).plot().ax_.patches]
        np.testing.assert_array_equal(bars, seeds.connections)
        network = NetworkDisplay.from_estimator(policy)
        drawn = sum(len(lines.get_segments()) for lines in network.ax_.collections if hasattr(lines, "get_segments"))
        assert drawn == wiring.to_sparse().nnz
        NetworkDisplay.from_estimator(policy, positions=ring(30)).figure_.savefig(io.BytesIO())


def test_of_many_connections_some_are_drawn():
    dense = random_connectome(SEED, n=80, excitatory=40)
    ax = NetworkDisplay(dense).plot().ax_
    assert sum(len(lines.get_segments()) for lines in ax.collections if hasattr(lines, "get_segments")) == 1500
    total = sum(int(p.sum()) for p in dense.connectivity.values())
    assert f"1,500 of {total:,} connections" in [text.get_text() for text in ax.texts]


def test_pictures_of_lesions(policy):
    few = lesion_returns(policy, Match, [0, 1], n_episodes=2)
    bars = [bar.get_width() for bar in LesionDisplay(few).plot().ax_.patches]
    np.testing.assert_allclose(bars, few.returns[1:].mean(axis=1))
    many = few._replace(names=("none",) + ("n",) * 50, returns=np.tile(few.returns[:1], (51, 1)))
    assert len(LesionDisplay(many).plot().ax_.lines[0].get_xdata()) == 50
    with pytest.raises(ValueError, match="positions must have the shape"):
        NetworkDisplay.from_estimator(policy, positions=ring(3))
    with pytest.raises(ValueError, match="value must be one of"):
        BlockDisplay(policy.connectome_.by_block()).plot(value="sign")
