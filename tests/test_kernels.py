"""Compiled kernels against their plain NumPy twins, bit for bit, around word and block edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from ecpolicy.networks import RSNN, reference
from ecpolicy.networks.layout import PLANES, WORD, block_words, pack, unpack, words_per_row
from ecpolicy.networks.network import copied
from ecpolicy.networks.numba import bits as host
from ecpolicy.networks.numba import spiking
from ecpolicy.networks.numba.simd import vectors
from ecpolicy.random import fold_in, key_from_seed
from probes import SEED

WIDTHS = [1, 31, 63, 64, 65, 128, 129, 257]


@given(st.integers(1, 300), st.integers(1, 5), st.randoms(use_true_random=False))
def test_pack_unpack_round_trip(lanes, rows, random):
    bits = np.array([[random.random() < 0.5 for _ in range(lanes)] for _ in range(rows)])
    words = pack(bits)
    assert words.shape == (rows, words_per_row(lanes))
    np.testing.assert_array_equal(unpack(words, lanes), bits)
    assert not unpack(words, words.shape[1] * WORD)[:, lanes:].any()
    assert all(int(words[r, j // WORD]) >> (j % WORD) & 1 == bits[r, j] for r in range(rows) for j in range(lanes))


@given(st.integers(1, 10_000))
def test_rows_are_whole_blocks_and_waste_less_than_one(lanes):
    words = words_per_row(lanes)
    block = block_words(words)
    assert words % block == 0
    assert lanes <= words * WORD < lanes + block * WORD


def make(network, obs_size, n_outputs, density, members, seed=0, recurrent=None):
    generator = np.random.default_rng(seed)
    shapes = network.shapes(obs_size, n_outputs).values()
    dense = [generator.random((members, shape.pre, shape.post)) < density for shape in shapes]
    if recurrent is not None:
        dense[1] = recurrent
    packed = {
        "input": pack(dense[0]),
        "recurrent": pack(dense[1]),
        "output": pack(np.ascontiguousarray(dense[2].swapaxes(1, 2))),
    }
    return dense, packed


def reference_state(state, row, neurons):
    n_outputs = state.readout.shape[1]
    return reference.State(
        state.v[row, :neurons].copy(),
        state.i_syn[row, :neurons].copy(),
        unpack(state.spikes[row], neurons),
        np.zeros(neurons, np.float32),
        np.zeros(n_outputs, np.float32),
        state.held[row, :neurons].copy() if hasattr(state, "held") else 0,
    )


def check_against_reference(network, *, obs_size, n_outputs, steps, scale=1.0, members=2, density=0.5, recurrent=None):
    """Step kernel and reference side by side; returns the most spikes that one substep had."""
    dense, packed = make(network, obs_size, n_outputs, density, members, recurrent=recurrent)
    keys = fold_in(key_from_seed(SEED + 1), np.arange(members))
    state = network.initial_state(keys, n_outputs)
    expected = [reference_state(state, m, network.n_neurons) for m in range(members)]
    rows = np.arange(members)
    output = np.zeros((members, n_outputs), np.float32)
    generator = np.random.default_rng(SEED + 2)
    peak = 0
    for _ in range(steps):
        x = (scale * generator.standard_normal((members, obs_size))).astype(np.float32)
        network.step(packed, state, x, output, owners=rows, rows=rows)
        for m in range(members):
            raster = []
            expected[m], count_filtered, rate_filtered = reference.rsnn_step(
                dense[0][m],
                dense[1][m],
                dense[2][m],
                expected[m],
                x[m],
                n_excitatory=network.n_excitatory,
                substeps=network.substeps,
                constants=network.constants(obs_size),
                raster=raster,
            )
            peak = max(peak, *np.sum(raster, axis=1))
            np.testing.assert_array_equal(unpack(state.spikes[m], network.n_neurons), expected[m].spike)
            np.testing.assert_array_equal(state.v[m, : network.n_neurons], expected[m].v)
            np.testing.assert_array_equal(state.i_syn[m, : network.n_neurons], expected[m].i_syn)
            np.testing.assert_array_equal(output[m], count_filtered)
            np.testing.assert_allclose(output[m], rate_filtered, rtol=1e-4, atol=1e-4 * np.abs(output).max() + 1e-6)
    return peak


@pytest.mark.parametrize("ratio", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize("neurons", WIDTHS)
def test_rsnn_equals_reference_for_a_thousand_substeps(neurons, ratio):
    network = RSNN(n_neurons=neurons, excitatory_ratio=ratio, gain_in=0.3)
    assert network.substeps == 33
    assert check_against_reference(network, obs_size=5, n_outputs=3, steps=31) > 0


@pytest.mark.parametrize(("obs_size", "n_outputs"), [(1, 1), (348, 17), (70, 65)])
def test_rsnn_equals_reference_for_any_sizes(obs_size, n_outputs):
    assert check_against_reference(RSNN(n_neurons=96), obs_size=obs_size, n_outputs=n_outputs, steps=4) > 0


def test_rsnn_equals_reference_with_other_time_constants_and_gains():
    network = RSNN(
        n_neurons=100, excitatory_ratio=0.8, step_ms=7, dt=0.25, tau_syn=3, tau_m=20, tau_out=7, gain_in=1,
        gain_recurrent=2, gain_out=3, density=0.25,
    )  # fmt: skip
    assert network.substeps == 28
    assert check_against_reference(network, obs_size=4, n_outputs=2, steps=20, density=0.25) > 0


@pytest.mark.parametrize("neurons", [1, 65, 129, 257])
def test_rsnn_equals_reference_beside_members_without_recurrent_connections(neurons):
    recurrent = np.zeros((4, neurons, neurons), bool)
    recurrent[1, 0, 0] = recurrent[2, -1, -1] = recurrent[3, neurons // 2] = True  # the first member has none
    network = RSNN(n_neurons=neurons, gain_in=1, gain_recurrent=neurons)
    assert check_against_reference(network, obs_size=5, n_outputs=3, steps=10, members=4, recurrent=recurrent) > 0


def check_one_substep(neurons, ratio, activity, density=0.5):
    """A substep from a random state in which a share of the neurons has just fired; the numbers of both kinds."""
    network = RSNN(n_neurons=neurons, excitatory_ratio=ratio, step_ms=0.5, gain_in=1)
    assert network.substeps == 1
    dense, packed = make(network, 3, 9, density, 1, seed=neurons)
    generator = np.random.default_rng([neurons, int(100 * ratio), int(100 * activity)])
    state = network.initial_state(key_from_seed(SEED)[None], 9)
    state.i_syn[0, :neurons] = generator.standard_normal(neurons)
    state.spikes[:] = pack(generator.random((1, neurons)) < activity)
    before = reference_state(state, 0, neurons)
    x, output, row = (
        generator.standard_normal((1, 3)).astype(np.float32),
        np.zeros((1, 9), np.float32),
        np.zeros(1, int),
    )
    network.step(packed, state, x, output, owners=row, rows=row)
    expected, filtered, _ = reference.rsnn_step(
        *(matrix[0] for matrix in dense),
        before,
        x[0],
        n_excitatory=network.n_excitatory,
        substeps=1,
        constants=network.constants(3),
    )
    np.testing.assert_array_equal(state.v[0, :neurons], expected.v)
    np.testing.assert_array_equal(state.i_syn[0, :neurons], expected.i_syn)
    np.testing.assert_array_equal(state.spikes, pack(expected.spike[None]))  # lanes beyond the neurons stay silent
    np.testing.assert_array_equal(output[0], filtered)
    return int(before.spike[: network.n_excitatory].sum()), int(before.spike[network.n_excitatory :].sum())


@pytest.mark.parametrize("neurons", [1, 15, 63, 64, 65, 127, 128, 129, 255, 256, 257, 320])
def test_a_substep_equals_the_reference_for_any_number_of_spikes(neurons):
    for ratio in (0, 0.3, 0.5, 0.97, 1):
        for activity in (0, 0.02, 0.05, 0.14, 0.28, 0.6, 0.95, 1):
            check_one_substep(neurons, ratio, activity)


@pytest.mark.parametrize(("ratio", "density"), [(1, 1), (0, 0), (0.97, 0.5)])
def test_a_substep_counts_more_groups_of_spikes_than_an_int8_holds(ratio, density):
    assert sum(check_one_substep(2100, ratio, 1, density)) > spiking.GROUP * spiking.GROUPS


@pytest.mark.parametrize("density", [0, 1])
@pytest.mark.parametrize(
    ("neurons", "ratio"), [(126, 0), (127, 0), (128, 0), (127, 1), (128, 1), (254, 0.5), (256, 0.5)]
)
def test_a_substep_equals_the_reference_where_counts_are_the_least_and_largest_of_an_int8(neurons, ratio, density):
    n_excitatory = round(ratio * neurons)
    assert check_one_substep(neurons, ratio, 1, density) == (n_excitatory, neurons - n_excitatory)


def test_a_substep_equals_the_reference_with_and_without_mask_registers(monkeypatch):
    kernel = njit(nogil=True, error_model="numpy")(
        spiking._make_rsnn_step(2, False).py_func
    )  # not the one kept on disk
    here = vectors.has_masks
    monkeypatch.setattr(vectors, "has_masks", lambda context: not here(context))
    monkeypatch.setattr(spiking, "rsnn_step", lambda words: kernel)
    for ratio in (0.3, 0.5):
        for activity in (0, 0.05, 0.28, 1):
            check_one_substep(100, ratio, activity)


def test_silent_network_stays_clear_of_denormals():
    network = RSNN(n_neurons=64)
    _, packed = make(network, 3, 2, 0.5, 1)
    state = network.initial_state(key_from_seed(SEED)[None], 2)
    state.i_syn[:] = 1e-3
    output, zero = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
    smallest = []
    for _ in range(200):
        network.step(packed, state, np.zeros((1, 3), np.float32), output, owners=zero, rows=zero)
        smallest += [np.abs(part[part != 0]).min(initial=1) for part in (state.v, state.i_syn)]
    assert min(smallest) > np.finfo(np.float32).tiny
    assert np.abs(state.i_syn).max() == 0


def test_only_the_given_rows_are_stepped():
    network = RSNN(n_neurons=70)
    _, packed = make(network, 3, 2, 0.5, 2)
    keys = fold_in(key_from_seed(SEED), np.arange(4))
    state, alone = network.initial_state(keys, 2), network.initial_state(keys[[2]], 2)
    before = copied(state)
    x = np.ones((4, 3), np.float32)
    output, alone_output = np.zeros((4, 2), np.float32), np.zeros((1, 2), np.float32)
    owners = np.array([0, 0, 1, 1])
    for _ in range(5):
        network.step(packed, state, x, output, owners=owners, rows=np.array([2]))
        network.step(packed, alone, x, alone_output, owners=np.array([1]), rows=np.array([0]))
    for ours, untouched, single in zip(state, before, alone, strict=True):
        np.testing.assert_array_equal(ours[[0, 1, 3]], untouched[[0, 1, 3]])
        np.testing.assert_array_equal(ours[2], single[0])
    np.testing.assert_array_equal(output[2], alone_output[0])


def slices(rho):
    lanes = rho.shape[1]
    padded = np.zeros((rho.shape[0], words_per_row(lanes) * WORD), np.float32)
    padded[:, :lanes] = rho
    n_words = padded.size // WORD
    planes, flips = np.empty((PLANES, n_words), np.uint64), np.empty(n_words, np.uint64)
    host.threshold_planes(padded.reshape(-1), planes, flips)
    return planes, flips


@pytest.mark.parametrize("lanes", WIDTHS)
def test_sampling_equals_reference(lanes):
    rho = np.random.default_rng(lanes).random((7, lanes)).astype(np.float32)
    rho.flat[:3] = [0, 1, 0.5][: rho.size]
    keys = fold_in(key_from_seed(SEED + 5), np.arange(9))
    out = np.empty((9, 7, words_per_row(lanes)), np.uint64)
    host.sample(keys, *slices(rho), out.reshape(9, -1))
    expected = np.stack([reference.sample(key, rho) for key in keys])
    np.testing.assert_array_equal(unpack(out, lanes), expected)
    np.testing.assert_array_equal(pack(expected), out)  # padding is zero


def test_sampling_frequencies():
    rho = np.array([[0, 1e-3, 0.1, 0.5, 0.75, 1 - 1e-3, 1]], np.float32)
    n = 200_000
    out = np.empty((n, 1), np.uint64)
    host.sample(fold_in(key_from_seed(SEED), np.arange(n)), *slices(rho), out)
    frequency = unpack(out, 7).mean(axis=0)
    error = np.sqrt(rho[0] * (1 - rho[0]) / n)
    assert np.all(np.abs(frequency - rho[0]) <= 4.5 * error)


@settings(max_examples=25, deadline=None)  # the first one compiles
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 2**31))
def test_weighted_sum_equals_reference(words, members, seed):
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 2**64, (members, words), np.uint64)
    weights = generator.integers(-(2**25), 2**25, members).astype(np.int32)
    total = np.zeros(words * WORD, np.int64)
    host.add_weighted(bits, weights, total)
    np.testing.assert_array_equal(total, reference.weighted_sum(unpack(bits, words * WORD), weights))


@pytest.mark.parametrize("members", [1, 5, 200])
def test_weighted_sum_is_the_same_for_any_number_of_threads(members):
    generator = np.random.default_rng(SEED)
    keys = fold_in(key_from_seed(SEED), np.arange(members))
    weights = generator.integers(-(2**24), 2**24, members).astype(np.int32)
    drawing = slices(generator.random((3, WORD)).astype(np.float32))
    expected = host.weighted_sum(keys, *drawing, weights)
    for n_threads in (2, 3, 7):
        np.testing.assert_array_equal(host.weighted_sum(keys, *drawing, weights, n_threads=n_threads), expected)


def test_observations_of_zero_and_large_ones_equal_the_reference():
    network = RSNN(n_neurons=130, gain_in=1)
    dense, packed = make(network, 6, 2, 0.5, 1)
    x = np.array([[0.0, -0.0, 1e30, 1.5, -1e30, 1e-30]], np.float32)
    state = network.initial_state(key_from_seed(SEED)[None], 2)
    expected, output, row = reference_state(state, 0, 130), np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
    for _ in range(3):
        network.step(packed, state, x, output, owners=row, rows=row)
        expected, filtered, _ = reference.rsnn_step(
            *(matrix[0] for matrix in dense),
            expected,
            x[0],
            n_excitatory=network.n_excitatory,
            substeps=network.substeps,
            constants=network.constants(6),
        )
        np.testing.assert_array_equal(state.v[0, :130].view(np.uint32), expected.v.view(np.uint32))
        np.testing.assert_array_equal(output[0], filtered)


def test_standardize():
    generator = np.random.default_rng(SEED)
    raw, mean, inverse_std = generator.normal(size=(4, 3)), generator.normal(size=3), generator.random(3) + 1
    x, rows = np.zeros((4, 3), np.float32), np.array([3, 1])
    assert host.standardize(raw, rows, mean, inverse_std, 1.0, x) == -1
    np.testing.assert_array_equal(x[rows], np.clip((raw - mean) * inverse_std, -1, 1).astype(np.float32)[rows])
    assert not x[[0, 2]].any()
    raw[3, 0], raw[1, 2] = 1e300, np.inf  # a large number is clipped like any other
    assert host.standardize(raw, rows, mean, inverse_std, 1.0, x) == 1
    assert x[3, 0] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e141, -1e200])
def test_accumulate(bad):
    generator = np.random.default_rng(SEED)
    raw, shift = generator.normal(size=(2, 4, 3))
    sums, squares, rows = np.ones((4, 3)), np.ones((4, 3)), np.array([3, 1])
    assert host.accumulate(raw, rows, shift, sums, squares) == -1
    deviation = raw - shift
    np.testing.assert_array_equal(sums[rows], 1 + deviation[rows])
    np.testing.assert_array_equal(squares[rows], 1 + deviation[rows] ** 2)
    assert (sums[[0, 2]] == 1).all()
    raw[1, 2] = bad
    assert host.accumulate(raw, rows, shift, sums, squares) == 1
