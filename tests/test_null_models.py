"""Random graphs that motifs are compared with: what they keep, and that all graphs that keep it are as likely."""

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare
from test_connectome import random_connectome
from test_wiring import typed_connectome

from ecpolicy.connectome import Connectome
from ecpolicy.null_models import with_degrees
from ecpolicy.triads import triad_counts, triad_names
from probes import SEED


def drawn(n, density=0.5, seed=SEED):
    present = np.random.default_rng(seed).random((n, n)) < density
    return present & ~np.eye(n, dtype=bool)


def blocks_of(*sizes):
    ends = np.cumsum([0, *sizes])
    parts = [slice(int(low), int(high)) for low, high in itertools.pairwise(ends)]
    return list(itertools.product(parts, parts))


@pytest.mark.parametrize("density", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("sizes", [(64,), (20, 13), (7, 1, 12, 2)])
def test_every_degree_is_kept_in_every_block(sizes, density):
    n = sum(sizes)
    present = drawn(n, density)
    random = with_degrees(present | np.eye(n, dtype=bool), blocks_of(*sizes), np.random.default_rng(SEED))
    assert not np.diag(random).any()
    assert (random != present).any()
    for rows, columns in blocks_of(*sizes):
        for axis in (0, 1):
            np.testing.assert_array_equal(random[rows, columns].sum(axis), present[rows, columns].sum(axis))


CYCLE = [(0, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize(
    ("edges", "sizes", "graphs"),
    [
        (CYCLE, (3,), 2),  # no two rows can trade
        ([(0, 1), (1, 2), (2, 3), (3, 0)], (4,), 9),
        ([(0, 1), (0, 2), (1, 2), (2, 3), (3, 1)], (4,), 4),
        ([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3)], (4,), 8),
        ([*CYCLE, (0, 3), (1, 4)], (3, 2), 4),
    ],
)
def test_all_graphs_with_these_degrees_are_as_likely(edges, sizes, graphs):
    n, blocks, generator = sum(sizes), blocks_of(*sizes), np.random.default_rng(SEED)
    present = np.zeros((n, n), bool)
    present[tuple(zip(*edges, strict=True))] = True
    kept = {random_key(present, blocks)}
    places = np.argwhere(~np.eye(n, dtype=bool))
    alike = set()
    for chosen in itertools.combinations(range(len(places)), len(edges)):
        graph = np.zeros((n, n), bool)
        graph[tuple(places[list(chosen)].T)] = True
        if random_key(graph, blocks) in kept:
            alike.add(graph.tobytes())
    assert len(alike) == graphs
    found = [with_degrees(present, blocks, generator).tobytes() for _ in range(25 * graphs)]
    assert set(found) == alike
    assert chisquare([found.count(graph) for graph in alike]).pvalue > 1e-3


def random_key(graph, blocks):
    """In- and out-degrees in every block."""
    return tuple(tuple(graph[rows, columns].sum(axis)) for rows, columns in blocks for axis in (0, 1))


def test_a_census_keeps_what_it_is_asked_to():
    wiring = typed_connectome()
    alone, between = (wiring.triads(n_random=4, keep=keep) for keep in ("degrees", "block_degrees"))
    assert "4 random graphs of the same degrees" in repr(alone)
    assert "4 random graphs of the same block degrees" in repr(between)
    np.testing.assert_array_equal(alone.counts, wiring.triads(n_random=0).counts)
    edges = [2 * int(name[0]) + int(name[1]) for name in triad_names()]
    for census in (alone, between):
        assert edges @ census.random_mean == pytest.approx(edges @ census.counts)
    assert not np.array_equal(alone.random_mean, between.random_mean)
    with pytest.raises(ValueError, match=r"keep must be one of \['block_degrees', 'block_densities', 'degrees'\]"):
        wiring.triads(keep="weights")


def test_hubs_stand_out_against_densities_and_not_against_degrees():
    n = 40
    likely = np.full((n, n), 0.1)
    likely[:4] = 0.9  # four neurons that send to nearly all: many pairs of targets of one source
    sizes = {"input": np.zeros((2, n)), "recurrent": drawn(n, likely), "output": np.zeros((n, 1))}
    wiring = Connectome({name: np.float32(part) for name, part in sizes.items()}, np.arange(n) < n)
    diverging = triad_names().index("021D")
    assert wiring.triads(n_random=40).z_scores[diverging] > 20
    assert abs(wiring.triads(n_random=40, keep="degrees").z_scores[diverging]) < 4


def test_a_graph_of_its_degrees_alone_has_no_motifs():
    wiring = random_connectome(SEED, n=30, excitatory=18)
    counts = [triad_counts(with_degrees(drawn(30), blocks_of(30), np.random.default_rng(k))) for k in range(2)]
    assert not np.array_equal(*counts)
    assert np.nanmax(np.abs(wiring.triads(n_random=50, keep="degrees").z_scores)) < 5
