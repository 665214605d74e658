"""Neurons with constants of their own: equal in all kernels, right in double precision, checked, saved and exported."""

from functools import partial

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from sklearn.base import clone
from test_export import Compiled, assert_same_episodes, replay, replay_currents
from test_kernels import check_against_reference, make, reference_state

import ecpolicy
from ecpolicy import ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.anatomy import block_probabilities
from ecpolicy.connectome import Connectome
from ecpolicy.networks import RSNN, RealRSNN, reference
from ecpolicy.networks.layout import halves, unpack
from ecpolicy.networks.xla import bits as device
from ecpolicy.random import fold_in, key_from_seed
from ecpolicy.spaces import action_decoder
from probes import SEED

COLUMN = {"Pyr": (0.6, 1), "SC": (0.2, 1), "PV": (0.1, -1), "SST": (0.1, -1)}
SMALL = {"n_generations": 2, "population_size": 8, "max_episode_steps": 60, "random_state": 0}


def own(kind, neurons, **settings):
    """A network of neurons that all differ, some of them without a refractory period."""
    generator = np.random.default_rng(neurons)
    given = {
        "tau_m": generator.uniform(3, 30, neurons),
        "tau_syn": generator.uniform(2, 20, neurons),
        "threshold": generator.uniform(0.3, 2, neurons),
        "t_ref": generator.choice([0.0, 0.5, 2.0, 7.2], neurons),
        "gain_in": 0.5,
    }
    return kind(neurons, **{**given, **settings})


@pytest.mark.parametrize("ratio", [0, 0.3, 1])
@pytest.mark.parametrize("neurons", [1, 63, 64, 65, 129, 300])
def test_the_kernel_equals_the_reference_for_a_thousand_substeps(neurons, ratio):
    network = own(RSNN, neurons, excitatory_ratio=ratio)
    assert check_against_reference(network, obs_size=5, n_outputs=3, steps=31) > 0


def test_the_kernel_equals_the_reference_where_more_spikes_come_than_a_byte_counts():
    network = own(RSNN, 700, excitatory_ratio=1, gain_recurrent=20, t_ref={"E": 0.5}, threshold={})
    assert check_against_reference(network, obs_size=5, n_outputs=3, steps=6, density=0.9) > 400


@pytest.mark.parametrize("neurons", [1, 65, 130])
def test_xla_equals_the_kernel(neurons):
    network, members = own(RSNN, neurons), 2
    _, packed = make(network, 5, 3, 0.5, members)
    rows = np.arange(members)
    state = network.initial_state(fold_in(key_from_seed(SEED), rows), 3)
    words = {name: halves(part) for name, part in packed.items()}
    moved = words["input"], device.transpose_bits(jnp.asarray(words["recurrent"]), neurons), words["output"]
    nothing = jnp.zeros((members, neurons))
    theirs = device.State(
        jnp.array(state.v[:, :neurons]), nothing, jnp.zeros_like(words["input"][:, 0]), jnp.zeros((members, 3)),
        nothing.astype(int),
    )  # fmt: skip
    constants = network.constants(5)
    settings = {"n_excitatory": network.n_excitatory, "substeps": 33, "constants": constants}
    step = jax.jit(partial(device.rsnn_step, **settings))
    generator, output, fired = np.random.default_rng(1), np.zeros((members, 3), np.float32), 0
    for _ in range(30):
        x = generator.standard_normal((members, 5)).astype(np.float32)
        network.step(packed, state, x, output, owners=rows, rows=rows)
        theirs, other = step(moved, theirs, x, np.uint32(0))
        np.testing.assert_array_equal(other, output)
        for name in ("v", "i_syn", "held"):
            np.testing.assert_array_equal(getattr(theirs, name), getattr(state, name)[:, :neurons])
        fired += unpack(state.spikes, neurons).sum()
    assert fired > 0


