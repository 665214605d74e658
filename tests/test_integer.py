"""The network of integers: one step is the same bits everywhere, nothing overflows, and it is trained as others are."""

import os
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from numba import njit

import ecpolicy
from ecpolicy import ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.inspection import record_activity
from ecpolicy.networks import RSNN, IntegerRSNN, reference
from ecpolicy.networks.layout import halves, pack, unpack
from ecpolicy.networks.numba import spiking
from ecpolicy.networks.numba.simd import vectors
from ecpolicy.networks.xla import bits as device
from ecpolicy.networks.xla.twins import twin
from ecpolicy.random import fold_in, key_from_seed

TESTS = Path(__file__).parent
WIDTHS = [1, 31, 63, 64, 65, 128, 257]


def check_against_reference(network, *, obs_size=5, n_outputs=3, steps=12, scale=1.0, density=0.5, on_device=False):
    """Kernel, XLA (on all devices) where wanted, and reference from the same keys; the spikes that were compared."""
    members, n, generator = 2, network.n_neurons, np.random.default_rng(0)
    shapes = network.shapes(obs_size, n_outputs)
    dense = {name: generator.random((members, s.pre, s.post)) < density for name, s in shapes.items()}
    packed = {name: pack(k.swapaxes(1, 2) if name == "output" else k) for name, k in dense.items()}
    keys, rows = fold_in(key_from_seed(1), np.arange(members)), np.arange(members)
    state, output = network.initial_state(keys, n_outputs), np.zeros((members, n_outputs), np.float32)
    start = [(state.v[m, :n], state.i_syn[m, :n], unpack(state.spikes[m], n), None, state.readout[m]) for m in rows]
    expected = [reference.State(*(np.copy(part) for part in parts)) for parts in start]
    settings = {"n_excitatory": network.n_excitatory, "substeps": network.substeps}
    xla = twin(network)
    theirs = jax.jit(xla.initial_state, static_argnums=1)(keys, n_outputs)
    matrices = jax.jit(xla.prepare)({k: halves(part) for k, part in packed.items()})
    np.testing.assert_array_equal(theirs.v, state.v[:, :n])
    mesh, split = Mesh(np.array(jax.devices()), ("members",)), PartitionSpec("members")
    specs = split, split, split, PartitionSpec()
    xla_step = jax.jit(jax.shard_map(xla.step, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False))
    spikes = 0
    for _ in range(steps):
        x = (scale * generator.standard_normal((members, obs_size))).astype(np.float32)
        network.step(packed, state, x, output, owners=rows, rows=rows)
        if on_device:
            theirs, xla_output = xla_step(matrices, theirs, x, np.uint32(0))
            np.testing.assert_array_equal(xla_output, output)
            np.testing.assert_array_equal(np.asarray(theirs.spikes).view(np.uint64), state.spikes)
            for ours, other in zip((state.v, state.i_syn), (theirs.v, theirs.i_syn), strict=True):
                np.testing.assert_array_equal(ours[:, :n], other)
            np.testing.assert_array_equal(theirs.readout, state.readout)
        for m in rows:
            matrices_m, raster = [k[m] for k in dense.values()], []
            expected[m], wanted = reference.integer_rsnn_step(
                *matrices_m, expected[m], x[m], **settings, constants=network.constants(obs_size), raster=raster
            )
            np.testing.assert_array_equal(output[m], wanted)
            np.testing.assert_array_equal(state.v[m, :n], expected[m].v)
            np.testing.assert_array_equal(state.i_syn[m, :n], expected[m].i_syn)
            np.testing.assert_array_equal(state.spikes[m], pack(expected[m].spike))
            np.testing.assert_array_equal(state.readout[m], expected[m].readout)
            spikes += np.sum(raster)
    return spikes


