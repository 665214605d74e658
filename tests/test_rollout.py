"""Rollouts against a plain loop with the reference network; independence from workers, batches and vectorisation."""

import contextlib
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from joblib import parallel_config

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.distributions import Bernoulli
from ecpolicy.environments import resolve
from ecpolicy.networks import RSNN, reference
from ecpolicy.networks.layout import unpack
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed, uniform
from ecpolicy.rollout.episodes import CHUNK, Networks, of_deployed, playing, population
from ecpolicy.rollout.outcome import EpisodeError
from ecpolicy.rollout.runner import Runner
from ecpolicy.rollout.workers import Call, Plan, work
from ecpolicy.spaces import action_decoder, action_outputs, observation_size
from probes import Broken, DiesOnce, Lengths, Match, Pool, Spaces

NETWORK = RSNN(n_neurons=40)
KEYS = fold_in(key_from_seed(11), np.arange(37))  # no multiple of the chunk size
STANDARDIZER = Standardizer(np.array([0.1]), np.array([1.5]), 1.2)


def plan_of(*environments, space=Match.observation_space, action=Match.action_space):
    vectorized = any(isinstance(environment, gym.vector.VectorEnv) for environment in environments)
    return Plan(environments, space, action, NETWORK, vectorized)


def distribution_of(plan):
    return Bernoulli(NETWORK.shapes(observation_size(plan.observation_space), action_outputs(plan.action_space)))


def random_rho(plan, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.random(p.shape).astype(np.float32) for name, p in distribution_of(plan).init().items()}


def networks_of(plan, standardizer=STANDARDIZER):
    return Networks(distribution_of(plan).sampler(random_rho(plan)), standardizer)


def task_of(plan, *, keys=KEYS, n_episodes=1, horizon=np.inf):
    return population(networks_of(plan), keys, n_episodes=n_episodes, horizons=(horizon,) * len(plan.environments))


def run(plan, table, n_jobs=1):
    with Runner(plan, n_jobs) as runner:
        return runner.run(playing(table))[0]


def assert_same(one, other):
    np.testing.assert_array_equal(one.returns, other.returns)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    assert one.moments.n == other.moments.n
    np.testing.assert_array_equal(one.moments.mean, other.moments.mean)
    np.testing.assert_array_equal(one.moments.squares, other.moments.squares)


def play_plainly(environment, theta, membrane_key, seed, decode):
    """One episode with the reference network; the observations acted upon, and the return."""
    state = reference.State(
        uniform(membrane_key, NETWORK.n_neurons), *np.zeros((1, NETWORK.n_neurons), np.float32),
        np.zeros(NETWORK.n_neurons, bool), np.zeros(NETWORK.n_neurons, np.float32),
        np.zeros(theta["output"].shape[1], np.float32),
    )  # fmt: skip
    observation, _ = environment.reset(seed=int(seed))
    observations, total, over = [], 0.0, False
    while not over:
        observations.append(observation)
        mean, inverse_std, clip = STANDARDIZER
        x = np.clip((np.asarray(observation, np.float64) - mean) * inverse_std, -clip, clip).astype(np.float32)
        state, output, _ = reference.rsnn_step(
            theta["input"], theta["recurrent"], theta["output"], state, x, n_excitatory=NETWORK.n_excitatory,
            substeps=NETWORK.substeps, constants=NETWORK.constants(x.size),
        )  # fmt: skip
        observation, reward, terminated, truncated, _ = environment.step(decode(output[None])[0])
        total += reward
        over = terminated or truncated
    return np.array(observations), total


def test_population_equals_a_plain_loop():
    plan = plan_of(Lengths)
    rho, outcome = random_rho(plan), run(plan, task_of(plan))
    everything = []
    for member, key in enumerate(KEYS):
        theta = {}
        for index, (name, p) in enumerate(rho.items()):
            drawing = fold_in(fold_in(key, Stream.CONNECTIONS), index)
            theta[name] = reference.sample(drawing, p) if name != "output" else reference.sample(drawing, p.T).T
        observations, total = play_plainly(
            Lengths(), theta, fold_in(fold_in(key, Stream.MEMBRANE), 0),
            environment_seed(fold_in(fold_in(key, Stream.ENVIRONMENT), 0)), action_decoder(Lengths.action_space),
        )  # fmt: skip
        assert outcome.returns[member, 0] == total
        assert outcome.lengths[member, 0] == len(observations)
        everything.append(observations)
    everything = np.concatenate(everything)
    assert outcome.moments.n == len(everything)
    np.testing.assert_allclose(outcome.moments.mean, everything.mean(0))
    np.testing.assert_allclose(outcome.moments.squares, everything.var(0) * len(everything))
    assert len(set(outcome.returns[:, 0])) > 3