def in_double_precision(network, dense, state, held, x):
    """One substep of one network, neuron by neuron, from the differential equations' solutions."""
    n, (k_in, k_h, _) = network.n_neurons, dense
    tau_m, tau_syn, threshold, t_ref = (network.each(name) for name in ("tau_m", "tau_syn", "threshold", "t_ref"))
    v, i_syn, left, fires = np.zeros(n), np.zeros(n), held.copy(), np.zeros(n, bool)
    for j in range(n):
        received = sum((1 if i < network.n_excitatory else -1) for i in range(n) if state.spike[i] and k_h[i, j])
        charge = network.gain_recurrent * tau_m[j] / tau_syn[j] * np.sqrt(2 / (network.density * n))
        i_syn[j] = state.i_syn[j] * np.exp(-network.dt / tau_syn[j]) + charge * received
        drive = sum(x[d] * (int(k_in[d, j]) - int(k_in[x.size + d, j])) for d in range(x.size))
        target = i_syn[j] + network.gain_in * tau_m[j] * np.sqrt(2 / (network.density * x.size)) * drive
        v[j] = 0.0 if held[j] else target + (state.v[j] - target) * np.exp(-network.dt / tau_m[j])
        left[j] = max(held[j] - 1, 0)
        if v[j] > threshold[j]:
            v[j], left[j], fires[j] = 0.0, round(t_ref[j] / network.dt), True
    return v, i_syn, left, fires


