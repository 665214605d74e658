"""Stable-Baselines3's tools on a fitted policy."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from ecpolicy import EvolvingConnectivityPolicy

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
        n_neurons=64, population_size=64, n_generations=3, random_state=0, score_threshold=None
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
