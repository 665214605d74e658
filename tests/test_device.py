"""The JAX backend against the host's kernels, the NumPy reference and plain replays, bit for bit."""

import os
import re
import socket
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box

import fused
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.distributions import Bernoulli
from ecpolicy.environments import resolve
from ecpolicy.networks import RSNN, reference
from ecpolicy.networks.layout import PLANES, WORD, halves, pack, unpack, words_per_row
from ecpolicy.networks.numba import bits as host
from ecpolicy.networks.xla import bits as device
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed, uniform
from ecpolicy.rollout import device as rollout
from ecpolicy.rollout.device_environment import Snapshot
from ecpolicy.rollout.device_program import Program
from ecpolicy.rollout.episodes import Networks, of_deployed, playing, population
from ecpolicy.rollout.outcome import EpisodeError
from ecpolicy.rollout.seconds import SHARES
from ecpolicy.rollout.workers import Plan
from ecpolicy.spaces import action_decoder
from learnt import fingerprint, learnt
from probes import DeviceMatch, Lengths, Match, usual_promotion

WIDTHS = [1, 31, 63, 64, 65, 128, 129, 257]
ROOT = Path(__file__).parent.parent
MATCH, RANDOM = DeviceMatch(), DeviceMatch(random_length=True)  # programs are compiled for an object


def make(small, **changes):
    return EvolvingConnectivityPolicy(**{**small, **changes})


