"""Observation statistics far from zero, and numbers that are too large."""

import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import ecpolicy
from ecpolicy import EpisodeError, ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.networks import GRU, RSNN, RealRSNN
from ecpolicy.rollout.outcome import mean_and_std
from learnt import learnt
from probes import DeviceMatch, Pool

SMALL = {"n_generations": 3, "population_size": 40, "network": RSNN(8), "random_state": 0, "score_threshold": None}
PPO = {"network": RealRSNN(6, step_ms=2.0), "n_envs": 2, "n_steps": 50, "max_env_steps": 400, "n_epochs": 1,
       "random_state": 0}  # fmt: skip


class Far(gym.Env):
    """Fifty steps; the observation is an offset and a sign to be named, and numbers of other offsets beside it."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Discrete(2)

    def __init__(self, offset, drift=0.0):
        self.offset, self.drift = offset, drift

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._see(), {}

    def step(self, action):
        reward = float(action == (self.sign > 0))
        self.t += 1
        return self._see(), reward, self.t >= 50, False, {}

    def _see(self):
        self.sign = int(self.np_random.choice([-1, 1]))
        return np.array([self.offset + self.sign + self.drift * self.t, 7.0, -self.offset + 0.5 * self.sign])


def deviations(policy):
    found = learnt(policy)
    return np.sqrt(found["search/moments/squares"] / found["search/moments/n"])


WAYS = {
    "class": lambda make: make,
    "instance": lambda make: make(),
    "vector": lambda make: SyncVectorEnv([make] * 3, autoreset_mode=AutoresetMode.DISABLED),
    "next step": lambda make: SyncVectorEnv([make] * 3),
    "pool": lambda make: Pool(make, 3),
}


@pytest.mark.parametrize(
    ("way", "offset"), [*((way, 1.7e9) for way in WAYS), ("class", 1e3), ("class", 1e6), ("class", -1e9)]
)
def test_deviations_are_right_however_far_from_zero(way, offset):
    policy = EvolvingConnectivityPolicy(**SMALL).fit(WAYS[way](functools.partial(Far, offset)))
    np.testing.assert_allclose(deviations(policy), [1, 0, 0.5], atol=1e-3)


@pytest.mark.parametrize("settings", [{"normalize_observations": False}, {"episodes_per_member": 2}, {"n_jobs": 2}])
def test_deviations_are_right_with_other_settings(settings):
    policy = EvolvingConnectivityPolicy(**SMALL, **settings).fit(functools.partial(Far, 1.7e9))
    np.testing.assert_allclose(deviations(policy), [1, 0, 0.5], atol=1e-3)


def test_deviations_of_several_environments_and_of_drift():
    policy = ESPolicy(**SMALL | {"network": GRU(8)}).fit(
        [functools.partial(Far, 1e9), functools.partial(Far, 1e9 + 100)]
    )
    np.testing.assert_allclose(deviations(policy), [np.hypot(50, 1), 0, np.hypot(50, 0.5)], rtol=1e-3, atol=1e-3)
    policy.fit(functools.partial(Far, 1.7e9, drift=1.0))
    np.testing.assert_allclose(deviations(policy)[0], np.sqrt((50**2 - 1) / 12 + 1), rtol=1e-2)


def test_far_from_zero_is_learnt_as_well():
    far = functools.partial(Far, 1.7e9)
    policy = EvolvingConnectivityPolicy(
        **{**SMALL, "n_generations": 30, "population_size": 64, "network": RSNN(32)}
    ).fit(far)
    assert policy.score(far) > 45


def test_ppo_far_from_zero():
    policy = SurrogateGradientPPOPolicy(**PPO).fit(functools.partial(Far, 1.7e9))
    np.testing.assert_allclose(np.sqrt(learnt(policy)["observations/var"]), [1, 0, 0.5], atol=1e-3)


class FarDevice(DeviceMatch):
    """Observations around 10,000."""

    def _observe(self, *args):
        state = super()._observe(*args)
        return state._replace(obs=state.obs + 10_000)


def test_environments_in_jax_far_from_zero():
    far = EvolvingConnectivityPolicy(**SMALL).fit(FarDevice())
    np.testing.assert_allclose(deviations(far), [1, np.arange(0, 1, 0.1).std()], rtol=1e-2)


# Too large


class Sentinel(Far):
    """Now and then an observation is a number that stands for something else."""

    def __init__(self, value):
        super().__init__(0.0)
        self.value = value

    def _see(self):
        seen = super()._see()
        if self.np_random.random() < 0.3:
            seen[1] = self.value
        return seen


@pytest.mark.parametrize(
    ("way", "value"),
    [
        *((way, 1e141) for way in WAYS),
        *(("class", value) for value in (-1e200, np.finfo(np.float64).max, np.inf, np.nan)),
    ],
)
def test_an_observation_that_overflows_is_named(way, value):
    with pytest.raises(EpisodeError, match=r"too large, beyond 1e\+140|NaN or infinite"):
        EvolvingConnectivityPolicy(**SMALL).fit(WAYS[way](functools.partial(Sentinel, value)))


def test_ppo_names_observations_and_rewards_that_overflow():
    with pytest.raises(EpisodeError, match=r"An observation is NaN, infinite or beyond 1e\+140"):
        SurrogateGradientPPOPolicy(**PPO).fit(functools.partial(Sentinel, 1e200))
    with pytest.raises(EpisodeError, match=r"A reward is 1e\+39, not a finite number of single precision"):
        SurrogateGradientPPOPolicy(**PPO).fit(lambda: gym.wrappers.TransformReward(Far(0.0), lambda reward: 1e39))


@pytest.mark.parametrize("value", [1e100, 1e20, 3.4e38])
def test_a_policy_that_saw_large_numbers_is_usable_and_can_be_read_again(tmp_path, value):
    policy = EvolvingConnectivityPolicy(**SMALL).fit(functools.partial(Sentinel, value))
    assert np.isfinite(learnt(policy, training_state=False)["standardizer/inverse_std"]).all()
    policy.save(tmp_path / "p.ecp")
    loaded = ecpolicy.load(tmp_path / "p.ecp")
    observation = np.array([1.0, 1.0, 1e300])  # beyond what fit takes: clipped like any other
    assert loaded.predict(observation)[0] == policy.predict(observation)[0]


class Huge(DeviceMatch):
    def _observe(self, *args):
        state = super()._observe(*args)
        return state._replace(obs=state.obs * 1e16)


def test_an_observation_that_overflows_single_precision_is_named():
    with pytest.raises(EpisodeError, match=r"NaN, infinite or beyond 1e\+15"):
        EvolvingConnectivityPolicy(**SMALL).fit(Huge())


class Rich(Far):
    """Returns whose squares, and whose sums, leave the range of float64."""

    def __init__(self, reward):
        super().__init__(0.0)
        self.reward = reward

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, self.reward / 100 * (1 + self.np_random.random()), *rest


@pytest.mark.parametrize("reward", [1e200, -1e200, 1.5e308])
def test_huge_returns_can_be_saved(tmp_path, reward):
    policy = EvolvingConnectivityPolicy(**SMALL, episodes_per_member=2).fit(functools.partial(Rich, reward))
    assert all(np.isfinite(value) for record in policy.history_ for value in record.values() if value is not None)
    policy.save(tmp_path / "p.ecp")
    assert list(ecpolicy.load(tmp_path / "p.ecp").history_) == list(policy.history_)
    assert np.isfinite(policy.score(functools.partial(Rich, reward)))


@pytest.mark.parametrize("scale", [1.0, 1e100, 1e153, 1e300])
def test_mean_and_deviation_of_large_numbers(scale):
    values = np.random.default_rng(0).normal(size=(5, 7))
    assert mean_and_std(values * scale) == pytest.approx((values.mean() * scale, values.std() * scale))
    mean, std = mean_and_std(values * scale, axis=1)
    np.testing.assert_allclose(mean, values.mean(axis=1) * scale)
    np.testing.assert_allclose(std, values.std(axis=1) * scale)


def test_the_mean_of_the_largest_numbers_is_finite():
    largest = np.finfo(np.float64).max
    assert mean_and_std(np.full(9, largest)) == (largest, 0)
    assert mean_and_std(np.array([largest, -largest])) == (0, largest)