def test_a_substep_is_that_of_double_precision():
    network, n = own(RSNN, 40).one_substep(), 40
    dense, packed = make(network, 4, 2, 0.5, 1)
    state, row = network.initial_state(key_from_seed(SEED)[None], 2), np.zeros(1, np.int64)
    generator, fired, waited = np.random.default_rng(2), 0, 0
    for _ in range(300):
        x = generator.standard_normal((1, 4)).astype(np.float32)
        before, held = reference_state(state, 0, n), state.held[0, :n].astype(int)
        v, i_syn, left, fires = in_double_precision(network, [part[0] for part in dense], before, held, x[0])
        network.step(packed, state, x, np.zeros((1, 2), np.float32), owners=row, rows=row)
        np.testing.assert_array_equal(unpack(state.spikes[0], n), fires)
        np.testing.assert_array_equal(state.held[0, :n], left)
        np.testing.assert_allclose(state.v[0, :n], v, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(state.i_syn[0, :n], i_syn, rtol=1e-5, atol=1e-5)
        fired, waited = fired + fires.sum(), waited + (held > 0).sum()
    assert fired > 100
    assert waited > 100


def stepped(network, steps=40, gain=3.0):
    """Outputs, and the spikes of every step, of a network that gets the same inputs whatever its constants are."""
    _, packed = make(network, 3, 2, 0.5, 1)
    state, row = network.initial_state(key_from_seed(SEED)[None], 2), np.zeros(1, np.int64)
    generator, outputs, spikes = np.random.default_rng(5), [], []
    for _ in range(steps):
        output = np.zeros((1, 2), np.float32)
        x = (gain * generator.standard_normal((1, 3))).astype(np.float32)
        network.step(packed, state, x, output, owners=row, rows=row)
        outputs.append(output)
        spikes.append(unpack(state.spikes[0], network.n_neurons))
    return np.array(outputs), np.array(spikes)


def test_equal_constants_of_all_neurons_are_the_plain_network():
    for name, each in {"tau_m": [10.0] * 70, "tau_syn": {"E": 5}, "t_ref": {"E": 0.0}, "threshold": [1] * 70}.items():
        varied = RSNN(70, gain_in=0.5, **{name: each})
        assert len(varied.initial_state(key_from_seed(0)[None], 2)) == 5  # the other kernel
        for ours, plain in zip(stepped(varied), stepped(RSNN(70, gain_in=0.5)), strict=True):
            np.testing.assert_array_equal(ours, plain)


@pytest.mark.parametrize(("t_ref", "substeps"), [(0.5, 1), (2.0, 4), (2.2, 4), (10.0, 20)])
def test_a_neuron_does_not_fire_within_its_refractory_period(t_ref, substeps):
    network = RSNN(64, gain_in=5.0, t_ref={"E": t_ref}).one_substep()
    _, spikes = stepped(network, steps=200)
    for neuron in range(64):
        intervals = np.diff(np.flatnonzero(spikes[:, neuron]))
        assert intervals.min(initial=99) > (substeps if neuron < network.n_excitatory else 0)
    shortest = [np.diff(np.flatnonzero(spikes[:, neuron])).min(initial=99) for neuron in range(64)]
    assert min(shortest[:32]) == substeps + 1
    assert min(shortest[32:]) == 1


def test_equal_spikes_bring_equal_charges_whatever_tau_syn_and_tau_m_are():
    network = RSNN(3, tau_syn=[2.0, 5.0, 50.0], tau_m=[5.0, 10.0, 40.0], dt=0.01)
    constants = network.constants(1)
    charge = constants.r_h / (1 - constants.decay_syn.astype(float)) * network.dt / network.each("tau_m")
    np.testing.assert_allclose(charge, charge[0], rtol=6e-3)


@pytest.mark.parametrize("neurons", [1, 63, 130])
def test_real_weights_equal_the_reference(neurons):
    from test_es import grid, run

    generator, members = np.random.default_rng(neurons), 2
    network = own(RealRSNN, neurons)
    weights = {n: grid(generator, members, s.pre, s.post) for n, s in network.shapes(4, 2).items()}
    observations = grid(generator, 60, members, 4)
    outputs, state = run(network, weights, observations)
    compiled, theirs = run(network, weights, observations, on_device=True)
    np.testing.assert_array_equal(compiled, outputs)
    for ours, other in zip(state, theirs, strict=True):
        np.testing.assert_array_equal(other, ours)
    start = network.initial_state(fold_in(key_from_seed(SEED + 1), np.arange(members)), 2)
    nothing, silent, spikes = np.zeros(neurons, np.float32), np.zeros(neurons, bool), 0
    for m in range(members):
        expected = reference.State(start.v[m], nothing, silent, nothing, start.readout[m], start.held[m])
        for t in range(60):
            expected, output = reference.real_rsnn_step(
                *(weights[name][m] for name in ("input", "recurrent", "output")), expected, observations[t, m],
                substeps=33, constants=network.constants(4),
            )  # fmt: skip
            np.testing.assert_array_equal(outputs[t, m], output)
            spikes += expected.spike.sum()
        np.testing.assert_array_equal(state.held[m], expected.held)
    assert spikes > 0


# What is refused


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"tau_m": [10.0] * 7}, ValueError, "tau_m must have a number for each of 8 neurons; got 7."),
        ({"tau_syn": np.full(8, np.nan)}, ValueError, r"tau_syn\[0\] must be a number in \(0, inf\); got nan"),
        ({"tau_m": [1.0] * 7 + [0]}, ValueError, r"tau_m\[7\] must be a number in \(0, inf\); got 0"),
        ({"threshold": {"E": -1.0}}, ValueError, r"threshold\['E'\] must be a number in \(0, inf\); got -1.0"),
        ({"threshold": 0}, ValueError, r"threshold must be a number in \(0, inf\); got 0"),
        ({"t_ref": -1}, ValueError, r"t_ref must be a number in \[0, inf\); got -1"),
        ({"t_ref": [0.0] * 7 + [np.inf]}, ValueError, r"t_ref\[7\] must be a number"),
        ({"t_ref": 0.2}, ValueError, r"t_ref must be 0, or round to 1 to 100,000 substeps of dt=0.5 ms; got 0.2"),
        ({"t_ref": {"PV": 1.0}}, ValueError, r"t_ref names the cell types \['PV'\]; RSNN has \['E', 'I'\]"),
        ({"tau_m": "slow"}, TypeError, "tau_m must be a number"),
        ({"tau_m": np.ones((8, 2))}, TypeError, r"tau_m\[0\] must be a number"),
        ({"tau_m": []}, ValueError, "got 0"),
    ],
)
def test_what_cannot_be_is_named(settings, error, message):
    policy = EvolvingConnectivityPolicy(network=RSNN(8, **settings), n_generations=1, population_size=2)
    with pytest.raises(error, match=message) as raised:
        policy.fit("CartPole-v1")
    assert "\n" not in str(raised.value)


def test_what_cannot_have_such_neurons_says_why():
    with pytest.raises(ValueError, match=r"tau_m names the cell types \['E'\]; RealRSNN has none"):
        ESPolicy(network=RealRSNN(8, tau_m={"E": 1.0})).fit("CartPole-v1")
    policy = EvolvingConnectivityPolicy(network=RSNN(8, t_ref=2.0, tau_syn={"E": 3.0}), **SMALL).fit("CartPole-v1")
    with pytest.raises(TypeError, match="A refractory period cannot be exported in this form: NIR's neurons have none"):
        policy.to_nir()
    with pytest.raises(TypeError, match=r"wanted IntegerRSNN, .* Verilog .* shifts of integers, the same for all"):
        policy.to_verilog("nowhere")
    policy = EvolvingConnectivityPolicy(network=RSNN(8, tau_syn={"E": 3.0}), **SMALL).fit("CartPole-v1")
    with pytest.raises(TypeError, match='one tau_syn; wanted dialect="lif"'):
        policy.to_nir()


