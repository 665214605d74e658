"""The native engine in fits: what they learn equals Gymnasium's bit for bit; which engine plays, and what it says."""

import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TransformReward
from joblib import parallel_config

from ecpolicy import EpisodeError, ESPolicy, EvolvingConnectivityPolicy, tuned
from ecpolicy.evolution import member_keys
from ecpolicy.networks import GRU, LSTM, RSNN, RealRSNN
from ecpolicy.normalization import Moments
from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed
from ecpolicy.rollout.episodes import CHUNK, playing
from ecpolicy.rollout.outcome import Outcome
from ecpolicy.rollout.schedule import Schedule
from golden_fits import fingerprints
from probes import Match

TASKS = ("HalfCheetah", "Hopper", "Walker2d", "Swimmer", "Ant", "Humanoid", "HumanoidStandup", "InvertedPendulum",
         "InvertedDoublePendulum", "Reacher", "Pusher")  # fmt: skip
SMALL = {"network": RSNN(33), "population_size": 20, "n_generations": 2, "eval_episodes": 2, "confirm_episodes": 3,
         "max_episode_steps": 6, "random_state": 7, "score_threshold": None}  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MuJoCo may write its log


def short(name, **kwargs):
    spec = copy.deepcopy(gym.spec(name))
    spec.max_episode_steps = 9
    spec.kwargs.update(kwargs)
    return spec


def ec(environment, **changes):
    return EvolvingConnectivityPolicy(**{**SMALL, **changes}).fit(environment)


@pytest.mark.parametrize("task", TASKS)
def test_fits_are_equal(task):
    environment = short(f"{task}-v5")
    policy = ec(environment, engine="gymnasium")
    assert policy.engine_ == "gymnasium"
    expected = fingerprints(policy)
    for n_jobs in (1, 2, 3):
        found = ec(environment, engine="mujoco", n_jobs=n_jobs)
        assert found.engine_ == "mujoco"
        assert fingerprints(found) == expected
    np.testing.assert_array_equal(
        found.evaluate(environment, n_episodes=3),
        found.set_params(engine="gymnasium").evaluate(environment, n_episodes=3),
    )


@pytest.mark.parametrize(
    ("environment", "changes"),
    [
        (short("Hopper-v5", healthy_reward=0.0, reset_noise_scale=0.1, frame_skip=2), {}),
        (short("Ant-v4", use_contact_forces=True), {}),
        ([short("Hopper-v5"), short("Hopper-v5", forward_reward_weight=3.0)], {"episodes_per_member": 2}),
        (lambda: gym.make("Walker2d-v5", max_episode_steps=9), {}),
        (short("HalfCheetah-v4"), {"max_episode_steps": [(0, 4), (50, 7)], "eps": [(0, 0.01), (90, 0.1)]}),
        (short("Hopper-v5"), {"network": RSNN(n_neurons=20)}),
    ],
)
def test_fits_are_equal_with_other_settings(environment, changes):
    expected = fingerprints(ec(environment, engine="gymnasium", **changes))
    assert fingerprints(ec(environment, engine="mujoco", n_jobs=2, **changes)) == expected


@pytest.mark.parametrize("network", [RealRSNN(9), GRU(9), LSTM(9)])
def test_evolution_strategies_are_equal(network):
    settings = {**SMALL, "network": network}
    expected = ESPolicy(**settings, engine="gymnasium").fit(short("Hopper-v5"))
    assert fingerprints(ESPolicy(**settings, n_jobs=2).fit(short("Hopper-v5"))) == fingerprints(expected)


def test_stop_and_resume_with_either_engine(tmp_path):
    environment = short("Hopper-v5")
    expected = fingerprints(ec(environment, engine="gymnasium", n_generations=4))
    for first, second in [("mujoco", "gymnasium"), ("gymnasium", "mujoco"), ("mujoco", "mujoco")]:
        ec(environment, engine=first, n_generations=2).save(tmp_path / "half.ecp")
        again = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 4, "engine": second, "n_jobs": 2})
        again.fit(environment, resume_from=tmp_path / "half.ecp")
        assert fingerprints(again) == expected
    policy = EvolvingConnectivityPolicy(**SMALL)
    for _ in range(4):
        policy.partial_fit(environment)
    assert fingerprints(policy)["search"] == expected["search"]


def test_what_is_played_ahead_is_discarded():
    """A callback that ends the fit leaves a training as if nothing had been played after it."""
    environment = short("Hopper-v5")
    stopped = ec(environment, n_jobs=2, n_generations=2)
    other = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 9, "n_jobs": 2})
    other.fit(environment, callbacks=lambda view: view.n_generations_ == 2)
    assert other.stop_reason_ == "callback <lambda>"
    assert other.n_env_steps_ == stopped.n_env_steps_
    assert fingerprints(other)["search"] == fingerprints(stopped)["search"]


