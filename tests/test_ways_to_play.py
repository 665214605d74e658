"""Any environment, same meaning: lengths and returns of episodes are right whatever plays them, on every use."""

import contextlib
import copy
import functools
import heapq
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from joblib import parallel_config

from ecpolicy import EpisodeError, EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN
from ecpolicy.rollout.vector import autoreset_mode
from probes import Broken, DeviceMatch, Known, Pool

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore:os.fork:RuntimeWarning"
)
NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
SETTINGS = {
    "n_generations": 2, "population_size": 8, "network": RSNN(16), "eval_episodes": 2, "confirm_episodes": 2,
    "random_state": 3,
}  # fmt: skip
LENGTHS = {"ten steps": (10,), "one step": (1,), "lengths by seed": (3, 1, 7, 2, 6, 4, 5)}
LANES, EPISODES, SEED = 3, 9, 100


class Way(NamedTuple):
    """A way to play environments."""

    given: Callable  # what the policy is given, from what makes an environment
    gap: int | None = None  # steps between the episodes of a lane, None where every episode has its own seed
    said: tuple = ()  # metadata of a vector environment, in turn
    backend: str | None = None  # joblib's


def registered(make):
    """The id of an environment that Gymnasium makes."""
    name = f"Known{'x'.join(map(str, make.args[0]))}-v0"
    gym.register(name, "probes:Known", kwargs={"lengths": make.args[0]})
    return name


def in_lanes(kind, mode, **settings):
    return lambda make: kind([make] * LANES, autoreset_mode=mode, **settings)


def pausing(make):
    """An instance whose steps let other threads run."""
    return make(pause=1e-4)


WAYS = {
    "instance": Way(lambda make: make()),
    "callable": Way(lambda make: make),
    "id": Way(registered),
    "spec": Way(lambda make: gym.spec(registered(make))),
    "list": Way(lambda make: [make, make()]),
    "pool": Way(lambda make: Pool(make, LANES), gap=-1),
    "make_vec": Way(lambda make: gym.make_vec(registered(make), LANES), gap=1),
    "loky": Way(lambda make: make, backend="loky"),
    "loky, instance": Way(pausing, backend="loky"),
    "threads": Way(lambda make: make, backend="threading"),
    "threads, instance": Way(pausing, backend="threading"),
    "dask": Way(lambda make: make, backend="dask"),
    "dask, instance": Way(pausing, backend="dask"),
}
for mode, gap in ((NEXT_STEP, 1), (SAME_STEP, 0), (DISABLED, None)):
    words = {"enum": {"autoreset_mode": mode}, "string": {"autoreset_mode": mode.value}, "nothing": {}}
    for word, said in words.items():
        WAYS[f"sync, {mode.value}, {word}"] = Way(in_lanes(SyncVectorEnv, mode), gap, (said,))
    for shared in (True, False):
        how = in_lanes(AsyncVectorEnv, mode, shared_memory=shared)
        WAYS[f"async, {mode.value}, {'shared' if shared else 'piped'}"] = Way(how, gap, tuple(words.values()))
    WAYS[f"sync, {mode.value}, no copies"] = Way(in_lanes(SyncVectorEnv, mode, copy=False), gap)
    WAYS[f"async, {mode.value}, no copies"] = Way(in_lanes(AsyncVectorEnv, mode, copy=False), gap)
EVERY_WAY = [
    pytest.param(way, id=name, marks=[pytest.mark.slow] if way.backend == "dask" else []) for name, way in WAYS.items()
]


def closed(environment):
    """A context that closes what is an environment."""
    return contextlib.closing(environment) if hasattr(environment, "close") else contextlib.nullcontext(environment)


@contextlib.contextmanager
def playing(way, request, *lengths):
    """What a policy is given, while its backend is active."""
    with contextlib.ExitStack() as stack:
        stack.callback(gym.registry.update, dict(gym.registry))
        stack.callback(gym.registry.clear)
        if way.backend == "dask":
            request.getfixturevalue("dask_cluster")
        if way.backend is not None:
            stack.enter_context(parallel_config(backend=way.backend, n_jobs=2))
        yield stack.enter_context(closed(way.given(functools.partial(Known, *lengths))))