# Policies


def test_networks_with_own_neurons_are_values():
    times = np.linspace(5, 20, 8)
    one, same = RSNN(8, tau_m=times), RSNN(8, tau_m=list(times))
    assert one == same
    assert hash(one) == hash(same)
    assert one != RSNN(8, tau_m=times + 1)
    assert RSNN(8, t_ref={"E": 1.0, "I": 2.0}) == RSNN(8, t_ref={"E": 1.0, "I": 2.0}) != RSNN(8, t_ref={"E": 1.0})
    assert repr(RSNN(8, t_ref={"E": 1.0})) == "RSNN(n_neurons=8, t_ref={'E': 1.0})"
    assert repr(RSNN(800, tau_m=np.arange(1.0, 801))) == "RSNN(n_neurons=800, tau_m=(1.0, 2.0, 3.0, ..., 800.0))"
    policy = EvolvingConnectivityPolicy(network=one)
    assert clone(policy).network == one
    assert policy.get_params()["network__tau_m"] == tuple(times)
    assert policy.set_params(network__t_ref={"I": 1.0}).network.t_ref == {"I": 1.0}


@pytest.mark.parametrize("training_state", [True, False])
@pytest.mark.parametrize("estimator", [EvolvingConnectivityPolicy, ESPolicy])
def test_files_hold_them(estimator, training_state, tmp_path):
    network = own(RSNN if estimator is EvolvingConnectivityPolicy else RealRSNN, 8)
    policy = estimator(network=network, **SMALL).fit("CartPole-v1")
    policy.save(tmp_path / "policy.ecp", training_state=training_state)
    loaded = ecpolicy.load(tmp_path / "policy.ecp")
    assert loaded.network == network
    seen, state, other = np.ones(4, np.float32), None, None
    for _ in range(10):
        action, state = policy.predict(seen, state)
        same, other = loaded.predict(seen, other)
        assert action == same
    np.testing.assert_array_equal(state.network.held, other.network.held)


def test_a_fit_is_the_same_on_both_backends():
    network = own(RSNN, 40)
    host, other = (
        EvolvingConnectivityPolicy(network=network, backend=backend, **SMALL).fit("CartPole-v1")
        for backend in ("numpy", "jax")
    )
    for name, p in host.connection_probabilities_.items():
        np.testing.assert_array_equal(other.connection_probabilities_[name], p)


@pytest.fixture(scope="module")
def pendulum():
    """With types as well, and with chosen neurons."""
    network = own(RSNN, 65, cell_types=COLUMN, input_neurons=["Pyr", "PV"], readout_neurons=range(20, 60))
    return EvolvingConnectivityPolicy(network=network, **SMALL).fit("Pendulum-v1")


def test_c_acts_like_predict(pendulum, tmp_path):
    assert assert_same_episodes(pendulum, Compiled(pendulum, tmp_path), gym.make("Pendulum-v1"), 3) == 600