@pytest.mark.parametrize("ratio", [0, 0.3, 1])
@pytest.mark.parametrize("neurons", WIDTHS)
def test_numba_and_xla_equal_the_reference(neurons, ratio):
    network = IntegerRSNN(neurons, excitatory_ratio=ratio, gain_in=0.3)
    assert check_against_reference(network, scale=2.0, on_device=True) > 0


def test_two_devices_equal_the_reference():
    code = (
        f"import sys; sys.path[:0] = [{str(TESTS)!r}]\n"
        "import jax, test_integer as t\n"
        "spikes = [t.check_against_reference(t.IntegerRSNN(n, gain_in=0.3), scale=2.0, steps=6, on_device=True)"
        " for n in (1, 31, 63, 64, 65, 257)]\n"
        "print(len(jax.devices()), min(spikes) > 0)"
    )
    environ = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "True"], done.stderr


@pytest.mark.parametrize(("obs_size", "n_outputs"), [(1, 1), (348, 17), (70, 65)])
def test_any_sizes(obs_size, n_outputs):
    assert check_against_reference(IntegerRSNN(96), obs_size=obs_size, n_outputs=n_outputs, on_device=True) > 0


@pytest.mark.parametrize(
    ("ratio", "density", "scale"), [(1, 0.8, 1e9), (0, 0.8, 1e9), (1, 0.8, 1.0), (0.5, 0.9, 100.0)]
)
def test_saturated_networks_equal_the_reference(ratio, density, scale):
    """All clamps at work: more than 127 spikes of one kind, currents at their limits."""
    network = IntegerRSNN(700, excitatory_ratio=ratio, gain_in=3, gain_recurrent=1.5, substeps=7, shift_m=1)
    assert check_against_reference(network, scale=scale, density=density, steps=4, on_device=True) > 0


def test_a_step_is_the_same_with_and_without_mask_registers(monkeypatch):
    kernel = njit(nogil=True, error_model="numpy")(spiking._make_rsnn_step(2, True).py_func)  # not the one kept on disk
    here = vectors.has_masks
    monkeypatch.setattr(vectors, "has_masks", lambda context: not here(context))
    monkeypatch.setattr(spiking, "integer_rsnn_step", lambda words: kernel)
    assert check_against_reference(IntegerRSNN(100), scale=3.0) > 0


def test_nothing_overflows_at_the_extremes():
    """The proof of the docstring, tried at the ends of every range and at random, for all shifts."""
    short, generator = np.iinfo(np.int16), np.random.default_rng(0)
    ends = [-(1 << 13), -(1 << 13) + 1, -129, -1, 0, 1, 128, (1 << 13) - 1]
    currents = np.unique(np.concatenate([ends, generator.integers(-(1 << 13), 1 << 13, 50)]))
    potentials = np.unique(
        np.concatenate([currents, [-(1 << 14), (1 << 14) - 1], generator.integers(-(1 << 14), 1 << 14, 50)])
    )
    i_syn, count = (part.ravel() for part in np.meshgrid(np.arange(-(1 << 13), 1 << 13), [-128, -1, 0, 1, 127]))
    i, j, v = (part.ravel() for part in np.meshgrid(currents, currents, potentials))
    for shift in range(1, 9):
        before_clamp = i_syn - (i_syn >> shift) + (count << 7)
        difference = i + j - v
        after = v + (difference >> shift)
        for part in (i_syn >> shift, count << 7, before_clamp, i + j, difference, after):
            assert short.min <= part.min() <= part.max() <= short.max
        assert -(1 << 14) <= after.min() <= after.max() < 1 << 14