def test_deployed_network_is_the_thresholded_one_and_every_environment_counts():
    plan = plan_of(Lengths, Match)
    rho = random_rho(plan)
    seeds = np.array([[5, 6, 7], [8, 9, 10]])
    membrane = key_from_seed(99)
    task = of_deployed(networks_of(plan), seeds, membrane_key=membrane, horizons=(np.inf,) * len(seeds))
    outcome = run(plan, task)
    theta = {name: p > 0.5 for name, p in rho.items()}
    for column, environment in enumerate([Lengths(), Match()]):
        for row in range(3):
            _, total = play_plainly(
                environment, theta, membrane, seeds[column, row], action_decoder(Match.action_space)
            )
            assert outcome.returns[row, column] == total


def test_only_live_members_are_stepped():
    plan = plan_of(Lengths)
    Lengths.steps_taken = 0
    outcome = run(plan, task_of(plan))
    assert Lengths.steps_taken == outcome.n_steps
    assert outcome.lengths.min() < outcome.lengths.max()


def test_horizon_cuts_episodes():
    plan = plan_of(Lengths)
    free, cut = run(plan, task_of(plan)), run(plan, task_of(plan, horizon=7))
    np.testing.assert_array_equal(cut.lengths, np.minimum(free.lengths, 7))


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_workers_do_not_change_results(n_jobs):
    plan = plan_of(Lengths, Match)
    task = task_of(plan, n_episodes=2)
    assert (task.members, task.episodes) == (37, 4)
    assert_same(run(plan, task, n_jobs=n_jobs), run(plan, task))


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_joblib_backends_do_not_change_results(backend):
    plan = plan_of(Lengths)
    expected = run(plan, task_of(plan))
    with parallel_config(backend=backend):
        assert_same(run(plan, task_of(plan), n_jobs=2), expected)


def test_an_instance_plays_like_a_factory():
    assert_same(run(plan_of(Lengths()), task_of(plan_of(Lengths))), run(plan_of(Lengths), task_of(plan_of(Lengths))))


def test_members_do_not_depend_on_the_population():
    plan = plan_of(Lengths)
    whole = run(plan, task_of(plan))
    few = run(plan, task_of(plan, keys=KEYS[20:25]))
    np.testing.assert_array_equal(few.returns, whole.returns[20:25])


@pytest.mark.parametrize("lanes", [1, 4, 64])
def test_vector_environment_without_autoreset_equals_single_ones(lanes):
    plan = plan_of(Lengths)
    expected = run(plan, task_of(plan))
    vectorized = SyncVectorEnv([Lengths] * lanes, autoreset_mode=AutoresetMode.DISABLED)
    outcome = run(plan_of(vectorized), task_of(plan))
    np.testing.assert_array_equal(outcome.returns, expected.returns)
    np.testing.assert_array_equal(outcome.lengths, expected.lengths)
    np.testing.assert_allclose(outcome.moments.mean, expected.moments.mean)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_an_instance_is_never_shared(backend):
    plan = plan_of(Lengths)
    with parallel_config(backend=backend):
        assert_same(run(plan_of(Lengths()), task_of(plan), n_jobs=2), run(plan, task_of(plan)))


def test_a_callable_must_make_new_environments():
    environment = Lengths()
    plan = plan_of(lambda: environment)
    with pytest.raises(ValueError, match="returned the same environment twice"):
        run(plan, task_of(plan))


def test_workers_may_run_outside_the_main_thread_of_another_process():
    """As Dask and nested joblib do."""
    plan = plan_of(Lengths)
    task = task_of(plan)

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(work, plan, task.networks, Call("token", -1, task._replace(networks=None))).result()
    np.testing.assert_array_equal(outcome.returns, run(plan, task).returns)


class Endless(Match):
    """Never ends by itself."""

    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, info


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_vector_environment_that_never_ends_is_cut_by_the_horizon(mode):
    plan = plan_of(SyncVectorEnv([Endless] * 3, autoreset_mode=mode))
    outcome = run(plan, task_of(plan, horizon=5))
    np.testing.assert_array_equal(outcome.lengths, np.full((37, 1), 5))


class Unseeded(Match):
    """Episode lengths that do not depend on seeds, so that vector environments of any mode agree with single ones."""

    length = 6

    def _observe(self):
        self.sign = 1 if self.t % 3 else -1
        return np.array([self.sign], np.float32)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("lanes", [1, 4, 64])