@pytest.mark.parametrize("estimator", [EvolvingConnectivityPolicy, ESPolicy])
def test_onnx_acts_like_predict(pendulum, estimator):
    if estimator is ESPolicy:
        pendulum = ESPolicy(network=own(RealRSNN, 65), **SMALL).fit("Pendulum-v1")
    session = onnxruntime.InferenceSession(pendulum.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    environment, parts, state = gym.make("Pendulum-v1"), {}, None
    observation, _ = environment.reset(seed=0)
    for _ in range(100):
        wanted, state = pendulum.predict(observation, state)
        action, *after = session.run(None, {"observation": observation[None].astype(np.float64), **parts})
        parts = dict(zip(("v", "i_syn", "spikes", "readout", "held"), after, strict=True))
        np.testing.assert_allclose(action[0], wanted, atol=1e-6)
        np.testing.assert_array_equal(parts["held"], state.network.held[:, :65])
        observation, *_ = environment.step(wanted)
    assert parts["held"].any()


@pytest.mark.parametrize("dialect", ["lif", "cuba-lif", "cuba-lif-flat"])
@pytest.mark.parametrize("estimator", [EvolvingConnectivityPolicy, ESPolicy])
def test_nir_has_every_spike(estimator, dialect):
    shared = {} if dialect == "lif" else {"tau_syn": 7.0}  # current-based dialects have one
    kind = RSNN if estimator is EvolvingConnectivityPolicy else RealRSNN
    policy = estimator(network=own(kind, 65, t_ref=0.0, **shared), **SMALL).fit("Pendulum-v1")
    recorded = ecpolicy.inspection.record_activity(policy, "Pendulum-v1", seed=1, max_episode_steps=60)
    play = replay if dialect == "lif" else replay_currents
    spikes, outputs = play(policy.to_nir(dialect=dialect), recorded.observations)
    assert (spikes != recorded.spikes).mean() < 1e-3
    assert recorded.spikes.mean() > 0.01
    actions = action_decoder(policy.action_space_)(np.float32(outputs))
    np.testing.assert_allclose(actions, recorded.actions, atol=1e-2)


# Cell types


def test_types_have_their_shares_their_signs_and_constants():
    network = RSNN(70, cell_types=COLUMN, tau_m={"PV": 5.0, "Pyr": 20.0}, t_ref={"SC": 1.0}, gain_in=0.5).checked()
    assert network.type_sizes == {"Pyr": 42, "SC": 14, "PV": 7, "SST": 7}
    assert network.n_excitatory == 56
    assert network.types.tolist() == ["Pyr"] * 42 + ["SC"] * 14 + ["PV"] * 7 + ["SST"] * 7
    np.testing.assert_array_equal(network.each("tau_m"), [20.0] * 42 + [10.0] * 14 + [5.0] * 7 + [10.0] * 7)
    np.testing.assert_array_equal(network.constants(1).refractory, [0] * 42 + [2] * 14 + [0] * 14)
    assert check_against_reference(network, obs_size=5, n_outputs=3, steps=10) > 0


def test_types_of_networks_with_weights_have_constants_and_no_signs(tmp_path):
    network = RealRSNN(
        10, cell_types={"fast": 0.7, "slow": 0.3}, tau_m={"slow": 40.0}, t_ref={"fast": 2.0}, gain_in=0.5
    )
    assert network.types.tolist() == ["fast"] * 7 + ["slow"] * 3
    each = RealRSNN(10, tau_m=[10.0] * 7 + [40.0] * 3, t_ref=[2.0] * 7 + [0.0] * 3, gain_in=0.5)
    for ours, theirs in zip(network.constants(4), each.constants(4), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    policy, other = (ESPolicy(network=part, **SMALL).fit("CartPole-v1") for part in (network, each))
    np.testing.assert_array_equal(policy.weights_["recurrent"], other.weights_["recurrent"])
    policy.save(tmp_path / "policy.ecp")
    assert ecpolicy.load(tmp_path / "policy.ecp").network == network
    for wrong, message in (
        ({"a": (1.0, 1)}, "share of cell_types"),
        ({"a": 0.5, "b": 0.4}, "add up to 1; got 0.5, 0.4"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            RealRSNN(10, cell_types=wrong).checked()
    with pytest.raises(TypeError, match=r'cell_types must be a dict such as \{"fast": 0.8'):
        RealRSNN(10, cell_types=[0.5, 0.5]).checked()


def test_two_types_are_e_and_i():
    named = RSNN(70, cell_types={"E": (0.3, 1), "I": (0.7, -1)}, gain_in=0.5)
    for ours, plain in zip(stepped(named), stepped(RSNN(70, excitatory_ratio=0.3, gain_in=0.5)), strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_a_type_may_be_all_there_is_and_sizes_always_add_up():
    assert RSNN(9, cell_types={"I": (1, -1)}).checked().n_excitatory == 0
    for n in range(3, 40):
        assert sum(RSNN(n, cell_types={"a": (1 / 3, 1), "b": (1 / 3, 1), "c": (1 / 3, -1)}).type_sizes.values()) == n


def test_a_policy_shows_its_types(tmp_path):
    network = RSNN(20, cell_types=COLUMN)
    probabilities = block_probabilities(network.types, {("PV", "Pyr"): 0.0, ("SST", "PV"): 1.0}, otherwise=0.5)
    policy = EvolvingConnectivityPolicy(network=network, initial_probability={"recurrent": probabilities}, **SMALL)
    policy.fit("CartPole-v1").save(tmp_path / "policy.ecp")
    connectome = ecpolicy.load(tmp_path / "policy.ecp").connectome_
    assert connectome.groups.tolist()[8:28] == ["Pyr"] * 12 + ["SC"] * 4 + ["PV"] * 2 + ["SST"] * 2
    assert connectome.names[8 + 16] == "PV16"
    assert connectome.signs[8:28].tolist() == [1] * 16 + [-1] * 4
    densities = connectome.densities()
    assert densities["PV", "Pyr"] == 0
    assert densities["SST", "PV"] == 1
    assert connectome.mean_probabilities()["Pyr", "SC"] == pytest.approx(
        policy.connection_probabilities_["recurrent"][:12, 12:16].mean()
    )
    assert set(connectome.to_pandas().pre_group) >= {"Pyr", "SC", "PV", "SST", "observation"}
    np.testing.assert_array_equal(policy.excitatory_, [True] * 16 + [False] * 4)


def test_order_is_part_of_a_network():
    first = RSNN(20, cell_types={"a": (0.5, 1), "b": (0.5, 1)})
    second = RSNN(20, cell_types={"b": (0.5, 1), "a": (0.5, 1)})
    assert first != second
    assert clone(EvolvingConnectivityPolicy(network=first)).network == first


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"cell_types": {"PV": (0.5, -1), "Pyr": (0.5, 1)}}, ValueError, "excitatory types first, .* got PV, Pyr"),
        ({"cell_types": {"Pyr": (0.5, 1), "PV": (0.4, -1)}}, ValueError, "shares that add up to 1"),
        ({"cell_types": {"Pyr": (1.0, 2)}}, ValueError, r"the sign of cell_types\['Pyr'\] must be an integer in"),
        ({"cell_types": {"Pyr": (1.0, 0)}}, ValueError, "must be 1 \\(excitatory\\) or -1 \\(inhibitory\\); got 0"),
        ({"cell_types": {"Pyr": (0, 1), "PV": (1, -1)}}, ValueError, r"the share of cell_types\['Pyr'\] must be"),
        ({"cell_types": {"Pyr": 0.8, "PV": 0.2}}, TypeError, "cell_types must be a dict such as .* got 0.8 for 'Pyr'"),
        ({"cell_types": [0.5, 0.5]}, TypeError, "cell_types must be a dict such as"),
        ({"cell_types": {"output": (1, 1)}}, ValueError, "a type called 'output', which is no name"),
        ({"cell_types": {"a": (0.99, 1), "b": (0.01, -1)}}, ValueError, r"no neuron of 8 for the types \['b'\]"),
        ({"cell_types": {"a": (1, 1)}, "excitatory_ratio": 0.8}, ValueError, "excitatory_ratio must be left out"),
        ({"cell_types": {"a": (1, 1)}, "tau_m": {"E": 5.0}}, ValueError, r"types \['E'\]; RSNN has \['a'\]"),
    ],
)
def test_types_that_cannot_be_are_named(settings, error, message):
    with pytest.raises(error, match=message) as raised:
        RSNN(8, **settings).checked()
    assert "\n" not in str(raised.value)


def test_a_connectome_wants_types_in_order():
    parts = {"input": np.ones((2, 3)), "recurrent": np.ones((3, 3)), "output": np.ones((3, 1))}
    with pytest.raises(ValueError, match=r"stand together and have one sign; got the order \['a', 'b', 'a'\]"):
        Connectome(parts, np.array([True, True, True]), np.array(["a", "b", "a"]))
    with pytest.raises(ValueError, match="stand together and have one sign"):
        Connectome(parts, np.array([True, True, False]), np.array(["a", "b", "b"]))
    with pytest.raises(ValueError, match="one for each of 3 neurons"):
        Connectome(parts, np.array([True, True, False]), np.array(["a", "b"]))


# Chosen neurons


@pytest.mark.parametrize(
    "some", [[0, 3, 4], np.array([4, 0, 3]), np.array([True, False, False, True, True] + [False] * 15)]
)
def test_masks_and_numbers_are_the_same(some):
    network = RSNN(20, input_neurons=some)
    assert network.checked() == RSNN(20, input_neurons=(0, 3, 4)).checked()
    assert clone(EvolvingConnectivityPolicy(network=network)).network == network


@pytest.mark.parametrize("start", [0.5, 0.0, 1.0, {"input": 0.9, "recurrent": 1.0}])
def test_others_get_no_input_and_are_not_read(start, tmp_path):
    network = RSNN(20, cell_types=COLUMN, input_neurons="SC", readout_neurons=range(3, 8))
    policy = EvolvingConnectivityPolicy(network=network, initial_probability=start, **SMALL).fit("CartPole-v1")
    policy.save(tmp_path / "policy.ecp")
    for each in (policy, ecpolicy.load(tmp_path / "policy.ecp").partial_fit("CartPole-v1")):
        probabilities = each.search_probabilities_
        fed, read = probabilities["input"].any(axis=0), probabilities["output"].any(axis=1)
        assert np.flatnonzero(fed).tolist() == [12, 13, 14, 15]
        assert np.flatnonzero(read).tolist() == [3, 4, 5, 6, 7]
        between = probabilities["input"][:, 12:16]
        assert ((between >= np.float32(0.01)) & (between <= np.float32(0.99))).all()  # a number fixes nothing
        assert each.connectome_.densities()["observation", "Pyr"] == 0


def test_what_the_others_see_and_say_makes_no_difference():
    network = RSNN(20, input_neurons=[1, 2], readout_neurons=[5, 6, 7], gain_in=5.0, gain_recurrent=3.0)
    policy = EvolvingConnectivityPolicy(network=network, **SMALL).fit("CartPole-v1")
    activity = ecpolicy.inspection.record_activity(policy, "CartPole-v1", max_episode_steps=20)
    assert activity.spikes[..., [1, 2]].any()
    absent = network.absent(4, 2)
    assert absent["input"].sum() == 8 * 18
    assert absent["output"].sum() == 2 * 17
    assert not (policy.connectivity_["input"] & absent["input"]).any()


def test_the_readout_is_normalised_for_the_neurons_that_are_read():
    everyone, some = RSNN(100), RSNN(100, readout_neurons=range(25))
    np.testing.assert_array_equal(some.constants(4)[:5], everyone.constants(4)[:5])
    assert some.constants(4)[5] == pytest.approx(2 * everyone.constants(4)[5])


@pytest.mark.parametrize(
    ("some", "error", "message"),
    [
        ([True] * 7, ValueError, "input_neurons must be a mask of as many flags as there are neurons; got 7"),
        ([False] * 8, ValueError, "must name at least one neuron, and each once"),
        ([], ValueError, "must name at least one neuron"),
        ([1, 1], ValueError, "and each once"),
        ([0, 8], ValueError, "must name neurons from 0 to 7; got 8"),
        ([-1], ValueError, r"input_neurons\[0\] must be an integer in \[0, inf\); got -1"),
        ([0.5], TypeError, r"input_neurons\[0\] must be an integer"),
        (["L4"], ValueError, r"input_neurons names the cell types \['L4'\]; the network has \['E', 'I'\]"),
        (["E", 1], TypeError, "must be a mask, numbers or cell types of neurons, or None"),
        (3, TypeError, "must be a mask"),
    ],
)
def test_neurons_that_cannot_be_chosen_are_named(some, error, message):
    with pytest.raises(error, match=message) as raised:
        RSNN(8, input_neurons=some).checked()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"t_ref": 2.0, "n_neurons": 2**40},
        {"tau_m": {"E": 5.0}, "n_neurons": 2**40},
        {"input_neurons": [0], "n_neurons": 2**40},
        {"tau_m": [[[[[1.0]]]]]},
        {"tau_m": {"E": {"E": {"E": 1.0}}}},
        {"cell_types": {"E": [[1.0], 1]}},
        {"cell_types": {"E": {"share": 1.0}}},
        {"input_neurons": [[0]]},
        {"input_neurons": {"E": 1}},
    ],
)
def test_a_forged_network_is_refused_before_memory_is_taken(settings):
    with pytest.raises((TypeError, ValueError)):
        RSNN(**{"n_neurons": 8, **settings}).checked()
    assert RSNN(2**40).checked().n_read == 2**40  # the plain network makes no arrays
