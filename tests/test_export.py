"""NIR graphs and C headers run as the policies that they were made of."""

import ctypes
import re
import subprocess
import tracemalloc

import gymnasium as gym
import nir
import numpy as np
import pytest
from nir_interpreter import Interpreter

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.inspection import record_activity
from ecpolicy.networks import LSTM, RSNN, IntegerRSNN, RealRSNN
from ecpolicy.spaces import action_decoder
from probes import ACTION_SPACES, Anything

SMALL = {"n_generations": 2, "population_size": 16, "max_episode_steps": 60, "random_state": 0}
SIZES = {"Pendulum-v1": 63, "HalfCheetah-v5": 256}


def trained(environment, **parameters):
    return EvolvingConnectivityPolicy(**{**SMALL, **parameters}).fit(environment)


@pytest.fixture(scope="module")
def cartpole():
    return EvolvingConnectivityPolicy(
        n_generations=15, population_size=128, network=RSNN(100), learning_rate=0.3, eps=0.01, random_state=1
    ).fit("CartPole-v1")


def started(graph):
    """An interpreter at the start of an episode."""
    metadata = graph.metadata
    interpreter = Interpreter(graph, float(metadata["dt"]))
    interpreter.state["neurons"] = np.array(metadata["initial_potentials"])
    return interpreter


def standardized(metadata, raw):
    scaled = (raw - metadata["observation_mean"]) * metadata["observation_inverse_std"]
    return np.clip(scaled, -metadata["observation_clip"], metadata["observation_clip"]).astype(np.float32)


def replay(graph, observations):
    """Spikes (steps, substeps, neurons) and outputs (steps, outputs) for the observations of an episode."""
    interpreter, spikes, outputs = started(graph), [], []
    for raw in observations:
        x = standardized(graph.metadata, raw)
        values = [interpreter.step(x) for _ in range(int(graph.metadata["substeps"]))]
        spikes.append([value["neurons"] for value in values])
        outputs.append(values[-1]["action"])
    return np.array(spikes), np.array(outputs)


def replay_currents(graph, observations):
    """The same of a graph of current-based neurons, for which the caller filters input and output."""
    graph = unnested(graph) if "layer" in graph.nodes else graph
    metadata, interpreter = graph.metadata, started(graph)
    before, readout, spikes, outputs = 0.0, 0.0, [], []
    for raw in observations:
        x = standardized(metadata, raw)
        spikes.append([])
        for _ in range(int(metadata["substeps"])):
            values = interpreter.step(x - metadata["input_alpha"] * before)
            before = x
            readout = values["action"] + metadata["readout_decay"] * (readout - values["action"])
            spikes[-1].append(values["neurons"])
        outputs.append(readout)
    return np.array(spikes).astype(bool), np.array(outputs)


def written(graph, tmp_path):
    nir.write(tmp_path / "policy.nir", graph)
    return nir.read(tmp_path / "policy.nir")


def test_nir_plays_whole_episodes_of_cartpole(cartpole, tmp_path):
    graph = written(cartpole.to_nir(dialect="lif"), tmp_path)
    environment = gym.make("CartPole-v1")
    for seed in range(3):
        recorded = record_activity(cartpole, "CartPole-v1", seed=seed)
        observation, _ = environment.reset(seed=seed)
        interpreter, actions, over = started(graph), [], False
        while not over:
            x = standardized(graph.metadata, observation)
            for _ in range(33):
                values = interpreter.step(x)
            actions.append(np.argmax(values["action"]))
            observation, _, terminated, truncated, _ = environment.step(actions[-1])
            over = terminated or truncated
        np.testing.assert_array_equal(actions, recorded.actions)
    environment.close()
    assert len(actions) > 100