def use(environment):
    """Play on an environment, as its owner may, and leave in the middle, with the first of its lanes done."""
    if isinstance(environment, Pool):
        environment.reset(np.arange(1))
        environment.step(np.zeros(1, dtype=int), np.arange(1))
    elif isinstance(environment, gym.vector.VectorEnv):
        environment.reset(seed=1)
        done = np.zeros(LANES, dtype=bool)
        while not done.any():
            _, _, terminated, truncated, _ = environment.step(np.zeros(LANES, dtype=int))
            done = terminated | truncated
    elif isinstance(environment, gym.Env):
        environment.reset(seed=1)
        environment.step(0)


def lengths_of(way, lengths, n=EPISODES, seed=SEED):
    """The lengths of the episodes, in the order in which lanes begin them."""
    if way.gap is None:
        return [lengths[(seed + episode) % len(lengths)] for episode in range(n)]
    free, found = [(0, lane, seed + lane) for lane in range(LANES)], []
    for _ in range(n):
        now, lane, number = heapq.heappop(free)
        found.append(lengths[number % len(lengths)])
        heapq.heappush(free, (now + found[-1] + way.gap, lane, number + 1))
    return found


@pytest.fixture(scope="module")
def policy():
    return EvolvingConnectivityPolicy(**SETTINGS).fit(functools.partial(Known, (10,)))


@pytest.fixture(scope="module")
def paid(policy):
    """What the policy is paid in the first steps of an episode."""
    environment, state, actions = Known((20,)), None, []
    observation, _ = environment.reset()
    for _ in range(20):
        action, state = policy.predict(observation, state, deterministic=True)
        observation, *_ = environment.step(action)
        actions.append(int(action))
    assert set(actions) == {0, 1}
    return np.concatenate([[0.0], np.cumsum(np.arange(1, 21) + 0.5 * np.array(actions))])


