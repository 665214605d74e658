"""One contract for all estimators: learning, predict, files, cloning, determinism, errors."""

import contextlib
import copy

import gymnasium as gym
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from stable_baselines3.common.evaluation import evaluate_policy

from ecpolicy import EpisodeError, ESPolicy, EvolvingConnectivityPolicy, ModelFileError, SurrogateGradientPPOPolicy
from ecpolicy.networks import GRU, LSTM, RSNN, IntegerRSNN, RealRSNN
from ecpolicy.networks.network import copied
from learnt import fingerprint
from probes import SEED, Broken, Match, Spaces

EVOLVING = {"population_size": 64, "eval_episodes": 2, "confirm_episodes": 10, "random_state": SEED}
STEPS = {"sigma": 0.3, "learning_rate": 0.1}  # the published ones suit long trainings of large networks
PPO = {
    "network": RealRSNN(32, step_ms=4.0), "n_envs": 16, "n_steps": 10, "n_epochs": 10, "learning_rate": 3e-3,
    "max_env_steps": 16_000, "eval_every": 5, "eval_episodes": 5, "random_state": SEED,
}  # fmt: skip
TABLE = {
    "EC": (EvolvingConnectivityPolicy, {**EVOLVING, "network": RSNN(32), "n_generations": 25}),
    "EC-integer": (EvolvingConnectivityPolicy, {**EVOLVING, "network": IntegerRSNN(32), "n_generations": 25}),
    "ES-RSNN": (ESPolicy, {**EVOLVING, "network": RealRSNN(32), "n_generations": 30}),
    "ES-GRU": (ESPolicy, {**EVOLVING, "network": GRU(16), "n_generations": 30, **STEPS}),
    "ES-LSTM": (ESPolicy, {**EVOLVING, "network": LSTM(16), "n_generations": 30, **STEPS}),
    "SG-PPO": (SurrogateGradientPPOPolicy, PPO),
}
BRIEF = {"EC": {"n_generations": 2}, "SG-PPO": {"max_env_steps": 320, "eval_every": 1}}


@pytest.fixture(params=TABLE, scope="module")
def name(request):
    return request.param


@pytest.fixture
def brief(name):
    """An unfitted policy that fits in a moment."""
    kind, parameters = TABLE[name]
    return kind(**{**parameters, **BRIEF.get(name, {"n_generations": 2})})


@pytest.fixture(scope="module")
def learnt(name):
    """A policy that was fitted on Match until it had learnt it; tests must not change it."""
    kind, parameters = TABLE[name]
    return kind(**parameters).fit(Match)


def test_fit_comes_near_the_known_optimum(learnt):
    """Guessing gives 5 of 10 on Match, whose best return is 10."""
    assert learnt.score(Match, n_episodes=50, seed=1000) >= 9
    assert learnt.n_env_steps_ > 0
    assert learnt.history_
    assert isinstance(learnt.stop_reason_, str)


def test_predict_single_and_batched(learnt):
    observations = np.array([[-1], [1], [0.3]], np.float32)
    alone, state = [None] * 3, None
    for _ in range(4):
        actions, state = learnt.predict(observations, state)
        assert actions.shape == (3,)
        for i, observation in enumerate(observations):
            action, alone[i] = learnt.predict(observation, alone[i])
            assert action == actions[i]
            assert Match.action_space.contains(action)


def test_predict_changes_neither_state_nor_starts(learnt):
    observations = np.array([[1], [-1]], np.float32)
    _, state = learnt.predict(observations)
    kept, starts = copied(state.network), np.array([False, True])
    _, after = learnt.predict(observations, state, episode_start=starts)
    np.testing.assert_array_equal(starts, [False, True])
    for part, before in zip(state.network, kept, strict=True):
        np.testing.assert_array_equal(part, before)
    _, fresh = learnt.predict(observations[1])
    for part, new in zip(after.network, fresh.network, strict=True):
        np.testing.assert_array_equal(part[1], new[0])
    action, _ = learnt.predict(observations[0], deterministic=False)
    assert Match.action_space.contains(action)


def test_evaluate_policy_agrees_with_score(learnt):
    environment = gym.wrappers.RecordEpisodeStatistics(Match())
    environment.reset(seed=3)
    mean, _ = evaluate_policy(learnt, environment, n_eval_episodes=20, warn=False)
    assert mean >= 9