@pytest.mark.parametrize("environment", ["CartPole-v1", "Hopper-v5"])
def test_nir_has_every_spike_of_whole_episodes(environment, cartpole, tmp_path):
    policy = cartpole if environment == "CartPole-v1" else trained(environment, network=RSNN(gain_in=0.5))
    graph = written(policy.to_nir(dialect="lif"), tmp_path)
    for seed in range(2):
        recorded = record_activity(policy, environment, seed=seed)
        spikes, outputs = replay(graph, recorded.observations)
        np.testing.assert_array_equal(spikes, recorded.spikes)
        actions = action_decoder(policy.action_space_)(outputs)
        np.testing.assert_allclose(actions, recorded.actions, atol=1e-5)
    assert recorded.spikes.mean() > 0.005


def test_nir_of_real_weights(tmp_path):
    es = ESPolicy(n_generations=2, population_size=8, network=RealRSNN(40), max_episode_steps=60, random_state=2)
    ppo = SurrogateGradientPPOPolicy(network=RealRSNN(40), max_env_steps=256, n_steps=64, n_envs=2, random_state=2)
    for policy in (es.fit("CartPole-v1"), ppo.fit("CartPole-v1")):
        graph = written(policy.to_nir(dialect="lif"), tmp_path)
        recorded = record_activity(policy, "CartPole-v1", seed=1, max_episode_steps=30)
        spikes, outputs = replay(graph, recorded.observations)
        # Sums of real weights round differently in another order: nearly every spike, and the outputs.
        assert (spikes != recorded.spikes).mean() < 1e-3
        np.testing.assert_array_equal(action_decoder(policy.action_space_)(outputs), recorded.actions)


def unnested(graph):
    """The graph with the nodes of its layer in the layer's place."""
    layer = graph.nodes["layer"]
    nodes = {name: node for name, node in graph.nodes.items() if name != "layer"}
    nodes |= {name: layer.nodes[name] for name in ("neurons", "recurrent")}
    edges = [tuple("neurons" if end == "layer" else end for end in edge) for edge in graph.edges]
    edges += [("neurons", "recurrent"), ("recurrent", "neurons")]
    return nir.NIRGraph(nodes, edges, graph.metadata)


def test_current_based_neurons_are_nested_where_importers_want_it(cartpole, tmp_path):
    nested = written(cartpole.to_nir(dialect="cuba-lif"), tmp_path)
    assert nested.nodes["layer"].edges == [
        ("input", "neurons"), ("neurons", "recurrent"), ("recurrent", "neurons"), ("neurons", "output")
    ]  # fmt: skip
    neurons = nested.nodes["layer"].nodes["neurons"]
    np.testing.assert_array_equal(neurons.r, neurons.tau_mem / 1e-4)  # snnTorch and SpikingJelly refuse others
    np.testing.assert_array_equal(neurons.w_in, neurons.tau_syn / 1e-4)
    assert 1 - 1e-4 / neurons.tau_mem[0] == pytest.approx(np.exp(-0.05), rel=1e-7)
    assert 1 - 1e-4 / neurons.tau_syn[0] == pytest.approx(np.exp(-0.1), rel=1e-7)


@pytest.mark.parametrize("dialect", ["cuba-lif", "cuba-lif-flat"])
def test_current_based_neurons_have_the_spikes_too(cartpole, tmp_path, dialect):
    graph = written(cartpole.to_nir(dialect=dialect), tmp_path)
    recorded = record_activity(cartpole, "CartPole-v1", seed=4)
    spikes, outputs = replay_currents(graph, recorded.observations)
    np.testing.assert_array_equal(outputs.argmax(axis=1), recorded.actions)
    assert (spikes != recorded.spikes).mean() < 1e-3


