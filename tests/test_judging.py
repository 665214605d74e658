"""The deployed network's score in fit: which episodes decide, and that those who decide are fresh."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.environments import ENDLESS_EPISODE
from ecpolicy.fitting.judge import LEAST, MISSED, SHARE, SOLVED_EPISODES, Judge, bounds
from ecpolicy.networks import RSNN, RealRSNN
from ecpolicy.normalization import Standardizer
from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed, reserved_key
from ecpolicy.rollout.episodes import Networks
from ecpolicy.rollout.outcome import Outcome
from probes import DeviceMatch, Match


class Noted:
    """Notes the seeds of what is to be played; episodes have the same return, or those that a function draws."""

    def __init__(self, returned):
        self.returned = returned if callable(returned) else lambda shape: np.full(shape, returned)
        self.seeds, self.horizons = [], []

    def run(self, play):
        outcome = None
        while True:
            try:
                table = next(play) if outcome is None else play.send(outcome)
            except StopIteration as end:
                return end.value
            self.seeds.append(table.seeds.reshape(-1, table.episodes).tolist())
            self.horizons.append(tuple(table.horizons[: table.episodes]))
            returns = self.returned((table.members, table.episodes))
            outcome = Outcome(returns, np.ones(returns.shape, np.int64), None, np.full((*returns.shape, 2), np.nan))


def judge(threshold, confirm_episodes=20):
    return Judge(0, (np.inf, 7.0), threshold=threshold, eval_episodes=4, confirm_episodes=confirm_episodes)


NETWORKS = Networks(None, Standardizer(np.zeros(1), np.ones(1), 10.0))


@pytest.mark.parametrize("confirm_episodes", [1, 20, 100, 150])
def test_the_threshold_is_confirmed_on_a_hundred_episodes_that_picked_nothing(confirm_episodes):
    runner = Noted(5.0)
    verdict = runner.run(judge(5.0, confirm_episodes).assess(NETWORKS, 3, best=-np.inf))
    assert verdict.solved
    screening, *confirming, fresh = [len(seeds) for seeds in runner.seeds]
    assert (screening, sum(confirming), fresh) == (4, confirm_episodes, SOLVED_EPISODES)
    every = [seed for seeds in runner.seeds for pair in seeds for seed in pair]
    assert len(set(every)) == len(every) == verdict.n_steps
    assert set(runner.horizons) == {(np.inf, 7.0)}


def test_a_network_is_measured_again_on_the_same_episodes():
    first, again = Noted(5.0), Noted(5.0)
    first.run(judge(5.0).assess(NETWORKS, 3, best=-np.inf))
    confirmed = again.run(judge(5.0).confirm(NETWORKS, 3, episodes=20))
    assert list(itertools.chain(*again.seeds)) == list(itertools.chain(*first.seeds[1:-1], first.seeds[-1]))
    assert (confirmed.score, confirmed.solved) == (5.0, True)


def test_what_does_not_reach_the_threshold_is_not_played_further():
    runner = Noted(4.9)
    assert not runner.run(judge(5.0).assess(NETWORKS, 3, best=4.95)).solved
    assert [len(seeds) for seeds in runner.seeds] == [4]
    assert runner.run(judge(None).assess(NETWORKS, 3, best=0.0)).confirmed.score == pytest.approx(4.9)


def drawn(generator, mean, spread=1.0):
    return lambda shape: generator.normal(mean, spread, shape)


def played(runner):
    return sum(map(len, runner.seeds))


def test_a_candidate_that_is_clearly_not_better_is_given_up():
    generator = np.random.default_rng(0)
    runner = Noted(drawn(generator, 0.0))
    confirmed = runner.run(judge(None, 100).confirm(NETWORKS, 3, goal=8.0))
    assert confirmed.score == confirmed.low == -np.inf
    assert played(runner) == confirmed.episodes == 8


def test_a_better_candidate_is_measured_on_all_episodes():
    runner = Noted(drawn(np.random.default_rng(0), 8.0))
    confirmed = runner.run(judge(None, 100).confirm(NETWORKS, 3, goal=0.0))
    assert (played(runner), confirmed.episodes) == (100, 100)
    assert confirmed.low == confirmed.score == pytest.approx(8.0, abs=0.4)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_missed_as_often_as_is_said(seed):
    generator = np.random.default_rng(seed)
    episodes = generator.normal(3.0, 2.0, (4000, 100))
    means = episodes.mean(axis=1)
    for looked_at in (4, 8, 32, 64):
        found = np.array([bounds(each[:looked_at], 100) for each in episodes])
        assert np.mean(means > found[:, 1]) == pytest.approx(MISSED, abs=0.02)
        assert np.mean(means < found[:, 0]) == pytest.approx(MISSED, abs=0.02)
    assert bounds(episodes[0], 100) == (means[0], means[0])


def test_confirming_ends_with_the_allowance():
    generator = np.random.default_rng(0)
    for allowance, episodes in [(0, 12), (30, 15), (100, 50), (10**6, 100)]:  # steps, two to an episode of both
        runner = Noted(drawn(generator, 8.0))
        confirmed = runner.run(judge(None, 100).confirm(NETWORKS, 3, goal=0.0, allowance=allowance))
        assert confirmed.episodes == pytest.approx(episodes, abs=1)
        assert (confirmed.low < confirmed.score) == (episodes < 100)
    assert Noted(8.0).run(judge(None, 5).confirm(NETWORKS, 3, allowance=0)).episodes == 5


def test_the_deployed_networks_take_a_share_of_the_steps(small):
    """Match's episodes all have ten steps, and all networks differ at first, so that many are candidates."""
    policy = EvolvingConnectivityPolicy(
        **{**small, "population_size": 100, "n_generations": 12, "confirm_episodes": 100, "learning_rate": 0.05}
    ).fit(Match)
    assert policy.history_[-1]["n_evaluation_steps"] <= SHARE * policy.n_env_steps_ + 12 * LEAST * 10
    assert policy.history_[-1]["n_evaluation_steps"] > 12 * 2 * 10 + LEAST * 10


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
    settings = {"n_generations": 1, "population_size": 4, "network": RSNN(8), "eval_episodes": 1, "confirm_episodes": 1}
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
        network=RealRSNN(4, step_ms=1.0),
        n_envs=2,
        n_steps=8,
        max_env_steps=16,
        n_epochs=1,
        eval_episodes=1,
        random_state=0,
    ).fit(Endless)
    assert policy.history_[-1]["deployed_length"] == 1000 == ENDLESS_EPISODE
    assert policy.evaluate(Endless, n_episodes=1).lengths == 1000


def test_evaluation_may_say_a_limit():
    from ecpolicy.callbacks import Evaluation

    evaluation = Evaluation(Endless, every=1, n_episodes=2, max_episode_steps=12)
    policy_of(max_episode_steps=5).fit(Match, callbacks=evaluation)
    assert 0 <= evaluation.results[0].mean <= 12
    with pytest.raises(ValueError, match="max_episode_steps must be a number of steps"):
        Evaluation(Endless, max_episode_steps=0)