@pytest.fixture(scope="module")
def dask_cluster():
    """One worker process of two threads."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("way", EVERY_WAY)
def test_evaluations_are_right_on_every_use(way, lengths, policy, paid, request):
    with playing(way, request, lengths) as environment:
        for turn in range(max(2, len(way.said))):
            if way.said:
                environment.metadata = way.said[turn % len(way.said)]
            episodes = policy.evaluate(environment, n_episodes=EPISODES, seed=SEED)
            np.testing.assert_array_equal(episodes.returns, paid[episodes.lengths])
            for column in episodes.lengths.T:
                if way.gap == -1:  # pools have their own seeds
                    assert set(column) <= set(lengths)
                else:
                    assert column.tolist() == lengths_of(way, lengths)
            use(environment)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_cut_episodes_are_right_on_every_use(way, policy, paid, request):
    with playing(way, request, (10,)) as environment:
        for _ in range(2):
            episodes = policy.evaluate(environment, n_episodes=EPISODES, seed=SEED, max_episode_steps=4)
            assert set(episodes.lengths.flat) == {4}
            assert set(episodes.returns.flat) == {paid[4]}
            use(environment)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("way", EVERY_WAY)
def test_fits_are_right_on_every_use(way, lengths, request):
    population_size = SETTINGS["population_size"] if way.backend is None else 40  # members for several workers

    def fit(given):
        policy = EvolvingConnectivityPolicy(**{**SETTINGS, "population_size": population_size})
        history = policy.fit(given).history_
        return [[record[name] for name in ("episode_length", "return_mean", "deployed_length")] for record in history]

    with playing(way, request, lengths) as environment:
        first = fit(environment)
        use(environment)
        second = fit(environment)
    if len(lengths) == 1:
        assert {record[0] for record in first + second} == set(lengths)
        assert {record[2] for record in first + second} == set(lengths)
    if way.gap != -1:
        assert first == second
    if way.gap is None and not isinstance(environment, list):
        assert first == fit(functools.partial(Known, lengths))


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_networks_on_a_device_are_right_on_every_use(lengths, policy, paid):
    policy, environment = copy.deepcopy(policy).set_params(backend="jax"), Known(lengths)
    for _ in range(2):
        episodes = policy.evaluate(environment, n_episodes=EPISODES, seed=SEED)
        assert episodes.lengths.ravel().tolist() == lengths_of(WAYS["instance"], lengths)
        np.testing.assert_array_equal(episodes.returns, paid[episodes.lengths])
        use(environment)


class PaysSteps(DeviceMatch):
    """Step t pays t."""

    def step(self, state, action):
        import jax.numpy as jnp

        after = super().step(state, action)
        return after._replace(reward=jnp.asarray(after.info[2], jnp.float32))


@pytest.fixture(scope="module")
def policy_on_device():
    return EvolvingConnectivityPolicy(**SETTINGS).fit(PaysSteps(10))


@pytest.mark.parametrize(
    ("environment", "lengths"),
    [(PaysSteps(10), {10}), (PaysSteps(1), {1}), (PaysSteps(4, random_length=True), {3, 4, 5, 6, 7})],
    ids=LENGTHS,
)
def test_environments_on_a_device_are_right_on_every_use(environment, lengths, policy_on_device):
    assert [record["episode_length"] for record in policy_on_device.history_] == [10, 10]
    first, second = (policy_on_device.evaluate(environment, n_episodes=20, seed=SEED) for _ in range(2))
    assert set(first.lengths.flat) == lengths
    np.testing.assert_array_equal(first.returns, first.lengths * (first.lengths + 1) / 2)
    np.testing.assert_array_equal(second.lengths, first.lengths)
    np.testing.assert_array_equal(second.returns, first.returns)


AT_ONCE = {
    "instance": WAYS["instance"],
    "pool": WAYS["pool"],
    **{mode.value: WAYS[f"sync, {mode.value}, enum"] for mode in AutoresetMode},
}


@pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in AT_ONCE.items()])
def test_evaluations_in_two_threads_are_right(way, policy, paid, request):
    with playing(way, request, (10,), 1e-4) as environment, ThreadPoolExecutor(2) as threads:
        turns = [threads.submit(policy.evaluate, environment, n_episodes=EPISODES, seed=SEED) for _ in range(4)]
        for turn in turns:
            assert set(turn.result().lengths.flat) == {10}
            assert set(turn.result().returns.flat) == {paid[10]}


@pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in AT_ONCE.items()])
def test_fits_in_two_threads_are_right(way, request):
    with playing(way, request, (10,), 1e-4) as environment, ThreadPoolExecutor(2) as threads:
        fits = [threads.submit(EvolvingConnectivityPolicy(**SETTINGS).fit, environment) for _ in range(2)]
        lengths = [record["episode_length"] for fit in fits for record in fit.result().history_]
    assert lengths == [10] * 4


class OwnVector(gym.vector.VectorEnv):
    """A vector environment that is none of Gymnasium's; in mode NEXT_STEP it may remember over reset whom to reset."""

    def __init__(self, make, mode, remembers=False):
        self.lanes, self.mode, self.remembers = [make() for _ in range(LANES)], mode, remembers
        self.num_envs, self.n_resets = LANES, 0
        self.single_observation_space, self.single_action_space = Known.observation_space, Known.action_space
        self.waiting = np.zeros(LANES, dtype=bool)

    def reset(self, *, seed=None, options=None):
        self.n_resets += 1
        if not self.remembers:
            self.waiting[:] = False
        return np.array([lane.reset(seed=seed + i)[0] for i, lane in enumerate(self.lanes)]), {}

    def step(self, actions):
        results = []
        for i, (lane, action) in enumerate(zip(self.lanes, actions, strict=True)):
            if self.waiting[i]:
                results.append((lane.reset()[0], 0.0, False, False))
                self.waiting[i] = False
                continue
            observation, reward, terminated, truncated, _ = lane.step(action)
            if terminated and self.mode == SAME_STEP:
                observation, _ = lane.reset()
            results.append((observation, reward, terminated, truncated))
            self.waiting[i] = terminated and self.mode == NEXT_STEP
        observations, rewards, *over = (np.array(part) for part in zip(*results, strict=True))
        return observations, rewards.astype(np.float32), *over, {}


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
@pytest.mark.parametrize("say", [lambda mode: mode, lambda mode: mode.value, lambda mode: mode.name.lower(), str])
def test_a_mode_is_known_by_whatever_name(mode, say, policy, paid):
    environment = OwnVector(functools.partial(Known, (10,)), mode)
    environment.metadata = {"autoreset_mode": say(mode)}
    assert autoreset_mode(environment) == mode
    episodes = policy.evaluate(environment, n_episodes=EPISODES)
    assert set(episodes.lengths.flat) == {10}
    assert set(episodes.returns.flat) == {paid[10]}


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({}, "is missing"),
        ({"autoreset_mode": None}, "is None"),
        ({"autoreset_mode": "sometimes"}, "is 'sometimes'"),
        ({"autoreset_mode": True}, "is True"),
    ],
)
@pytest.mark.parametrize("what", ["fit", "evaluate", "score"])
def test_an_unknown_mode_is_refused(metadata, found, what, policy):
    environment = OwnVector(functools.partial(Known, (10,)), NEXT_STEP)
    environment.metadata = metadata
    policy = copy.deepcopy(policy)
    with pytest.raises(ValueError, match=rf"metadata\['autoreset_mode'\] of OwnVector {found}. Declare the one of"):
        getattr(policy, what)(environment)
    assert environment.n_resets == 0
    environment.metadata = {**environment.metadata, "autoreset_mode": NEXT_STEP}  # as the message says
    assert set(policy.evaluate(environment, n_episodes=EPISODES).lengths.flat) == {10}


