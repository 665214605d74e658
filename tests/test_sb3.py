"""Stable-Baselines3's tools on a fitted policy."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.fitting.observation_statistics import initial_moments
from ecpolicy.networks import RSNN, RealRSNN
from learnt import learnt
from probes import Spaces

SEED, EPISODES = 700, 6


class Seeded(gym.Wrapper):
    """Start episodes from the seeds first, first + stride, ... whatever ``reset`` is given."""

    def __init__(self, env, first=SEED, stride=1):
        super().__init__(env)
        self.following, self.stride = first, stride

    def reset(self, *, seed=None, options=None):
        result = self.env.reset(seed=self.following, options=options)
        self.following += self.stride
        return result


def seeded(lane=0, lanes=1):
    """Lane ``lane`` of ``lanes`` parallel environments; together they start from SEED, SEED + 1, ..."""
    return lambda: Seeded(gym.make("CartPole-v1"), SEED + lane, lanes)


@pytest.fixture(scope="module")
def policy():
    return EvolvingConnectivityPolicy(
        network=RSNN(64), population_size=64, n_generations=3, random_state=0, score_threshold=None
    ).fit("CartPole-v1")


def test_evaluate_policy_on_an_environment(policy):
    environment = seeded()()
    mean, _ = evaluate_policy(policy, environment, n_eval_episodes=EPISODES, warn=False)
    assert mean == policy.score("CartPole-v1", n_episodes=EPISODES, seed=SEED)
    environment.close()


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
@pytest.mark.parametrize("lanes", [1, 3])
def test_evaluate_policy_on_vectorised_environments(policy, kind, lanes):
    environments = kind([seeded(lane, lanes) for lane in range(lanes)])
    returns, lengths = evaluate_policy(
        policy, environments, n_eval_episodes=EPISODES, return_episode_rewards=True, warn=False
    )
    environments.close()
    expected = policy.episode_returns("CartPole-v1", n_episodes=EPISODES, seed=SEED)[:, 0]
    assert np.mean(returns) == expected.mean()
    np.testing.assert_array_equal(sorted(returns), sorted(expected))
    assert sum(lengths) == sum(expected)  # CartPole pays one per step
    assert len(set(expected)) > 1


def test_stochastic_evaluation_runs(policy):
    mean, _ = evaluate_policy(policy, seeded()(), n_eval_episodes=3, deterministic=False, warn=False)
    assert mean > 0


# VecNormalize


def normalized(environment, steps=200):
    """A VecNormalize that has seen some random steps, and all observations that it has seen."""
    vectorized = VecNormalize(DummyVecEnv([environment] * 2))
    vectorized.seed(0)
    vectorized.action_space.seed(0)
    vectorized.reset()
    seen = [vectorized.get_original_obs()]
    for _ in range(steps):
        vectorized.step(np.array([vectorized.action_space.sample() for _ in range(2)]))
        seen.append(vectorized.get_original_obs())
    return vectorized, seen


@pytest.mark.parametrize(("kind", "network"), [(EvolvingConnectivityPolicy, RSNN(16)), (ESPolicy, RealRSNN(16))])
def test_a_training_starts_from_the_statistics_of_vecnormalize(kind, network):
    vectorized, seen = normalized(lambda: gym.make("CartPole-v1"))
    settings = {"network": network, "population_size": 16, "n_generations": 1, "random_state": 0}
    policy = kind(**settings).fit("CartPole-v1", observation_statistics=vectorized)
    found, observations = learnt(policy), np.concatenate(seen)
    assert found["search/moments/n"] == len(observations) + policy.n_env_steps_
    by_hand = observations.mean(axis=0), observations.var(axis=0), len(observations)
    again = kind(**settings).fit("CartPole-v1", observation_statistics=by_hand)
    np.testing.assert_allclose(learnt(again)["search/moments/mean"], found["search/moments/mean"], atol=1e-5)
    assert again.history_[0]["return_mean"] == policy.history_[0]["return_mean"]
    fresh = kind(**settings).fit("CartPole-v1")
    assert fresh.history_[0]["return_mean"] != policy.history_[0]["return_mean"]  # normalised from the first step on


def test_ppo_starts_from_them_as_well():
    vectorized, seen = normalized(lambda: gym.make("CartPole-v1"))
    policy = SurrogateGradientPPOPolicy(
        network=RealRSNN(8, step_ms=2.0), n_envs=2, n_steps=8, max_env_steps=16, random_state=0
    ).fit("CartPole-v1", observation_statistics=vectorized)
    assert learnt(policy)["observations/n"] == pytest.approx(len(np.concatenate(seen)) + 16 + 2, abs=1)


def test_statistics_of_dict_observations():
    spaces = gym.spaces.Dict({"b": gym.spaces.Box(-9, 9, (2,)), "a": gym.spaces.Box(-9, 9, (1,))})
    make = lambda: Spaces(spaces, gym.spaces.Discrete(2))  # noqa: E731
    vectorized, _ = normalized(make, steps=20)
    moments = initial_moments(vectorized, spaces)
    flat = gym.spaces.flatten(spaces, {name: running.mean for name, running in vectorized.obs_rms.items()})
    np.testing.assert_allclose(moments.mean, flat, rtol=1e-6)
    del vectorized.obs_rms["a"]  # as with norm_obs_keys=["b"]
    moments = initial_moments(vectorized, spaces)
    assert moments.mean[0] == 0
    assert moments.squares[0] == moments.n


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("hopper.pkl", TypeError, "must be a VecNormalize of Stable-Baselines3"),
        (([0.0], [1.0], 10), ValueError, "the mean must be 4 finite numbers"),
        ((np.zeros(4), np.full(4, np.nan), 10), ValueError, "the variance must be 4 finite numbers"),
        ((np.zeros(4), -np.ones(4), 10), ValueError, "must not be negative"),
        ((np.zeros(4), np.ones(4), -1), ValueError, "must not be negative"),
    ],
)
def test_bad_statistics(given, error, message):
    policy = EvolvingConnectivityPolicy(network=RSNN(16), population_size=4, n_generations=1)
    with pytest.raises(error, match=message):
        policy.fit("CartPole-v1", observation_statistics=given)
    assert not hasattr(policy, "history_")