def test_the_tuned_environments_are_known():
    for name in ("Hopper-v5", "Walker2d-v5", "Humanoid-v5", "HalfCheetah-v5"):
        environment = tuned(name).environment
        environment.max_episode_steps = 5
        assert ec(environment, n_generations=1).engine_ == "mujoco"


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (Match, "Match is not one of Gymnasium's MuJoCo tasks"),
        (lambda: TransformReward(gym.make("Hopper-v5"), abs), "wrapped in TransformReward"),
        (lambda: gym.make_vec("Hopper-v5", num_envs=2, vectorization_mode="sync"), "a VectorEnv"),
        (gym.make("InvertedPendulum-v5", max_episode_steps=9), "an instance, which is played as it is"),
    ],
)
def test_what_is_not_known_is_played_by_gymnasium(environment, reason):
    with pytest.raises(ValueError, match=reason):
        ec(environment, engine="mujoco")
    if not callable(environment) or environment is Match:
        assert ec(environment).engine_ == "gymnasium"


def test_environments_that_differ_every_time_are_played_by_gymnasium():
    weights = iter(range(1, 1000))
    with pytest.raises(ValueError, match="makes another one every time"):
        ec(lambda: gym.make("Hopper-v5", forward_reward_weight=float(next(weights))), engine="mujoco")


def test_why_a_robot_is_not_played_natively_is_said(capsys):
    environment = lambda: TransformReward(gym.make("Hopper-v5", max_episode_steps=9), abs)  # noqa: E731
    policy = ec(environment, n_generations=1, verbose=1)
    assert policy.notes_ == ["The engine is Gymnasium, not MuJoCo's: it is wrapped in TransformReward."]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == policy.notes_[0]
    assert lines[1].endswith("| engine gymnasium")


def test_engine_is_checked():
    with pytest.raises(ValueError, match="engine must be one of"):
        ec(Match, engine="warp")


class Failing(RSNN):
    def step(self, *args, rows, **kwargs):
        raise ZeroDivisionError("no such synapse")


def test_a_network_that_raises_is_named_and_threads_end():
    with pytest.raises(EpisodeError, match=r"Failing.* raised ZeroDivisionError: no such synapse in its step"):
        ec(short("Hopper-v5"), network=Failing(n_neurons=8), n_jobs=2)


# What is played next


class Rows:
    """A table of so many members, of which nothing but the number is asked."""

    def __init__(self, members, name=""):
        self.members, self.name, self.seeds = members, name, np.arange(members)

    def chunks(self, size):
        return [Rows(min(size, self.members - first), self.name) for first in range(0, self.members, size)]


def played(rows):
    ones = np.ones((rows.members, 1))
    return Outcome(ones, ones.astype(np.int64), Moments.empty(1), np.full((rows.members, 1, 2), np.nan))


def schedule_of(play, ahead=None, wanted=lambda result: True):
    return Schedule(play, ahead, wanted, lambda table: CHUNK)


def two_questions():
    first = yield Rows(20, "first")
    second = yield Rows(5, "second")
    return first.n_steps + second.n_steps


def test_what_a_decision_waits_for_comes_first():
    schedule = schedule_of(two_questions(), Rows(40, "ahead"))
    order = []
    while (chunk := schedule.pull()) is not None:
        order.append((chunk.table.name, chunk.table.members))
        schedule.deliver(chunk.number, played(chunk.table))
    assert order == [("first", 16), ("first", 4), ("second", 5), ("ahead", 16), ("ahead", 16), ("ahead", 8)]
    assert schedule.finished
    assert (schedule.result, schedule.ahead.n_steps) == (25, 40)


def test_what_is_ahead_is_dropped_where_it_is_not_wanted():
    schedule = schedule_of(playing(Rows(4)), Rows(40, "ahead"), wanted=lambda result: result is None)
    first, ahead = schedule.pull(), schedule.pull()
    assert ahead.table.name == "ahead"
    schedule.deliver(first.number, played(first.table))
    assert schedule.finished
    assert schedule.ahead is None
    assert not schedule.is_wanted(ahead)
    assert schedule.pull() is None


def test_an_error_ahead_waits_until_it_is_asked_for():
    schedule, error = schedule_of(playing(Rows(4)), Rows(40, "ahead")), EpisodeError("broken")
    schedule.pull()
    schedule.fail(error)
    again = schedule.pull()  # what was being played is played again, without those ahead
    assert again.table.members == 4
    assert schedule.pull() is None
    schedule.deliver(again.number, played(again.table))
    assert schedule.ahead is error
    with pytest.raises(EpisodeError, match="broken"):
        schedule_of(playing(Rows(4))).fail(error)


class BreaksLater(Match):
    """Breaks in the second generation."""

    seeds = environment_seed(fold_in(fold_in(member_keys(key_from_seed(7), 1, 40), Stream.ENVIRONMENT), 0)).tolist()

    def reset(self, *, seed=None, options=None):
        if seed in self.seeds:
            raise ZeroDivisionError("the plant exploded")
        return super().reset(seed=seed, options=options)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_generation_that_is_complete_is_kept_where_the_next_one_breaks(n_jobs):
    policy = EvolvingConnectivityPolicy(**{**SMALL, "population_size": 40, "n_generations": 9, "n_jobs": n_jobs})
    with parallel_config(backend="threading"), pytest.raises(EpisodeError, match="the plant exploded"):
        policy.fit(BreaksLater)
    assert policy.n_generations_ == 1
    assert policy.stop_reason_ == "error"
