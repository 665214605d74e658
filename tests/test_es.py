"""Evolution Strategies: noise, gradient, real-weight networks against references, PyTorch and the 1-bit network."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, ModelFileError
from ecpolicy.callbacks import Checkpoint
from ecpolicy.distributions import Gaussian, host_noise
from ecpolicy.fitness_shaping import Utility
from ecpolicy.networks import GRU, LSTM, RSNN, RealRSNN, Shape, reference
from ecpolicy.networks.layout import unpack
from ecpolicy.networks.xla import bits as device
from ecpolicy.networks.xla.twins import OnDevice
from ecpolicy.optimizers import adamw
from ecpolicy.random import NORMAL_UNIT, fold_in, key_from_seed, normal_table
from learnt import learnt
from probes import SEED, DeviceMatch, Linear, Match

MATCH = DeviceMatch()
SHAPES = {"a": Shape(3, 5), "b": Shape(1, 2)}


def gaussian(sigma=0.5, shapes=SHAPES):
    return Gaussian(shapes, sigma, dict.fromkeys(shapes, 1.0))


def means(seed=0, shapes=SHAPES):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape[:2]).astype(np.float32) for name, shape in shapes.items()}


def grid(generator, *shape, scale=1.0):
    """Normal numbers rounded to multiples of 2**-8, whose sums are exact in float32."""
    return (np.rint(scale * generator.normal(size=shape) * 2**8) / 2**8).astype(np.float32)


# Noise and gradient


def test_the_table_is_standard_normal():
    z = normal_table() * NORMAL_UNIT
    assert abs(z.mean()) < 1e-6
    assert abs(z.std() - 1) < 1e-4
    assert abs((z**4).mean() - 3) < 0.01
    np.testing.assert_array_equal(z, -z[::-1])
    share = np.mean(np.abs(z) > 1.959964)
    assert abs(share - 0.05) < 1e-3


def test_pairs_are_mirror_images_and_matrices_and_members_differ():
    shapes = {"a": Shape(40, 50), "b": Shape(2000, 1)}
    mean, sigma = {name: np.zeros(shape[:2], np.float32) for name, shape in shapes.items()}, 0.5
    drawn = gaussian(sigma, shapes).sample(mean, fold_in(key_from_seed(SEED), np.arange(6)))
    flat = np.concatenate([drawn["a"].reshape(6, -1), drawn["b"].reshape(6, -1)])
    np.testing.assert_array_equal(flat[0::2], -flat[1::2])
    correlation = np.corrcoef(flat[0::2])
    assert np.abs(correlation - np.eye(6)).max() < 0.1
    np.testing.assert_allclose(flat.std(axis=1), sigma, rtol=0.06)
    alone = gaussian(sigma, shapes).sample(mean, fold_in(key_from_seed(SEED), np.arange(2, 4)))
    np.testing.assert_array_equal(alone["a"], drawn["a"][2:4])  # a member is its key, whatever is drawn beside it


def test_mode_and_start():
    distribution = gaussian()
    np.testing.assert_array_equal(distribution.mode(means())["a"][0], means()["a"])
    wide = Gaussian({"w": Shape(100, 100), "b": Shape(1, 9)}, 0.1, {"w": 0.3, "b": 0.0})
    start = wide.init(key_from_seed(SEED + 1))
    assert abs(start["w"].std() - 0.3) < 0.01
    assert not start["b"].any()
    assert not np.array_equal(start["w"], wide.init(key_from_seed(SEED + 2))["w"])


def test_gradient_is_that_of_a_quadratic():
    """J(m) = E[-|theta - a|^2 / 2] has the gradient a - m; 300 estimates lie within four standard errors of it."""
    distribution, mean, target = gaussian(0.3), means(), means(1)
    estimates = []
    for trial in range(300):
        keys = fold_in(fold_in(key_from_seed(SEED + 7), trial), np.arange(20))
        theta = distribution.sample(mean, keys)
        fitness = -sum(((theta[name] - target[name]) ** 2).sum(axis=(1, 2)) for name in theta) / 2
        utility = Utility(np.rint(fitness * 2**12).astype(np.int32), 2.0**12)
        gradient = distribution.gradient(mean, keys, utility)
        estimates.append(np.concatenate([gradient[name].reshape(-1) for name in mean]))
    exact = np.concatenate([(target[name] - mean[name]).reshape(-1) for name in mean])
    error = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert np.all(np.abs(np.mean(estimates, axis=0) - exact) < 4 * error + 1e-3)
    assert np.all(error < 0.15)


def test_gradient_is_its_formula():
    distribution, mean = gaussian(0.3), means()
    keys = fold_in(key_from_seed(SEED + 3), np.arange(8))
    utility = Utility(np.arange(-7, 9, 2, dtype=np.int32), 14.0)
    theta = distribution.sample(mean, keys)
    for name, gradient in distribution.gradient(mean, keys, utility).items():
        z = (theta[name] - mean[name]) / 0.3
        expected = np.tensordot(utility.weights / utility.scale, z, axes=1) / (8 * 0.3)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("members", "size", "largest"), [(1, 1, 3), (3, 33, 2**25), (450, 70, 2**26), (1000, 5, 2**30)]
)
def test_noise_and_its_sums_are_the_same_on_the_device(members, size, largest):
    generator = np.random.default_rng(members)
    keys = fold_in(key_from_seed(members), np.arange(members))
    weights = generator.integers(-largest + 1, largest, members).astype(np.int32)
    expected = host_noise(keys, weights, size)
    np.testing.assert_array_equal(device.weighted_noise(keys, weights, size), expected)
    z = np.asarray(device.normal_integers(keys, size))
    np.testing.assert_array_equal(weights.astype(np.int64) @ z, expected)


def test_populations_are_the_same_on_the_device():
    distribution, mean = gaussian(0.3), means()
    keys = fold_in(key_from_seed(SEED + 3), np.arange(7))
    signs = np.resize(np.array([1, -1], np.float32), 7)
    step = np.float32(0.3 * NORMAL_UNIT)
    for name, drawn in distribution.sample(mean, keys).items():
        streams = distribution.streams(keys, name)
        np.testing.assert_array_equal(device.perturb(streams, signs, mean[name], step, np.uint32(0)), drawn)


def test_adamw_equals_torch():
    generator = np.random.default_rng(SEED)
    theta = {"a": generator.normal(size=(3, 4)).astype(np.float32)}
    parameter = torch.nn.Parameter(torch.tensor(theta["a"]))
    theirs = torch.optim.AdamW([parameter], lr=0.15, weight_decay=0.1, maximize=True)
    ours = adamw(0.15, weight_decay=0.1)
    state = ours.init(theta)
    for _ in range(50):
        gradient = {"a": generator.normal(size=(3, 4)).astype(np.float32)}
        step, state = ours.update(gradient, state, theta)
        theta = {"a": theta["a"] + step["a"]}
        parameter.grad = torch.tensor(gradient["a"])
        theirs.step()
        np.testing.assert_allclose(theta["a"], parameter.detach().numpy(), rtol=1e-4, atol=1e-5)


# Networks


def run(network, weights, observations, *, on_device=False):
    """Outputs (steps, members, outputs) and the last state, members with their own weights."""
    members = observations.shape[1]
    n_outputs, everyone = weights["output"].shape[2], np.arange(members)
    stepped = OnDevice(network) if on_device else network
    state = stepped.initial_state(fold_in(key_from_seed(SEED + 1), everyone), n_outputs)
    outputs, output = [], np.zeros((members, n_outputs), np.float32)
    for x in observations:
        stepped.step(weights, state, x, output, owners=everyone, rows=everyone)
        outputs.append(output.copy())
    return np.array(outputs), state.network if on_device else state


@pytest.mark.parametrize("neurons", [1, 63, 130])
def test_real_weights_equal_the_reference_for_a_hundred_steps(neurons):
    """Event-driven, dense and XLA kernels: the same spikes, potentials, currents and outputs, bit for bit."""
    generator, members, obs_size, n_outputs = np.random.default_rng(neurons), 3, 4, 2
    network = RealRSNN(neurons, gain_in=0.3)
    shapes = network.shapes(obs_size, n_outputs)
    weights = {name: grid(generator, members, shape.pre, shape.post) for name, shape in shapes.items()}
    observations = grid(generator, 100, members, obs_size)
    outputs, state = run(network, weights, observations)
    dense, _ = run(RealRSNN(neurons, gain_in=0.3, dense=True), weights, observations)
    compiled, device_state = run(network, weights, observations, on_device=True)
    np.testing.assert_array_equal(dense, outputs)
    np.testing.assert_array_equal(compiled, outputs)
    for ours, theirs in zip(state, device_state, strict=True):
        np.testing.assert_array_equal(theirs, ours)
    start = network.initial_state(fold_in(key_from_seed(SEED + 1), np.arange(members)), n_outputs)
    nothing, silent, spikes = np.zeros(neurons, np.float32), np.zeros(neurons, bool), 0
    for m in range(members):
        expected = reference.State(start.v[m], nothing, silent, nothing, start.readout[m])
        for t in range(100):
            expected, output = reference.real_rsnn_step(
                *(weights[name][m] for name in ("input", "recurrent", "output")), expected, observations[t, m],
                substeps=33, constants=network.constants(obs_size),
            )  # fmt: skip
            np.testing.assert_array_equal(outputs[t, m], output)
            spikes += expected.spike.sum()
        np.testing.assert_array_equal(state.v[m], expected.v)
        np.testing.assert_array_equal(state.i_syn[m], expected.i_syn)
        np.testing.assert_array_equal(state.spikes[m], expected.spike)
    assert spikes > 0


def embedded(packed, n_neurons, n_excitatory, obs_size, n_outputs):
    """Real weights of a 1-bit network: K of x minus K of -x, and signs of the presynaptic neurons."""
    sign = np.where(np.arange(n_neurons) < n_excitatory, 1, -1)[:, None]
    both = unpack(packed["input"], n_neurons).astype(np.float32)
    return {
        "input": both[:, :obs_size] - both[:, obs_size:],
        "recurrent": (sign * unpack(packed["recurrent"], n_neurons)).astype(np.float32),
        "output": (sign * unpack(packed["output"], n_neurons).swapaxes(1, 2)).astype(np.float32),
    }


def test_a_boolean_network_embedded_as_real_weights_acts_the_same():
    """The network of a fitted EvolvingConnectivityPolicy, bit for bit on a grid of observations."""
    policy = EvolvingConnectivityPolicy(n_generations=2, population_size=16, random_state=SEED).fit("CartPole-v1")
    deployed, boolean = learnt(policy, training_state=False), RSNN()
    packed = {name: deployed[f"connections/{name}"][None] for name in policy.connectivity_}
    real = RealRSNN(256, density=boolean.density)
    np.testing.assert_array_equal(real.constants(4), boolean.constants(4))
    weights = embedded(packed, 256, boolean.n_excitatory, 4, 2)
    observations = grid(np.random.default_rng(SEED), 100, 1, 4)
    outputs, state = run(real, weights, observations)
    connections = {name: np.ascontiguousarray(words) for name, words in packed.items()}
    zero, output = np.zeros(1, np.int64), np.zeros((1, 2), np.float32)
    ours = boolean.initial_state(fold_in(key_from_seed(SEED + 1), np.arange(1)), 2)
    spikes = 0
    for t in range(100):
        boolean.step(connections, ours, observations[t], output, owners=zero, rows=zero)
        np.testing.assert_array_equal(output, outputs[t])
        spikes += unpack(ours.spikes, 256).sum()
    np.testing.assert_array_equal(unpack(ours.spikes, 256), state.spikes)
    assert spikes > 100


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_gated_networks_equal_torch(kind, on_device):
    generator, members, obs_size, n_outputs, units = np.random.default_rng(SEED), 2, 5, 3, 17
    network = kind(units)
    shapes = network.shapes(obs_size, n_outputs)
    weights = {
        name: (0.5 * generator.normal(size=(members, shape.pre, shape.post))).astype(np.float32)
        for name, shape in shapes.items()
    }
    observations = generator.normal(size=(50, members, obs_size)).astype(np.float32)
    outputs, _ = run(network, weights, observations, on_device=on_device)
    for m in range(members):
        cell = {GRU: torch.nn.GRU, LSTM: torch.nn.LSTM}[kind](obs_size, units)
        bias = weights["bias"][m]
        with torch.no_grad():
            cell.weight_ih_l0.copy_(torch.tensor(weights["input"][m].T))
            cell.weight_hh_l0.copy_(torch.tensor(weights["recurrent"][m].T))
            cell.bias_ih_l0.copy_(torch.tensor(bias[0]))
            cell.bias_hh_l0.copy_(torch.tensor(bias[1] if kind is GRU else np.zeros_like(bias[0])))
            hidden = cell(torch.tensor(observations[:, m]))[0].numpy()
        expected = hidden @ weights["output"][m] + weights["output_bias"][m]
        np.testing.assert_allclose(outputs[:, m], expected, rtol=2e-4, atol=2e-5)


# The estimator on environments in JAX, and networks of one's own


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (RealRSNN(64), {"n_generations": 40}),
        (GRU(16), {"sigma": 0.3, "learning_rate": 0.1}),
        (LSTM(16), {"sigma": 0.3, "learning_rate": 0.1}),
    ],
)
def test_learns_on_the_device(network, parameters):
    policy = ESPolicy(
        **{"network": network, "n_generations": 25, **parameters}, population_size=64, chunk_size=32,
        eval_episodes=2, confirm_episodes=10, score_threshold=9.9, random_state=SEED,
    ).fit(MATCH)  # fmt: skip
    assert policy.score(MATCH) >= 9.5
    twice = clone(policy).set_params(n_generations=2).fit(MATCH)
    chunks = clone(policy).set_params(n_generations=2, chunk_size=64, score_threshold=None).fit(MATCH)
    for name, weights in twice.weights_.items():
        np.testing.assert_array_equal(chunks.weights_[name], weights)


def test_a_generation_on_the_device_has_the_hosts_population():
    """The update is the same where the returns are: ranks of Match depend on the signs of the actions alone."""
    settings = {"network": GRU(8), "population_size": 20, "n_generations": 3, "random_state": SEED}
    on_host = ESPolicy(backend="numpy", **settings).fit(Match)
    on_device = ESPolicy(backend="jax", **settings).fit(Match)
    assert [r["return_mean"] for r in on_device.history_] == [r["return_mean"] for r in on_host.history_]
    for name, weights in on_host.weights_.items():
        np.testing.assert_array_equal(on_device.weights_[name], weights)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"population_size": 9}, ValueError, "population_size must be even, as members come in pairs; got 9"),
        ({"chunk_size": 5}, ValueError, "chunk_size must be even"),
        ({"sigma": 0}, ValueError, "sigma"),
        ({"learning_rate": 0}, ValueError, "learning_rate"),
        ({"weight_decay": -1}, ValueError, "weight_decay"),
        ({"network": "gru"}, TypeError, r"network must be an object, such as network=GRU\(\); got 'gru'"),
        ({"network": "mlp"}, TypeError, r"network must be an object, such as network=RealRSNN\(\); got 'mlp'"),
        ({"network": GRU}, TypeError, "as a class; make an instance of it"),
        ({"network": object()}, TypeError, "without shapes, initial_state, step, initial_scales"),
        ({"network": RSNN()}, TypeError, r"network must have real weights, such as RealRSNN has; got RSNN\(\)"),
        ({"network": RealRSNN(dt=100)}, ValueError, "dt must give"),
    ],
)
def test_bad_parameters(changes, error, message):
    with pytest.raises(error, match=message):
        ESPolicy(**changes).fit(Match)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_a_search_that_diverges_is_an_error_and_the_policy_that_of_the_generation_before(tmp_path):
    policy = ESPolicy(
        network=RealRSNN(8),
        population_size=4,
        n_generations=140,
        keep_best=False,
        random_state=SEED,
        score_threshold=None,
        weight_decay=1e6,
    )
    with pytest.raises(FloatingPointError, match=r"Generation \d+ made .* infinite or NaN"):
        policy.fit(Match, callbacks=Checkpoint(tmp_path / "p.ecp"))
    assert policy.stop_reason_ == "error"
    assert all(np.isfinite(weights).all() for weights in policy.weights_.values())
    assert ESPolicy.load(tmp_path / "p.ecp").n_generations_ == policy.n_generations_ > 0


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (ESPolicy, {"network": Linear(), "sigma": 0.3, "learning_rate": 0.1}),
        (EvolvingConnectivityPolicy, {"network": Linear(bits=True)}),
    ],
)
def test_networks_of_ones_own(kind, parameters, tmp_path):
    policy = kind(population_size=16, n_generations=20, score_threshold=10, random_state=SEED, **parameters)
    policy = clone(policy).fit(Match)
    assert policy.score(Match) == 10
    policy.save(tmp_path / "p.ecp")
    with pytest.raises(ModelFileError, match=r"trained with the network '.*Linear': give it, load\(path, network="):
        kind.load(tmp_path / "p.ecp")
    loaded = kind.load(tmp_path / "p.ecp", network=parameters["network"])
    assert loaded.score(Match) == 10
    assert loaded.set_params(warm_start=True, n_generations=21, score_threshold=None).fit(Match).n_generations_ >= 2
    with pytest.raises(TypeError, match="is written for the host alone"):
        clone(policy).fit(MATCH)


def test_a_network_of_the_library_given_as_an_object(tmp_path):
    network = RealRSNN(16, gain_in=0.3, dense=True)
    policy = ESPolicy(network=network, population_size=8, n_generations=2, random_state=SEED).fit(Match)
    policy.save(tmp_path / "p.ecp")
    loaded = ESPolicy.load(tmp_path / "p.ecp")
    assert loaded.network == network
    assert loaded.score(Match) == policy.score(Match)