@pytest.mark.parametrize("horizon", [np.inf, 4])
def test_vector_environment_modes(mode, lanes, horizon):
    plan = plan_of(Unseeded)
    task = task_of(plan, horizon=horizon)
    outcome = run(plan_of(SyncVectorEnv([Unseeded] * lanes, autoreset_mode=mode)), task)
    expected = run(plan, task)
    np.testing.assert_array_equal(outcome.returns, expected.returns)
    np.testing.assert_array_equal(outcome.lengths, expected.lengths)


SPACES = [
    (gym.spaces.Box(-1, 1, (2, 2), np.float32), gym.spaces.Box(0, 5, (2,), np.float32)),
    (
        gym.spaces.Dict({"a": gym.spaces.Discrete(3), "b": gym.spaces.Box(-1, 1, (2,))}),
        gym.spaces.MultiDiscrete([2, 3]),
    ),
    (gym.spaces.Tuple([gym.spaces.MultiBinary(2), gym.spaces.Discrete(2)]), gym.spaces.MultiBinary(3)),
]


@pytest.mark.parametrize(("observation", "action"), SPACES)
@pytest.mark.parametrize("vectorized", [False, True])
def test_spaces_are_played(observation, action, vectorized):
    def make():
        return Spaces(observation, action)

    environment = SyncVectorEnv([make] * 3) if vectorized else make
    plan = plan_of(environment, space=observation, action=action)
    size = observation_size(observation)
    networks = networks_of(plan, Standardizer.of(Moments.empty(size), enabled=True, clip=10))
    task = population(networks, KEYS[:5], n_episodes=1, horizons=(np.inf,))
    outcome = run(plan, task)
    np.testing.assert_array_equal(outcome.returns, np.full((5, 1), 3.0))
    assert outcome.moments.n == 15


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "ZeroDivisionError: the plant exploded at step 3 of the episode started with reset"),
        ("nan observation", "observation is NaN or infinite"),
        ("nan reward", "a reward was NaN or infinite"),
        ("shape", "observation of shape \\(2, 2\\)"),
    ],
)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_misbehaving_environments_are_named(how, message, n_jobs):
    plan = plan_of(lambda: Broken(how))
    with pytest.raises(EpisodeError, match=message):
        run(plan, task_of(plan), n_jobs=n_jobs)


def test_a_misbehaving_vector_environment_is_named():
    plan = plan_of(SyncVectorEnv([lambda: Broken("raises")] * 2))
    with pytest.raises(EpisodeError, match="plant exploded"):
        run(plan, task_of(plan))


def test_lost_workers_do_not_change_results(tmp_path):
    path = str(tmp_path / "died")
    plan = plan_of(lambda: DiesOnce(path))
    task = task_of(plan)
    outcome = run(plan, task, n_jobs=2)
    assert (tmp_path / "died").exists()
    assert_same(outcome, run(plan_of(Match), task))


def test_connections_stay_packed_and_here():
    plan = plan_of(Match)
    packed = distribution_of(plan).sample(random_rho(plan), KEYS)
    assert {part.dtype for part in packed.values()} == {np.dtype(np.uint64)}
    assert unpack(packed["recurrent"], 40).shape == (37, 40, 40)
    task = task_of(plan)
    sent = len(cloudpickle.dumps((plan, task.chunk(0, CHUNK))))
    sliced = sum(planes.nbytes + flips.nbytes for planes, flips in task.networks.sampler.slices.values())
    assert sent < sliced + 5000
    assert sent < sum(part.nbytes for part in packed.values())
    assert len(pickle.dumps(run(plan, task))) < 2200


@pytest.mark.parametrize("lanes", [1, 4, 64])
@pytest.mark.parametrize("horizon", [np.inf, 4])
def test_a_pool_plays_the_same_episodes_and_steps_nothing_else(lanes, horizon):
    plan = plan_of(Unseeded)
    task = task_of(plan, horizon=horizon)
    pool = Pool(Unseeded, lanes)
    outcome, expected = run(plan_of(pool), task), run(plan, task)
    np.testing.assert_array_equal(outcome.returns, expected.returns)
    np.testing.assert_array_equal(outcome.lengths, expected.lengths)
    assert outcome.moments.n == pool.n_steps == expected.n_steps
    np.testing.assert_allclose(outcome.moments.squares, expected.moments.squares)