def test_a_wrapper_may_declare_the_mode_but_no_other_one():
    own = OwnVector(functools.partial(Known, (10,)), SAME_STEP)
    wrapped = gym.vector.VectorWrapper(own)
    with pytest.raises(ValueError, match=r"of VectorWrapper is missing"):
        autoreset_mode(wrapped)
    wrapped.metadata = {"autoreset_mode": "SameStep"}
    assert autoreset_mode(wrapped) == SAME_STEP
    wrapped = gym.vector.VectorWrapper(SyncVectorEnv([functools.partial(Known, (10,))], autoreset_mode=SAME_STEP))
    assert autoreset_mode(wrapped) == SAME_STEP
    wrapped.metadata = {"autoreset_mode": "NextStep"}
    with pytest.raises(ValueError, match=r"is 'NextStep', but the SyncVectorEnv in it has AutoresetMode.SAME_STEP"):
        autoreset_mode(wrapped)


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("lengths", [(10,), (1,), (2,), (3, 5, 7, 2, 6, 4)])
def test_what_a_class_of_ones_own_remembers_over_reset_changes_nothing(lengths, remembers, policy, paid):
    environment = OwnVector(functools.partial(Known, lengths), NEXT_STEP, remembers)
    environment.metadata = {"autoreset_mode": NEXT_STEP}
    for waiting in ([False] * 3, [True] * 3, [True, False, False]):
        environment.waiting[:] = waiting
        episodes = policy.evaluate(environment, n_episodes=EPISODES, seed=SEED)
        assert episodes.lengths.ravel().tolist() == lengths_of(Way(None, gap=1), lengths)
        np.testing.assert_array_equal(episodes.returns, paid[episodes.lengths])


@pytest.mark.parametrize("name", ["CartPole-v1", "phys2d/Pendulum-v0"])
def test_vector_environments_of_gymnasium_itself_are_right_on_every_use(name):
    """Pendulum's declares no mode and remembers over reset whom to reset."""
    environment = gym.make_vec(name, LANES, vectorization_mode="vector_entry_point", max_episode_steps=8)
    policy = EvolvingConnectivityPolicy(**SETTINGS).fit(environment)
    assert policy.history_[0]["episode_length"] == 8
    returns = []
    for _ in range(3):
        episodes = policy.evaluate(environment, n_episodes=EPISODES, seed=SEED)
        assert set(episodes.lengths.flat) == {8}
        returns.append(episodes.returns.ravel().tolist())
        environment.reset(seed=1)
        for _ in range(8):
            environment.step(environment.action_space.sample())
    assert returns == returns[:1] * 3


@pytest.mark.parametrize("mode", AutoresetMode)
def test_an_error_in_the_middle_changes_nothing_later(mode, policy, paid):
    environment = SyncVectorEnv([functools.partial(Known, (10,))] * LANES, autoreset_mode=mode)
    broken = environment.envs[1]

    def fail(action):
        del broken.step
        raise ZeroDivisionError("the plant exploded")

    for _ in range(2):
        broken.step = fail
        with pytest.raises(EpisodeError, match="plant exploded"):
            policy.evaluate(environment, n_episodes=EPISODES)
        episodes = policy.evaluate(environment, n_episodes=EPISODES)
        assert set(episodes.lengths.flat) == {10}
        assert set(episodes.returns.flat) == {paid[10]}