def test_matrices_are_the_policys_and_time_constants_those_of_forward_euler(cartpole):
    graph = cartpole.to_nir(dialect="lif")
    sign = np.where(cartpole.excitatory_, 1, -1)[:, None]
    np.testing.assert_array_equal(graph.nodes["recurrent"].weight.T, sign * cartpole.connectivity_["recurrent"])
    np.testing.assert_array_equal(graph.nodes["output"].weight.T, sign * cartpole.connectivity_["output"])
    plus, minus = np.split(cartpole.connectivity_["input"].astype(int), 2)
    np.testing.assert_array_equal(graph.nodes["input"].weight.T, plus - minus)
    assert not (plus - minus).all()
    assert "signs" not in graph.nodes
    for name, tau in (("synapse", 5.0), ("neurons", 10.0), ("readout", 10.0)):
        assert 1 - 5e-4 / graph.nodes[name].tau[0] == pytest.approx(np.exp(-0.5 / tau), rel=1e-7)


class Pixels(gym.Env):
    """Noise as a camera has it."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, shape=(84, 84)):
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 2
        return self._seen(), {}

    def step(self, action):
        self._left -= 1
        return self._seen(), float(action), self._left == 0, False, {}

    def _seen(self):
        return self.np_random.integers(256, size=self.observation_space.shape, dtype=np.uint8)


def held(graph):
    """Bytes of the arrays in a graph."""
    parts = [part for node in graph.nodes.values() for part in vars(node).values()] + list(graph.metadata.values())
    return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


@pytest.mark.parametrize("shape", [(84, 84), (210, 160, 3)], ids=str)
def test_a_graph_is_as_large_as_its_weights(shape):
    policy = EvolvingConnectivityPolicy(n_generations=1, population_size=2, network=RSNN(8), random_state=0)
    policy.fit(lambda: Pixels(shape))
    numbers = int(np.prod(shape))
    weights = 4 * sum(p.size for p in policy.connection_probabilities_.values())  # bytes, in single precision
    for dialect in ("lif", "cuba-lif-flat"):
        tracemalloc.start()
        graph = policy.to_nir(dialect=dialect)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        statistics = 16 * numbers  # mean and standard deviation, in double precision
        assert held(graph) < weights + statistics + 10_000
        assert peak < 4 * (weights + statistics)
        assert graph.nodes["input"].weight.shape == (8, numbers)


def test_nir_has_every_spike_of_a_policy_that_sees_pixels():
    def small():
        return Pixels((30, 30))

    policy = trained(small, network=RSNN(70, gain_in=2.0))
    recorded = record_activity(policy, small, seed=1)
    spikes, _ = replay(policy.to_nir(dialect="lif"), recorded.observations)
    np.testing.assert_array_equal(spikes, recorded.spikes)
    assert recorded.spikes.any()


def test_what_cannot_be_exported_is_named(cartpole):
    gated = ESPolicy(network=LSTM(8), n_generations=1, population_size=4, max_episode_steps=5)
    gated.fit("CartPole-v1")
    with pytest.raises(TypeError, match="LSTM cannot be exported in this form; wanted RSNN or RealRSNN"):
        gated.to_nir()
    integer = trained("CartPole-v1", network=IntegerRSNN(8))
    with pytest.raises(TypeError, match=r"IntegerRSNN cannot be exported .* NIR's neurons are differential equations"):
        integer.to_nir()
    with pytest.raises(TypeError, match="wanted RSNN"):
        gated.to_c()
    with pytest.raises(ValueError, match="dialect must be one of 'cuba-lif', 'cuba-lif-flat', 'lif'"):
        cartpole.to_nir(dialect="if")
    for name in ("my policy", "", "1st", None):
        with pytest.raises(ValueError, match="C identifier"):
            cartpole.to_c(name)


class Compiled:
    """A header, compiled with every warning an error, as an object with predict."""

    def __init__(self, policy, folder, name="net", flags=("-O2",), compiler=("gcc", "-std=c99")):
        integer = isinstance(policy.network, IntegerRSNN)
        (folder / f"{name}.h").write_text(policy.to_c(name))
        source = folder / f"{name}.{'cc' if compiler[0] == 'g++' else 'c'}"
        source.write_text(
            f"#define {name.upper()}_FLOAT\n"
            f'#include "{name}.h"\n'
            f"{name}_state state;\n"
            "#ifdef __cplusplus\n"
            'extern "C" {\n'
            "#endif\n"
            "void start(void);\n"
            f"void act(const double *seen, {name}_{'number' if integer else 'action'} *action);\n"
            f"void start(void) {{ {name}_reset(&state); }}\n"
            f"void act(const double *seen, {name}_{'number' if integer else 'action'} *action)\n"
            f"{{ {name}_{'act' if integer else 'step'}(&state, seen, action); }}\n"
            "#ifdef __cplusplus\n"
            "}\n"
            "#endif\n"
        )
        warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
        if integer:
            warnings.append("-Wno-unused-function")
        library = folder / f"{name}.so"
        build = ["-ffp-contract=off", *warnings, *flags, "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
        subprocess.run([*compiler, *build], check=True)
        self._library = ctypes.CDLL(str(library))
        self._space = policy.action_space_

    def start(self):
        self._library.start()

    def act(self, observation):
        raw = np.ascontiguousarray(observation, np.float64).reshape(-1)
        action = np.zeros(max(int(np.prod(self._space.shape)), 1), self._space.dtype)
        self._library.act(raw.ctypes.data_as(ctypes.c_void_p), action.ctypes.data_as(ctypes.c_void_p))
        return action.reshape(self._space.shape)


def assert_same_episodes(policy, compiled, environment, n_episodes, limit=10_000):
    steps = 0
    for seed in range(n_episodes):
        observation, _ = environment.reset(seed=seed)
        compiled.start()
        state, over = None, False
        while not over and steps < limit:
            wanted, state = policy.predict(observation, state)
            np.testing.assert_array_equal(compiled.act(observation), wanted)
            observation, _, terminated, truncated, _ = environment.step(wanted)
            over, steps = terminated or truncated, steps + 1
    environment.close()
    return steps


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5"])
def test_c_acts_like_predict_over_ten_whole_episodes(environment, cartpole, tmp_path):
    if environment == "CartPole-v1":
        policy = cartpole
    else:
        policy = trained(environment, network=RSNN(SIZES[environment], gain_in=0.5))
    steps = assert_same_episodes(policy, Compiled(policy, tmp_path), gym.make(environment), 10)
    assert steps >= {"CartPole-v1": 1000, "Pendulum-v1": 2000, "HalfCheetah-v5": 10_000}[environment]


@pytest.mark.parametrize(
    "space",
    [
        *ACTION_SPACES,
        gym.spaces.Box(np.array([-2.0, 0.1]), np.array([5.0, 0.7]), dtype=np.float64),
        gym.spaces.Box(-5, 100, (3,), np.int16),
        gym.spaces.Box(0, 255, (2, 2), np.uint8),
    ],
    ids=str,
)
@pytest.mark.parametrize("network", [RSNN(33, 0.3), RSNN(33, 1), IntegerRSNN(33, 0.3), IntegerRSNN(33, 1)], ids=str)
def test_c_knows_every_action_space(space, network, tmp_path):
    def make():
        return Anything(space)

    policy = trained(make, network=network.set_params(gain_in=1.0), max_episode_steps=10)
    assert_same_episodes(policy, Compiled(policy, tmp_path, flags=("-O3",)), make(), 3)


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5"])
def test_c_of_integers_acts_like_predict_over_whole_episodes(environment, tmp_path):
    policy = trained(environment, network=IntegerRSNN(SIZES.get(environment, 65), gain_in=0.5))
    n_episodes = 3 if environment == "HalfCheetah-v5" else 10
    assert assert_same_episodes(policy, Compiled(policy, tmp_path), gym.make(environment), n_episodes) >= 90


@pytest.mark.parametrize("network", [RSNN, IntegerRSNN])
@pytest.mark.parametrize("neurons", [1, 31, 63, 64, 65, 257])
def test_c_and_cpp_of_2011_act_like_predict_at_odd_sizes(network, neurons, tmp_path):
    policy = trained("Pendulum-v1", network=network(neurons, gain_in=1.0))
    for name, compiler in {"c": ("gcc", "-std=c99"), "cpp": ("g++", "-std=c++11")}.items():
        compiled = Compiled(policy, tmp_path, name, compiler=compiler)
        assert assert_same_episodes(policy, compiled, gym.make("Pendulum-v1"), 1) == 200


@pytest.mark.parametrize(
    "network", [RSNN(65, gain_in=1.0), IntegerRSNN(65, gain_in=1.0), RSNN(65, gain_in=1.0, t_ref=2.0)]
)
def test_c_without_recurrent_connections_has_no_table_of_them(network, tmp_path):
    policy = trained("Pendulum-v1", network=network, initial_probability={"recurrent": 0.0})
    assert record_activity(policy, "Pendulum-v1").spikes.any()
    assert "net_k_h" not in policy.to_c("net")
    assert_same_episodes(policy, Compiled(policy, tmp_path), gym.make("Pendulum-v1"), 2)


def test_saturated_integers_are_the_same_in_c(tmp_path):
    """More than 127 spikes of one kind, and observations beyond what the scale holds."""
    network = IntegerRSNN(400, 1.0, gain_in=30.0, gain_recurrent=1.5, shift_m=1)
    policy = trained("Pendulum-v1", network=network, initial_probability={"recurrent": 0.95})
    assert record_activity(policy, "Pendulum-v1").spikes.sum(axis=2).max() > 127
    assert_same_episodes(policy, Compiled(policy, tmp_path), gym.make("Pendulum-v1"), 2)


def test_the_header_of_integers_has_no_float_but_where_asked(tmp_path):
    policy = trained("Pendulum-v1", network=IntegerRSNN(40))
    core = policy.to_c("net").split("#ifdef NET_FLOAT")[0].split("*/", 1)[1]
    assert not re.search(r"\b(float|double)\b|math\.h|\d\.\d", core)
    assert re.search(r"\b(float|double)\b|math\.h|\d\.\d", policy.to_c("net").split("#ifdef NET_FLOAT")[1])


@pytest.mark.parametrize("network", [RSNN(40), IntegerRSNN(40)], ids=str)
def test_observations_in_single_precision_need_no_double(network, tmp_path):
    policy = trained("Pendulum-v1", network=network)
    text = policy.to_c("net", real="float")
    assert "double" not in text
    (tmp_path / "net.h").write_text(text)
    (tmp_path / "net.c").write_text('#define NET_FLOAT\n#include "net.h"\n')
    strict = ["-std=c99", "-Werror", "-Wdouble-promotion", "-Wconversion", "-Wno-sign-conversion", "-fsyntax-only"]
    subprocess.run(["gcc", *strict, "net.c"], cwd=tmp_path, check=True)
    with pytest.raises(ValueError, match="real must be 'double' or 'float'; got 'half'"):
        policy.to_c("net", real="half")


def test_the_header_says_its_size(cartpole, tmp_path):
    Compiled(cartpole, tmp_path, flags=("-Os",))
    text = cartpole.to_c("net")
    tables = int(text.split("Tables: ")[1].split()[0])
    state = int(text.split("State: ")[1].split()[0])
    (tmp_path / "size.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) { printf("%zu %zu", sizeof(net_state), sizeof net_k_in + '
        "sizeof net_k_h + sizeof net_k_out + sizeof net_excitatory + sizeof net_v0 + sizeof net_mean + sizeof "
        "net_inverse_std); return 0; }\n"
    )
    subprocess.run(["gcc", "-std=c99", "size.c", "-o", "size"], cwd=tmp_path, check=True)
    measured = subprocess.run(["./size"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert measured == f"{state} {tables}"


def test_a_float16_action_has_no_c_type(tmp_path):
    policy = trained(lambda: Anything(gym.spaces.Box(-1, 1, (1,), np.float16)), network=RSNN(8), max_episode_steps=5)
    with pytest.raises(TypeError, match="no type for actions of float16"):
        policy.to_c()