def test_the_time_limit_of_a_pool_is_in_its_config():
    pool = Pool(Unseeded, 2)
    assert resolve(pool).limits == (np.inf,)
    pool.spec = SimpleNamespace(config=SimpleNamespace(max_episode_steps=2**31 - 1))  # EnvPool's word for none
    assert resolve(pool).limits == (np.inf,)
    pool.spec = SimpleNamespace(config=SimpleNamespace(max_episode_steps=6))
    assert resolve(pool).limits == (6,)
    policy = EvolvingConnectivityPolicy(
        network=RSNN(8), population_size=4, n_generations=1, max_episode_steps=3, eval_episodes=2, random_state=0
    ).fit(pool)
    assert policy.history_[0]["episode_length"] == 3
    assert policy.history_[0]["deployed_length"] == 6  # scored over whole episodes


def test_a_pool_that_answers_for_some_is_refused():
    class Asynchronous(Pool):
        def step(self, actions, env_id=None):
            *answers, info = super().step(actions, env_id)
            return *(part[:1] for part in answers), {"env_id": info["env_id"][:1]}

    with pytest.raises(EpisodeError, match=r"answered for 1 of the 2 sub-environments .* batch_size=num_envs"):
        run(plan_of(Asynchronous(Unseeded, 2)), task_of(plan_of(Unseeded)))


@pytest.mark.parametrize("how", ["nan observation", "nan reward"])
def test_nan_in_a_pool_names_no_seed(how):
    with pytest.raises(EpisodeError, match="in an episode of a vector environment that seeds itself"):
        run(plan_of(Pool(lambda: Broken(how), 2)), task_of(plan_of(Match)))


def test_a_misbehaving_pool_is_named():
    plan = plan_of(Pool(lambda: Broken("raises"), 2))
    with pytest.raises(EpisodeError, match="environment pool raised ZeroDivisionError: the plant exploded"):
        run(plan, task_of(plan))


@pytest.mark.filterwarnings("ignore:.*precision lowered:UserWarning", "ignore:EnvPool seeds are fixed:UserWarning")
def test_envpool_is_a_vector_environment():
    """Runs where EnvPool is installed: with its assets it weighs 700 MB, too much for the test extra."""
    envpool = pytest.importorskip("envpool")
    environments = envpool.make_gymnasium("CartPole-v1", num_envs=8, seed=0)
    assert resolve(environments).limits == (500,)
    policy = EvolvingConnectivityPolicy(network=RSNN(16), population_size=20, n_generations=2, random_state=0)
    policy.fit(environments)
    assert policy.n_generations_ == 2
    assert policy.history_[0]["return_mean"] == policy.history_[0]["episode_length"]  # CartPole pays one per step
    assert 5 < policy.score(environments, n_episodes=10) <= 500
    environments.close()


class Pays(Match):
    """Rewards of a size of its own."""

    pay = 100.0

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward * self.pay, *rest


class PaysLess(Pays):
    pay = 1.0


def test_a_vector_environment_in_other_processes_is_known_as_well(small):
    """Time limit, threshold and class are those of its sub-environments."""
    with contextlib.closing(AsyncVectorEnv([partial(gym.make, "CartPole-v1", max_episode_steps=8)] * 2)) as made:
        known = resolve(made)
    alone = resolve(SyncVectorEnv([partial(gym.make, "CartPole-v1", max_episode_steps=8)] * 2))
    assert known[1:] == alone[1:]
    assert known.limits == (8,)
    assert known.reward_threshold is None  # 475 are for the registered 500 steps
    policy = EvolvingConnectivityPolicy(**{**small, "n_generations": 2}, warm_start=True)
    with (
        contextlib.closing(AsyncVectorEnv([Pays] * 2)) as pays,
        contextlib.closing(AsyncVectorEnv([PaysLess] * 2)) as less,
    ):
        assert policy.fit(pays).history_[-1]["best_deployed_return"] > 100
        assert policy.set_params(n_generations=4).fit(less).history_[-1]["best_deployed_return"] <= 10


class Lottery(gym.Env):
    """The return depends on the seed alone."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(self.np_random.random()), True, False, {}


@pytest.mark.parametrize("estimator", [EvolvingConnectivityPolicy, ESPolicy])
def test_common_episodes_are_the_same_for_all_members_and_others_in_every_generation(estimator):
    settings = {"population_size": 20, "n_generations": 3, "episodes_per_member": 2, "random_state": 0}
    common = estimator(common_episodes=True, **settings).fit(Lottery).history_
    assert [record["return_std"] for record in common] == pytest.approx([0, 0, 0], abs=1e-12)
    assert len({record["return_mean"] for record in common}) == 3
    assert all(record["return_std"] > 0.1 for record in estimator(**settings).fit(Lottery).history_)
    workers = estimator(common_episodes=True, n_jobs=2, **settings).fit(Lottery).history_
    assert [record["return_mean"] for record in workers] == [record["return_mean"] for record in common]