def test_a_vector_environment_that_has_lost_a_process_is_refused(policy):
    with contextlib.closing(AsyncVectorEnv([functools.partial(Broken, "raises")] * LANES)) as environment:
        environment.set_attr("after", [0, 100, 100])
        with pytest.raises(EpisodeError, match="plant exploded"):
            policy.evaluate(environment)
        with pytest.raises(ValueError, match=r"1 of the 3 sub-environments of .* Make a new vector environment"):
            policy.evaluate(environment)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_lanes_without_an_episode_change_nothing(kind, mode, policy, paid):
    with contextlib.closing(kind([functools.partial(Known, (3, 1, 2))] * 7, autoreset_mode=mode)) as environment:
        for _ in range(2):
            episodes = policy.evaluate(environment, n_episodes=4, seed=0)
            assert episodes.lengths.ravel().tolist() == [3, 1, 2, 3]
            np.testing.assert_array_equal(episodes.returns, paid[episodes.lengths])


@pytest.mark.parametrize("wrap", [lambda environment: environment, gym.wrappers.OrderEnforcing])
def test_one_environment_in_several_lanes_is_refused(wrap, policy):
    environment = Known((10,))
    lanes = SyncVectorEnv([lambda: wrap(environment)] * LANES)
    for play in (policy.evaluate, EvolvingConnectivityPolicy(**SETTINGS).fit):
        with pytest.raises(ValueError, match=r"Some of the 3 sub-environments .* are the same Known object"):
            play(lanes)


class Tells(Known):
    """Has an info of its own in every step."""

    def __init__(self, **info):
        super().__init__((10,))
        self.told = info

    def step(self, action):
        *result, _ = super().step(action)
        return *result, dict(self.told)


OWN = {
    "final_info": {"x_velocity": 7.0, "x_position": 7.0, "final_info": "mine"},
    "final_obs": "mine",
    "episode": {"r": 1e9, "l": 3},
    "_episode": True,
    "env_id": 5,
}


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_info_of_an_environments_own_is_not_taken_for_a_wrappers(mode, policy, paid):
    make = functools.partial(Tells, x_velocity=2.0, x_position=3.0, **OWN)
    environment = make if mode is None else SyncVectorEnv([make] * 2, autoreset_mode=mode)
    episodes = policy.evaluate(environment, n_episodes=5)
    assert set(episodes.lengths.flat) == {10}
    assert set(episodes.returns.flat) == {paid[10]}
    assert set(episodes.x_velocities.flat) == {2}
    assert set(episodes.x_positions.flat) == {3}


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
@pytest.mark.parametrize(
    "odd",
    [
        {"x_velocity": np.zeros(5), "x_position": 1.0},
        {"x_velocity": "fast", "x_position": 1.0},
        {"x_velocity": [1, [2]], "x_position": None},
        {"x_velocity": {"x": 1.0}, "x_position": 1.0},
        {"_x_velocity": np.zeros(5), "x_velocity": "fast"},
        {"final_info": 1.0, "x_velocity": True},
    ],
)
def test_info_of_odd_types_is_passed_over(odd, mode, policy, paid):
    if mode == SAME_STEP and "final_info" in odd:
        pytest.skip("Gymnasium cannot put a number beside its own final_info")
    make = functools.partial(Tells, **odd)
    environment = make if mode is None else SyncVectorEnv([make] * 2, autoreset_mode=mode)
    episodes = policy.evaluate(environment, n_episodes=5)
    assert set(episodes.returns.flat) == {paid[10]}
    assert np.isnan(episodes.x_velocities).all()


@pytest.mark.parametrize("mask", [np.zeros(5), "some", [True, [False]], np.array([True, False])])
def test_masks_of_a_vector_environments_own_are_passed_over(mask, policy, paid):
    class Masks(OwnVector):
        def step(self, actions):
            *result, _ = super().step(actions)
            told = np.ones(LANES)
            return *result, {"x_velocity": told, "x_position": told, "_x_velocity": mask, "final_info": {"a": 1}}

    environment = Masks(functools.partial(Known, (10,)), NEXT_STEP)
    environment.metadata = {"autoreset_mode": NEXT_STEP}
    episodes = policy.evaluate(environment, n_episodes=5)
    assert set(episodes.returns.flat) == {paid[10]}