def test_save_and_load(learnt, tmp_path):
    path = tmp_path / "policy.ecp"
    learnt.save(path)
    loaded = type(learnt).load(path)
    assert fingerprint(loaded) == fingerprint(learnt)
    assert loaded.history_ == learnt.history_
    assert loaded.get_params() == learnt.get_params()
    np.testing.assert_array_equal(
        loaded.episode_returns(Match, n_episodes=5, seed=1), learnt.episode_returns(Match, n_episodes=5, seed=1)
    )
    other = next(kind for kind, _ in TABLE.values() if kind is not type(learnt))
    with pytest.raises(ModelFileError, match=f"of the class '{type(learnt).__name__}'; wanted"):
        other.load(path)


def test_truncated_and_changed_files_are_refused(learnt, tmp_path):
    path = tmp_path / "policy.ecp"
    learnt.save(path)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for cut in generator.integers(0, len(whole), 10):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelFileError):
            type(learnt).load(path)
    for place in generator.integers(0, len(whole), 10):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(ModelFileError):
            assert fingerprint(type(learnt).load(path)) == fingerprint(learnt)  # a byte that carries no meaning


def test_clone_and_parameters(learnt):
    fresh = clone(learnt)
    assert fresh.get_params() == learnt.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(np.ones(1))
    with pytest.raises(NotFittedError):
        fresh.score(Match)
    with pytest.raises(ValueError, match="Invalid parameter 'neurons'"):
        fresh.set_params(neurons=3)


def test_the_same_seed_gives_the_same_policy(brief):
    first = brief.fit(Match)
    assert fingerprint(clone(brief).fit(Match)) == fingerprint(first)
    assert fingerprint(clone(brief).set_params(random_state=SEED + 1).fit(Match)) != fingerprint(first)


def test_workers_do_not_change_the_result(brief):
    assert fingerprint(clone(brief).set_params(n_jobs=2).fit(Match)) == fingerprint(brief.fit(Match))


def test_a_failing_environment_loses_nothing(brief):
    policy = brief.fit(Match)
    before = fingerprint(policy)
    for how in ("raises", "nan observation", "nan reward"):
        with pytest.raises(EpisodeError):
            policy.fit(lambda how=how: Broken(how))
        assert fingerprint(policy) == before
    assert policy.score(Match, n_episodes=2) >= 0


@pytest.mark.parametrize(
    ("environment", "error", "message"),
    [
        ("NoSuchTask-v0", ValueError, "Gymnasium could not make 'NoSuchTask-v0'"),
        (42, TypeError, "Got an environment of type int"),
        ([], ValueError, "empty list"),
        (list("CartPole-v1"), ValueError, "'CartPole-v1' split up"),
        (lambda: Spaces(gym.spaces.Discrete(2), gym.spaces.Text(3)), ValueError, "action space Text"),
    ],
)
def test_bad_environments(brief, environment, error, message):
    with pytest.raises(error, match=message):
        brief.fit(environment)
    assert not hasattr(brief, "_deployed")


@pytest.mark.parametrize(
    ("parameter", "value", "error"),
    [
        ("network__n_neurons", 0, ValueError),
        ("network__n_neurons", "many", TypeError),
        ("learning_rate", -1, ValueError),
        ("observation_clip", 0, ValueError),
        ("score_threshold", "high", ValueError),
        ("n_jobs", 0, ValueError),
        ("random_state", -1, ValueError),
        ("warm_start", "yes", TypeError),
    ],
)
def test_bad_parameters(brief, parameter, value, error):
    with pytest.raises(error, match=parameter.removeprefix("network__")):
        brief.set_params(**{parameter: value}).fit(Match)


def test_other_spaces_are_refused(learnt):
    with pytest.raises(ValueError, match="The policy was trained for the observation_space"):
        learnt.score("CartPole-v1")
    with pytest.raises(ValueError, match=r"of shape \(2,\)"):
        learnt.predict(np.ones(2))


@pytest.mark.parametrize(
    "action_space",
    [
        gym.spaces.Box(-2, 3, (2,), np.float32),
        gym.spaces.Discrete(3, start=1),
        gym.spaces.MultiDiscrete([2, 3]),
        gym.spaces.MultiBinary(3),
    ],
)
def test_action_spaces(brief, action_space):
    """The probe checks every action that it gets."""
    observation_space = gym.spaces.Dict({"a": gym.spaces.Discrete(3), "b": gym.spaces.Box(-1, 1, (2,), np.float32)})
    policy = brief.fit(lambda: Spaces(observation_space, action_space))
    action, state = policy.predict(observation_space.sample())
    assert action_space.contains(action)
    action, _ = policy.predict(observation_space.sample(), state, deterministic=False)
    assert action_space.contains(action)
    assert policy.score(lambda: Spaces(observation_space, action_space), n_episodes=2) == 3


def test_deepcopies_act_alike(learnt):
    observation = np.array([1], np.float32)
    assert copy.deepcopy(learnt).predict(observation)[0] == learnt.predict(observation)[0]