def test_a_search_for_connections_that_overflow_finds_none():
    """Adversaries: every connection there or none, one sign alone, observations that jump between their limits."""
    states = []
    for ratio, k_in, k_h in product((0, 1), ([1, 0], [0, 1], [1, 1]), (0, 1)):
        network = IntegerRSNN(
            300, excitatory_ratio=ratio, gain_recurrent=1000, shift_syn=8, shift_m=1, shift_out=8
        ).checked()
        state = reference.State(*(np.zeros(300, np.int64) for _ in range(4)), np.zeros(2, np.int64))
        state = state._replace(spike=np.ones(300, bool))
        full = (
            np.repeat(np.array(k_in, bool)[:, None], 300, axis=1),
            np.full((300, 300), k_h, bool),
            np.ones((300, 2), bool),
        )
        for x in (1e30, -1e30, 1e30):
            for _ in range(12):
                state, _ = reference.integer_rsnn_step(
                    *full, state, np.array([x], np.float32), n_excitatory=network.n_excitatory, substeps=25,
                    constants=network.constants(1),
                )  # fmt: skip
                states.append([np.abs(part).max() for part in (state.v, state.i_syn, state.readout)])
    worst = np.max(states, axis=0)
    assert (worst <= [1 << 14, 1 << 13, 1 << 23]).all()
    assert (worst[1:] >= [(1 << 13) - 1, (1 << 23) - 1]).all()  # the clamps were reached


def test_shifts_give_the_time_constants_of_the_paper():
    network = IntegerRSNN()
    np.testing.assert_allclose([network.tau_syn, network.tau_m, network.tau_out], [5, 10, 10], rtol=0.04)
    np.testing.assert_allclose(np.exp(-network.dt / network.tau_m), 1 - 2**-4)
    constants = network.constants(11)
    assert constants.threshold == 495  # RSNN's R_h is 0.25; this one's time constants have another ratio
    np.testing.assert_allclose(constants.threshold, 2**7 / RSNN().constants(11)[4], rtol=0.04)
    assert (constants.scale_in, constants.scale_out) == (2.0**8, 2.0**-13)


def test_settings_that_give_no_threshold_are_refused():
    for settings in ({"gain_recurrent": 0}, {"gain_recurrent": 1e9}, {"gain_out": 0}, {"density": 1e-300}):
        with pytest.raises(ValueError, match="a threshold between 8 and 8192"):
            IntegerRSNN(**settings).checked()
    with pytest.raises(ValueError, match=r"shift_m must be an integer in \[1, 8\]"):
        IntegerRSNN(shift_m=0).checked()
    with pytest.raises(TypeError, match="must have real weights"):
        ESPolicy(network=IntegerRSNN(), n_generations=1).fit("CartPole-v1")


def test_both_backends_train_the_same_policy_and_files_keep_it(tmp_path):
    settings = {
        "network": IntegerRSNN(33),
        "n_generations": 2,
        "population_size": 16,
        "max_episode_steps": 40,
        "random_state": 0,
    }
    host, xla = (EvolvingConnectivityPolicy(backend=name, **settings).fit("CartPole-v1") for name in ("numpy", "jax"))
    for name, p in host.connection_probabilities_.items():
        np.testing.assert_array_equal(p, xla.connection_probabilities_[name])
    host.save(tmp_path / "policy.ecp")
    loaded = ecpolicy.load(tmp_path / "policy.ecp")
    assert loaded.network == IntegerRSNN(33)
    first, second = (record_activity(policy, "CartPole-v1", seed=3) for policy in (host, loaded))
    np.testing.assert_array_equal(first.spikes, second.spikes)
    assert first.spikes.any()
    assert first.spikes.shape[1:] == (25, 33)
    assert first.step_ms == pytest.approx(16.6)
    assert (host.excitatory_.sum(), host.connectome_.excitatory.sum()) == (16, 16)


def test_input_currents_of_integers_are_exact_on_the_device():
    k_in = jnp.full((1, 8, 2), 0xFFFFFFFF, jnp.uint32).at[:, 4:].set(0)
    total = jax.jit(partial(device.input_current, neurons=40))(k_in, jnp.full((1, 4), 8191, jnp.int32))
    assert (total.dtype, int(total.min()), int(total.max())) == (jnp.int32, 4 * 8191, 4 * 8191)