def slices(rho):
    """Thresholds (24, rows, words) and flips (rows, words) of probabilities (rows, lanes)."""
    padded = np.zeros((rho.shape[0], words_per_row(rho.shape[1]) * WORD), np.float32)
    padded[:, : rho.shape[1]] = rho
    planes, flips = np.empty((PLANES, padded.size // WORD), np.uint64), np.empty(padded.size // WORD, np.uint64)
    host.threshold_planes(padded.reshape(-1), planes, flips)
    return planes.reshape(PLANES, rho.shape[0], -1), flips.reshape(rho.shape[0], -1)


# Kernels


@pytest.mark.parametrize("lanes", WIDTHS)
def test_sampled_populations_equal_those_of_the_host(lanes):
    rho = np.random.default_rng(lanes).random((7, lanes)).astype(np.float32)
    rho.flat[:3] = [0, 1, 0.5]
    keys = fold_in(key_from_seed(5), np.arange(9))
    planes, flips = slices(rho)
    expected = np.empty((9, flips.size), np.uint64)
    host.sample(keys, planes.reshape(PLANES, -1), flips.reshape(-1), expected)
    drawn = jax.jit(device.sample)(keys, halves(planes), halves(flips))
    np.testing.assert_array_equal(drawn, halves(expected.reshape(9, *flips.shape)))
    assert expected.any()


@pytest.mark.parametrize(
    ("members", "largest"), [(1, 5), (63, 2**25), (64, 2**25), (65, 300), (200, 2**20), (500, 999)]
)
def test_integer_sums_equal_those_of_the_host(members, largest):
    generator = np.random.default_rng(members)
    planes, flips = slices(generator.random((5, 70)).astype(np.float32))
    planes, flips = planes.reshape(PLANES, -1), flips.reshape(-1)
    keys = fold_in(key_from_seed(members), np.arange(members))
    weights = generator.integers(-largest + 1, largest, members).astype(np.int32)
    expected = host.weighted_sum(keys, planes, flips, weights)
    np.testing.assert_array_equal(device.weighted_sum(keys, planes, flips, weights), expected)
    assert expected.any()


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("rows", [1, 32, 65])
def test_transposed_bits(rows, lanes):
    bits = np.random.default_rng(rows).random((3, rows, lanes)) < 0.5
    moved = jax.jit(partial(device.transpose_bits, lanes=lanes))(halves(pack(bits)))
    assert moved.shape == (3, -(-rows // 32), lanes)
    place = np.arange(rows)
    np.testing.assert_array_equal((np.asarray(moved)[:, place // 32] >> (place % 32)[:, None] & 1).astype(bool), bits)


def test_initial_potentials_equal_those_of_the_host():
    keys = fold_in(key_from_seed(1), np.arange(5))
    np.testing.assert_array_equal(jax.jit(device.uniform, static_argnums=1)(keys, 77), uniform(keys, 77))


@pytest.mark.parametrize(
    ("neurons", "ratio"),
    [*product(WIDTHS, [0, 0.3, 1]), (64, 0.5), (128, 0.5)],  # in the last two the kinds meet between words
)
def test_network_step_equals_reference_for_a_hundred_steps(neurons, ratio):
    """Spikes, potentials, currents and outputs of 3,300 substeps: no rounding differs, so no spike can flip."""
    network = RSNN(n_neurons=neurons, excitatory_ratio=ratio, gain_in=0.3)
    members, obs_size, n_outputs = 2, 5, 3
    generator = np.random.default_rng(neurons)
    shapes = network.shapes(obs_size, n_outputs).values()
    k_in, k_h, k_out = (generator.random((members, shape.pre, shape.post)) < 0.5 for shape in shapes)
    packed = [halves(pack(part)) for part in (k_in, k_h, np.ascontiguousarray(k_out.swapaxes(1, 2)))]
    connections = packed[0], device.transpose_bits(jnp.asarray(packed[1]), neurons), packed[2]
    v = generator.random((members, neurons), dtype=np.float32)
    nothing = np.zeros((members, neurons), np.float32), np.zeros((members, packed[0].shape[2]), np.uint32)
    state = device.State(v, *nothing, np.zeros((members, n_outputs), np.float32))
    expected = [
        reference.State(v[m], nothing[0][m], np.zeros(neurons, bool), nothing[0][m], np.zeros(n_outputs, np.float32))
        for m in range(members)
    ]
    settings = {"n_excitatory": network.n_excitatory, "substeps": 33, "constants": network.constants(obs_size)}
    step = jax.jit(partial(device.rsnn_step, **settings))
    spikes = 0
    for _ in range(100):
        x = generator.standard_normal((members, obs_size)).astype(np.float32)
        state, output = step(connections, state, x, np.uint32(0))
        for m in range(members):
            expected[m], count_filtered, _ = reference.rsnn_step(
                k_in[m], k_h[m], k_out[m], expected[m], x[m], **settings
            )
            np.testing.assert_array_equal(state.v[m], expected[m].v)
            np.testing.assert_array_equal(state.i_syn[m], expected[m].i_syn)
            np.testing.assert_array_equal(
                unpack(np.asarray(state.spikes[m]).view(np.uint64), neurons), expected[m].spike
            )
            np.testing.assert_array_equal(output[m], count_filtered)
            spikes += expected[m].spike.sum()
    assert spikes > 0


# Gymnasium environments


@pytest.mark.parametrize("environment", ["CartPole-v1", Lengths, [Match, Lengths], lambda: Lengths()])
def test_a_fit_on_gymnasium_is_the_same_on_both_backends(small, environment):
    expected = make(small, backend="numpy").fit(environment)
    policy = make(small, backend="jax").fit(environment)
    assert fingerprint(policy) == fingerprint(expected)
    ignored = {"seconds", *SHARES}
    for ours, theirs in zip(policy.history_, expected.history_, strict=True):
        assert {k: v for k, v in ours.items() if k not in ignored} == {
            k: v for k, v in theirs.items() if k not in ignored
        }
    assert policy.score(environment) == expected.score(environment)


def test_one_instance_and_workers_are_the_same_on_both_backends(small):
    few = {**small, "n_generations": 2, "initial_probability": 0.3, "keep_density": True}
    expected = fingerprint(make(few).fit(Lengths))
    assert fingerprint(make(few, backend="jax").fit(Lengths())) == expected  # most episodes wait for their turn
    assert fingerprint(make(few, backend="jax", n_jobs=2).fit(Lengths)) == expected


# Environments in JAX


def replay(policy, environment, seed, steps, *, connections=None, membrane_key=None):
    """The return of an episode, its length and observations, one step at a time on the host."""
    network, decode = policy.network, action_decoder(policy.action_space_)
    state = environment.reset(jax.random.PRNGKey(seed))
    total, seen, hidden = 0.0, [], None
    if connections is not None:
        hidden = network.initial_state(membrane_key[None], 1)
    zero = np.zeros(1, np.int64)
    while len(seen) < steps and not state.done:
        observation = np.asarray(state.obs, np.float32)
        seen.append(observation)
        if connections is None:
            action, hidden = policy.predict(observation, hidden)
        else:
            output = np.zeros((1, 1), np.float32)
            network.step(connections, hidden, observation[None], output, owners=zero, rows=zero)
            action = decode(output)[0]
        state = environment.step(state, action)
        total += float(state.reward)
    return total, len(seen), seen


def test_a_generation_equals_its_replay_on_the_host(small):
    """Members drawn, stepped and added up on the device, against the host's kernels and a loop in Python."""
    environment = DeviceMatch(12, random_length=True)
    policy = make(small, n_generations=1, population_size=21, chunk_size=8, max_episode_steps=9).fit(environment)
    distribution = Bernoulli(policy.network.shapes(2, 1))
    rho = distribution.init()
    keys = fold_in(fold_in(key_from_seed(0), 0), np.arange(21))
    drawn = distribution.sample(rho, keys)
    seeds = environment_seed(fold_in(fold_in(keys, Stream.ENVIRONMENT), 0))
    membrane = fold_in(fold_in(keys, Stream.MEMBRANE), 0)
    returns, lengths, seen = [], [], []
    for m in range(21):
        own = {name: words[m : m + 1] for name, words in drawn.items()}
        total, length, observations = replay(
            policy, environment, int(seeds[m]), 9, connections=own, membrane_key=membrane[m]
        )
        returns.append(total)
        lengths.append(length)
        seen += observations
    record = policy.history_[0]
    n, mean, squares = (learnt(policy)[f"search/moments/{name}"] for name in ("n", "mean", "squares"))
    assert len(set(lengths)) > 3
    assert max(lengths) == 9
    assert record["n_env_steps"] == sum(lengths) == n
    assert record["return_mean"] == np.mean(returns)
    assert record["return_max"] == np.max(returns)
    np.testing.assert_allclose(record["return_std"], np.std(returns))
    np.testing.assert_allclose(mean, np.mean(seen, axis=0), rtol=1e-6)
    np.testing.assert_allclose(squares / n, np.var(seen, axis=0), rtol=1e-5)


def test_learns_the_optimum_and_predict_agrees_with_score(small):
    environment = MATCH
    policy = make(small, n_generations=25, score_threshold=9.9).fit(environment)
    assert policy.stop_reason_ == "score_threshold"
    assert policy.score(environment) == 10
    returns = policy.episode_returns(environment, n_episodes=5, seed=7)
    expected = [replay(policy, environment, seed, 1000)[0] for seed in range(7, 12)]
    np.testing.assert_array_equal(returns[:, 0], expected)


def test_speed_and_distance_come_from_the_metrics(small):
    walks = DeviceMatch(random_length=True, walks=True)
    policy = make(small, n_generations=1).fit(walks)
    episodes = policy.evaluate(walks, n_episodes=5)
    assert np.unique(episodes.lengths).size > 1
    np.testing.assert_allclose(episodes.x_velocities, (episodes.lengths + 1) / 2)  # the mean of 1, 2, ... n
    np.testing.assert_allclose(episodes.x_positions, 2 * episodes.lengths)
    assert policy.history_[0]["deployed_x_position"] == 2 * policy.history_[0]["deployed_length"]
    assert np.isnan(policy.evaluate(RANDOM, n_episodes=2).x_velocities).all()


def test_save_and_resume(small, tmp_path):
    environment, kept = RANDOM, {**small, "initial_probability": 0.3, "keep_density": True}
    whole = make(kept).fit(environment)
    expected = fingerprint(whole)
    assert whole.search_probabilities_["input"].mean() == pytest.approx(0.3, abs=1e-5)
    make(kept, n_generations=2).fit(environment).save(tmp_path / "part.ecp")
    resumed = EvolvingConnectivityPolicy.load(tmp_path / "part.ecp").set_params(n_generations=4, warm_start=True)
    assert fingerprint(resumed.fit(environment)) == expected


def test_nothing_is_compiled_again_between_generations_and_fits(small):
    environment = RANDOM
    policy = make(small, max_episode_steps=[(0, 5), (300, 9)]).fit(environment)
    policy.partial_fit(environment)
    devices, network = tuple(jax.devices()), policy.network
    snapshot = Snapshot(environment, *resolve(environment).identities)
    program = rollout.compiled(Program(snapshot, network, 1, rollout.default_chunk_size(), devices))
    policy.score(environment, n_episodes=3)
    assert program._cache_size() == 1  # the population's episodes, the deployed network's, and those of score


def test_privileged_observations_are_left_out(small):
    plain = make(small).fit(MATCH)
    privileged = make(small).fit(DeviceMatch(privileged=True))
    assert fingerprint(privileged) == fingerprint(plain)
    assert privileged.n_features_in_ == 2


def test_lists_callables_and_time_limits(small):
    both = make(small, n_generations=2).fit([DeviceMatch(4), DeviceMatch(6)])
    assert both.history_[0]["n_env_steps"] == 40 * (4 + 6)
    assert make(small, n_generations=1).fit(lambda: DeviceMatch(4)).n_env_steps_ == 160
    limited = DeviceMatch(50)
    limited.episode_length = 50  # as Brax's EpisodeWrapper has it
    policy = make(small, n_generations=1, max_episode_steps=5).fit(limited)
    assert policy.history_[0]["episode_length"] == 5
    assert policy.history_[0]["n_evaluation_steps"] == 6 * 50
    cut = policy.evaluate(DeviceMatch(6), n_episodes=1, max_episode_steps=3)
    assert cut.lengths.sum() == 3
    assert policy.episode_returns(DeviceMatch(6), n_episodes=1, max_episode_steps=3).tolist() == cut.returns.tolist()


# Lanes, and what is played beside what is asked for


class Setup:
    """A runner on one environment, and tables of a population and of the deployed network for it."""

    def __init__(self, environment, lanes, n_neurons=32, horizon=np.inf):
        resolved, network = resolve(environment), RSNN(n_neurons=n_neurons)
        self.runner = rollout.DeviceRunner(
            Plan(
                resolved.environments, resolved.observation_space, resolved.action_space, network, False,
                identities=resolved.identities,
            ),
            lanes,
        )  # fmt: skip
        shapes = network.shapes(resolved.observation_space.shape[0], resolved.action_space.shape[0])
        generator = np.random.default_rng(0)
        rho = {name: generator.random((shape.pre, shape.post), np.float32) for name, shape in shapes.items()}
        moments = Moments.empty(resolved.observation_space.shape[0])
        self.networks = Networks(Bernoulli(shapes).sampler(rho), Standardizer.of(moments, enabled=False, clip=10.0))
        self.horizon = horizon

    def population(self, members):
        keys = fold_in(key_from_seed(3), np.arange(members))
        return population(self.networks, keys, n_episodes=1, horizons=[self.horizon])

    def deployed(self, episodes, horizon=None):
        horizons = [self.horizon if horizon is None else horizon]
        seeds = np.arange(episodes)[None]
        return of_deployed(self.networks, seeds, membrane_key=key_from_seed(4), horizons=horizons)


def assert_same(ours, theirs):
    for name in ("returns", "lengths", "travel"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    for one, other in zip(ours.moments, theirs.moments, strict=True):
        np.testing.assert_array_equal(one, other)


def test_episodes_are_the_same_in_any_lane_and_beside_others():
    one = Setup(DeviceMatch(50, random_length=True, walks=True), 8)
    alone, deployed = (one.runner.run(playing(table))[0] for table in (one.population(300), one.deployed(5)))
    assert np.unique(alone.returns).size > 10
    assert len(set(alone.lengths[:, 0])) > 10
    beside, ahead = one.runner.run(playing(one.deployed(5)), one.population(300))
    assert_same(beside, deployed)
    assert_same(ahead, alone)
    more = Setup(DeviceMatch(50, random_length=True, walks=True), 24)
    assert_same(more.runner.run(playing(more.population(300)))[0], alone)
    keys = fold_in(key_from_seed(3), np.arange(300))[::-1]
    turned = one.runner.run(playing(population(one.networks, keys, n_episodes=1, horizons=[np.inf])))[0]
    np.testing.assert_array_equal(turned.returns[::-1], alone.returns)


@pytest.mark.slow
@usual_promotion()
def test_physics_is_the_same_in_any_lane():
    """A CPU's compiler treats the last of more than eight lanes differently, unless they are stepped in tiles."""
    setup = Setup("brax/hopper", 16, horizon=30.0)
    table = setup.population(24)
    reverse = np.arange(24)[::-1]
    turned = table._replace(
        keys=table.keys[reverse], membrane_keys=table.membrane_keys[reverse], seeds=table.seeds[reverse]
    )
    expected, returns = (setup.runner.run(playing(each))[0].returns for each in (table, turned))
    np.testing.assert_array_equal(returns[reverse], expected)


def test_lanes_take_the_next_episode_where_one_ends():
    setup = Setup(DeviceMatch(50, random_length=True), 8)
    outcome, _ = setup.runner.run(playing(setup.population(400)))
    lengths = outcome.lengths[:, 0]
    assert setup.runner.lane_steps <= 1.1 * outcome.n_steps
    assert 8 * sum(lengths[k : k + 8].max() for k in range(0, 400, 8)) > 1.5 * outcome.n_steps  # otherwise


def test_horizons_are_those_of_rows():
    setup = Setup(DeviceMatch(10), 8, horizon=4.0)
    beside, ahead = setup.runner.run(playing(setup.deployed(20, horizon=7.0)), setup.population(30))
    assert (beside.lengths == 7).all()
    assert (ahead.lengths == 4).all()


def test_what_is_ahead_is_given_where_it_is_wanted():
    setup = Setup(DeviceMatch(4), 8)
    table, ahead = setup.deployed(3), setup.population(20)
    assert setup.runner.run(playing(table), ahead)[1].lengths.shape == (20, 1)
    assert setup.runner.run(playing(table), ahead, lambda result: result is None)[1] is None
    before = setup.runner.lane_steps
    setup.runner.run(playing(table), ahead, lambda result: result is not None)
    setup.runner.run(playing(table), ahead._replace(networks=Networks(*setup.networks)))
    assert setup.runner.lane_steps - before == 2 * 4 * 8  # nothing was played beside these


def test_errors_ahead_are_given_and_others_raised():
    setup = Setup(DeviceMatch(spoilt="observation"), 8)
    fine, bad = setup.deployed(3, horizon=1.0), setup.population(20)  # the second observation is NaN
    outcome, error = setup.runner.run(playing(fine), bad)
    assert outcome.n_steps == 3
    assert isinstance(error, EpisodeError)
    assert f"reset(PRNGKey({bad.seeds[0]}))" in str(error)
    with pytest.raises(EpisodeError, match=r"reset\(PRNGKey\(0\)\)"):
        setup.runner.run(playing(setup.deployed(3)), fine)


def test_a_device_that_fails_beside_what_is_ahead_plays_the_rest_alone(monkeypatch):
    setup = Setup(DeviceMatch(4), 8)
    compiled = rollout.compiled

    def small(program):
        def played(slices, chunk, shared):
            if chunk[2].sum() > 3:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.")
            return compiled(program)(slices, chunk, shared)

        return played

    monkeypatch.setattr(rollout, "compiled", small)
    outcome, error = setup.runner.run(playing(setup.deployed(3)), setup.population(20))
    assert outcome.n_steps == 12
    assert isinstance(error, MemoryError)


PROGRAM = """
import sys
sys.path[:0] = {paths}
import jax
if {processes} > 1:
    jax.distributed.initialize("localhost:{port}", {processes}, int(sys.argv[1]))
from learnt import fingerprint
from probes import DeviceMatch
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN
policy = EvolvingConnectivityPolicy(network=RSNN(32), population_size=50, n_generations=2, chunk_size=10,
                                    eval_episodes=2, confirm_episodes=30, random_state=0)
environment = DeviceMatch(random_length=True)
policy.fit(environment)
if {processes} > 1:
    try:
        EvolvingConnectivityPolicy(n_generations=1, population_size=4).fit(DeviceMatch())
    except ValueError as error:
        assert "{processes} JAX processes train together: random_state must be an integer" in str(error)
    else:
        raise AssertionError("nothing was raised")
print(len(jax.devices()), policy.n_env_steps_, policy.score(environment), fingerprint(policy))
"""


def run_on(devices, processes=1):
    """Devices in all, environment steps, score and fingerprint of a fit, of every process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    code = PROGRAM.format(paths=[str(ROOT / "tests"), str(ROOT / "benchmarks")], processes=processes, port=port)
    environ = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number)],
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(processes)
    ]
    outputs = [process.communicate(timeout=240) for process in started]
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output.splitlines()[-1].split() for output, _ in outputs]  # gloo prints before


def test_results_do_not_depend_on_devices_and_processes():
    one = run_on(1)[0]
    assert one[0] == "1"
    three = run_on(3)[0]
    assert three[0] == "3"
    processes = run_on(1, processes=2)
    assert [each[0] for each in processes] == ["2", "2"]
    assert one[1:] == three[1:] == processes[0][1:] == processes[1][1:]


# Errors


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            DeviceMatch(spoilt="observation"),
            r"An observation is NaN, infinite or beyond 1e\+15 in the episode .* reset\(PRNGKey\(\d+",
        ),
        (DeviceMatch(spoilt="reward"), r"The return is nan in the episode .* a reward was NaN"),
    ],
)
def test_nan_is_named_and_what_was_learnt_stays(small, environment, message):
    policy = make(small).fit(MATCH)
    learnt = fingerprint(policy)
    with pytest.raises(RuntimeError, match=message):
        policy.fit(environment)
    assert fingerprint(policy) == learnt


class Batched(DeviceMatch):
    def reset(self, rng):
        return jax.vmap(super().reset)(jax.random.split(rng, 3))


class Unnamed(DeviceMatch):
    def reset(self, rng):
        state = super().reset(rng)
        return state._replace(obs={"pixels": state.obs})


@pytest.mark.parametrize(
    ("environment", "changes", "message"),
    [
        (MATCH, {"backend": "numpy"}, 'are JAX programs: give backend="jax" or "auto"'),
        (MATCH, {"backend": "torch"}, r"backend must be one of \['auto', 'jax', 'numpy'\]; got 'torch'"),
        (MATCH, {"chunk_size": 0}, "chunk_size must be an integer in"),
        ([MATCH, Match], {}, "must share its spaces"),
        (Batched(), {}, r"has shape \(3, 2\) and its done shape \(3,\); wanted \(n,\) and \(\). Give the environment"),
        (Unnamed(), {}, r"observes \['pixels'\]; wanted an array, or a \"state\""),
        ("brax/hoper", {}, "Brax has no environment 'hoper'; it has ant, .*hopper"),
    ],
)
def test_bad_environments_and_parameters(small, environment, changes, message):
    with pytest.raises(ValueError, match=message):
        make(small, **changes).fit(environment)


def test_gymnasium_and_jax_do_not_mix(small):
    class Twin(Match):
        observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        action_space = Box(-1, 1, (1,), np.float32)

    with pytest.raises(ValueError, match="cannot mix Gymnasium environments with those of Brax"):
        make(small).fit([Twin, MATCH])


def test_a_device_without_memory_names_the_chunk_size_to_try(small, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes.")

    policy = make(small, chunk_size=16).fit(MATCH)
    learnt = fingerprint(policy)
    monkeypatch.setattr(rollout, "compiled", lambda program: full)
    with pytest.raises(MemoryError, match=r"with 16 members at once. Try chunk_size=8, or .* Out of memory"):
        policy.fit(MATCH)
    assert fingerprint(policy) == learnt


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Missing())
import numpy as np
from ecpolicy import EvolvingConnectivityPolicy
"""


def run_without(missing, code):
    program = WITHOUT.format(missing=missing) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("missing", "call", "message"),
    [
        (["jax", "jaxlib"], 'EvolvingConnectivityPolicy(backend="jax").fit("CartPole-v1")', 'backend="jax" needs jax'),
        (["brax"], 'EvolvingConnectivityPolicy().fit("brax/hopper")', "The environment 'brax/hopper' needs brax"),
    ],
)
def test_missing_packages_are_named(missing, call, message):
    result = run_without(missing, call)
    assert f"ImportError: {message}" in result.stderr
    assert re.search(rf'pip install "(ecpolicy|/.*)\[{missing[0]}\]"', result.stderr)


def test_a_policy_trained_with_jax_acts_without_it(small, tmp_path):
    policy = make(small).fit(MATCH)
    policy.save(tmp_path / "p.ecp")
    code = f"""
policy = EvolvingConnectivityPolicy.load({str(tmp_path / "p.ecp")!r})
state = None
for t in range(5):
    action, state = policy.predict(np.array([1.0, 0.1 * t], np.float32), state)
print(float(action[0]).hex())
"""
    result = run_without(["jax", "jaxlib"], code)
    assert result.returncode == 0, result.stderr
    state = None
    for t in range(5):
        action, state = policy.predict(jnp.array([1.0, np.float32(0.1 * t)]), state)
    assert result.stdout.strip() == float(action[0]).hex()


@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_the_fused_candidate_equals_the_kernel(ratio):
    """benchmarks/fused.py, run by Pallas' interpreter here; it is lowered for NVIDIA GPUs as well."""
    members, neurons, network = 3, 64, RSNN(n_neurons=64, excitatory_ratio=ratio, gain_in=0.3)
    generator = np.random.default_rng(0)
    connections = tuple(
        generator.integers(0, 2**32, (members, *shape), np.uint32) for shape in ((10, 2), (2, neurons), (3, 2))
    )
    state = device.State(
        generator.random((members, neurons), np.float32),
        np.zeros((members, neurons), np.float32),
        np.zeros((members, 2), np.uint32),
        np.zeros((members, 3), np.float32),
    )
    settings = {"n_excitatory": network.n_excitatory, "substeps": 33, "constants": network.constants(5)}
    step = jax.jit(partial(device.rsnn_step, **settings))
    candidate = jax.jit(partial(fused.rsnn_step, interpret=True, **settings))
    other, spikes = state, 0
    for _ in range(10):
        x = generator.standard_normal((members, 5), np.float32)
        state, output = step(connections, state, x, np.uint32(0))
        other, same_output = candidate(connections, other, x, np.uint32(0))
        np.testing.assert_array_equal(same_output, output)
        for ours, theirs in zip(other, state, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        spikes += np.bitwise_count(np.asarray(state.spikes)).sum()
    assert spikes > 0
    traced = jax.jit(partial(fused.rsnn_step, **settings)).trace(connections, state, x, np.uint32(0))
    assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()
