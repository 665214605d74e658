"""The deployed network's score in fit: which episodes decide, and that those who decide are fresh."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.estimators.judging import SOLVED_EPISODES, Judge
from ecpolicy.estimators.parameters import endless_episode
from ecpolicy.normalization import Standardizer
from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed, reserved_key
from ecpolicy.rollout.episodes import Networks
from ecpolicy.rollout.outcome import Outcome
from probes import DeviceMatch, Match


class Noted:
    """Notes the seeds of what is to be played; every episode has the same return."""

    def __init__(self, returned):
        self.returned, self.seeds, self.horizons = returned, [], []

    def run(self, play):
        outcome = None
        while True:
            try:
                table = next(play) if outcome is None else play.send(outcome)
            except StopIteration as end:
                return end.value
            self.seeds.append(table.seeds.reshape(-1, table.episodes).tolist())
            self.horizons.append(tuple(table.horizons[: table.episodes]))
            returns = np.full((table.members, table.episodes), self.returned)
            outcome = Outcome(returns, np.ones(returns.shape, np.int64), None, np.full((*returns.shape, 2), np.nan))


def judge(threshold, confirm_episodes=20):
    return Judge(0, (np.inf, 7.0), threshold=threshold, eval_episodes=4, confirm_episodes=confirm_episodes)


NETWORKS = Networks(None, Standardizer(np.zeros(1), np.ones(1), 10.0))


@pytest.mark.parametrize("confirm_episodes", [1, 20, 100, 150])
def test_the_threshold_is_confirmed_on_a_hundred_episodes_that_picked_nothing(confirm_episodes):
    runner = Noted(5.0)
    verdict = runner.run(judge(5.0, confirm_episodes).assess(NETWORKS, 3, best=-np.inf))
    assert verdict.solved
    assert [len(seeds) for seeds in runner.seeds] == [4, confirm_episodes, SOLVED_EPISODES]
    every = [seed for seeds in runner.seeds for pair in seeds for seed in pair]
    assert len(set(every)) == len(every) == verdict.n_steps
    assert runner.horizons == [(np.inf, 7.0)] * 3


def test_a_network_is_measured_again_on_the_same_episodes():
    first, again = Noted(5.0), Noted(5.0)
    first.run(judge(5.0).assess(NETWORKS, 3, best=-np.inf))
    confirmed = again.run(judge(5.0).confirm(NETWORKS, 3))
    assert again.seeds == first.seeds[1:]
    assert (confirmed.score, confirmed.solved) == (5.0, True)


def test_what_does_not_reach_the_threshold_is_not_played_further():
    runner = Noted(4.9)
    assert not runner.run(judge(5.0).assess(NETWORKS, 3, best=4.95)).solved
    assert [len(seeds) for seeds in runner.seeds] == [4]
    assert runner.run(judge(None).assess(NETWORKS, 3, best=0.0)).score == pytest.approx(4.9)


# Streams


def keys_of_everything(seed, generations=12, members=30, environments=3, episodes=30):
    """Every key that a run derives, by what it is for."""
    root = key_from_seed(seed)
    for stream in (Stream.START, Stream.SCORE, Stream.DEPLOYMENT, Stream.CONNECTIONS):
        yield ("run", stream), reserved_key(seed, stream)
        for environment in range(environments):
            below = fold_in(reserved_key(seed, stream), environment)
            yield ("run", stream, environment), below
            for episode in range(episodes):
                yield ("run", stream, environment, episode), fold_in(below, episode)
    for generation in range(generations):
        for stream in (Stream.EVALUATION, Stream.CONFIRMATION):
            yield (generation, stream), reserved_key(seed, stream, generation)
            for environment, episode in itertools.product(range(environments), range(episodes)):
                key = fold_in(fold_in(reserved_key(seed, stream, generation), environment), episode)
                yield (generation, stream, environment, episode), key
        for member in range(members):
            own = fold_in(fold_in(root, generation), member)
            yield (generation, "member", member), own
            for stream in (Stream.CONNECTIONS, Stream.MEMBRANE, Stream.ENVIRONMENT):
                yield (generation, "member", member, stream), fold_in(own, stream)
                for play in range(6):
                    yield (generation, "member", member, stream, play), fold_in(fold_in(own, stream), play)
        yield (generation,), fold_in(root, generation)


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 5])
def test_no_two_streams_meet(seed):
    derived = dict(keys_of_everything(seed))
    assert len({key.tobytes() for key in derived.values()}) == len(derived) > 5000


def test_all_streams_are_in_the_test():
    tried = {part for name, _ in keys_of_everything(0, 1, 1) for part in name if isinstance(part, Stream)}
    assert tried == set(Stream)


def test_the_key_of_the_start_is_no_generation():
    """As it was: the weights that evolution strategies start from were drawn with generation 7's key."""
    start = reserved_key(3, Stream.START)
    assert all(not np.array_equal(start, fold_in(key_from_seed(3), generation)) for generation in range(1000))
    assert environment_seed(start) != environment_seed(fold_in(key_from_seed(3), 7))


# How long an episode is


class Endless(Match):
    length = 10**9


class EndlessDevice(DeviceMatch):
    def __init__(self):
        super().__init__(10**9)


def policy_of(**changes):
    settings = {"n_generations": 1, "population_size": 4, "n_neurons": 8, "eval_episodes": 1, "confirm_episodes": 1}
    return EvolvingConnectivityPolicy(**{**settings, "random_state": 0, **changes})


@pytest.mark.parametrize("environment", [Endless, EndlessDevice()], ids=["gymnasium", "jax"])
@pytest.mark.parametrize(("horizon", "length"), [(1000, 1000), (None, 1000), (30, 30), ([(0, 50), (10**6, 20)], 20)])
def test_one_rule_for_episodes_without_a_limit(environment, horizon, length):
    policy = policy_of(max_episode_steps=horizon).fit(environment)
    assert policy.history_[0]["deployed_length"] == length
    assert policy.history_[0]["episode_length"] == (50 if isinstance(horizon, list) else length)
    assert (policy.evaluate(environment, n_episodes=1).lengths == length).all()
    assert policy.score(environment, n_episodes=1, max_episode_steps=7) <= 7


def test_a_limit_of_its_own_holds_for_each_environment_of_a_list():
    long = gym.wrappers.TimeLimit(Endless(), 45)
    policy = policy_of(max_episode_steps=30).fit([Endless, long])
    assert policy.evaluate([Endless, long], n_episodes=2).lengths.tolist() == [[30, 45]] * 2
    assert policy.history_[0]["deployed_length"] == (30 + 45) / 2
    assert policy.evaluate([Endless, long], n_episodes=1, max_episode_steps=40).lengths.tolist() == [[40, 40]]


def test_the_rule_holds_for_ppo_as_well():
    policy = SurrogateGradientPPOPolicy(
        n_neurons=4, n_envs=2, n_steps=8, max_env_steps=16, n_epochs=1, step_ms=1.0, eval_episodes=1, random_state=0
    ).fit(Endless)
    assert policy.history_[-1]["deployed_length"] == 1000 == endless_episode(policy)
    assert policy.evaluate(Endless, n_episodes=1).lengths == 1000


def test_evaluation_may_say_a_limit():
    from ecpolicy.callbacks import Evaluation

    evaluation = Evaluation(Endless, every=1, n_episodes=2, max_episode_steps=12)
    policy_of(max_episode_steps=5).fit(Match, callbacks=evaluation)
    assert 0 <= evaluation.results[0].mean <= 12
    with pytest.raises(ValueError, match="max_episode_steps must be a number of steps"):
        Evaluation(Endless, max_episode_steps=0)
