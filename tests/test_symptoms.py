"""What the library says where a training does not learn."""

import warnings

import gymnasium as gym
import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Progress
from ecpolicy.callbacks.symptoms import BLIND, FIRST, STUCK, gives_up, hint, left_to_chance, nothing_to_learn, stuck_for
from ecpolicy.networks import RSNN


class Pays(gym.Env):
    """Ends after three steps and pays one of two amounts, by the action if it is to tell them apart."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, tells=False):
        self._tells = tells

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), {}

    def step(self, action):
        self._steps += 1
        observation = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return observation, float(action) if self._tells else 0.0, self._steps == 3, False, {}


def policy(**parameters):
    return EvolvingConnectivityPolicy(
        **{
            "network": RSNN(8), "population_size": 8, "n_generations": BLIND + 2, "eval_episodes": 1,
            "confirm_episodes": 1, "random_state": 0, **parameters,
        }
    )  # fmt: skip


def test_equal_returns_are_warned_of_once():
    with pytest.warns(UserWarning, match=r"All returns of the first 5 generations are equal \(0\)") as seen:
        policy().fit(Pays)
    assert len(seen) == 1
    assert seen[0].filename == __file__


def test_returns_that_tell_members_apart_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy().fit(lambda: Pays(tells=True))
        policy(n_generations=BLIND - 1).fit(Pays)


def test_a_training_that_has_learnt_may_have_equal_returns():
    equal, unequal = ({"return_min": low, "return_max": 9.0, "return_mean": 9.0, "return_std": 0.0} for low in (9, 8))
    assert nothing_to_learn([equal] * BLIND)
    assert nothing_to_learn([unequal, *[equal] * (BLIND - 1)]) is None
    assert nothing_to_learn([equal] * (BLIND + 1)) is None


def test_short_episodes_are_warned_of_once():
    settings = {"population_size": 8, "n_generations": FIRST + 1, "eval_episodes": 1}
    with pytest.warns(UserWarning, match=r"Episodes last 1\.\d steps .* \(episodes_per_member=[45]\d\)") as seen:
        policy(**settings).fit("Blackjack-v1")
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy(**settings, episodes_per_member=16).fit("Blackjack-v1")


def test_episodes_that_become_longer_are_not_left_to_chance():
    lengths = [{"episode_length": float(n), "return_std": 1.0} for n in range(FIRST)]
    assert left_to_chance(lengths, 1) is None
    assert left_to_chance(lengths[:5] * 4, 1)
    assert left_to_chance(lengths[:5] * 4, 4) is None
    assert left_to_chance([*lengths[:5] * 3, *lengths[5:10]], 1) is None  # of robots that fall at once, for now
    assert left_to_chance(lengths[:5] * 4, None) is None


def course(first, last):
    """A history from one (length, mean, max) to another."""
    names = "episode_length", "return_mean", "return_max"
    return [dict(zip(names, entry, strict=True)) for entry in [first] * (FIRST - 1) + [last]]


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ((25, -27, 211), (5, -8.8, -8.2), True),  # a walker that falls backwards
        ((25, -27, 211), (5, -8.8, 1), False),  # some do better
        ((480, -480, -300), (90, -90, -70), False),  # they reach their goal, as in Acrobot-v1
        ((25, -27, 211), (20, -60, -8), False),  # it goes on for as long
        ((20, 20, 60), (9, 9, 12), False),
    ],
)
def test_members_that_end_their_episodes_as_steps_cost(first, last, said):
    assert (gives_up(course(first, last)) is not None) == said
    assert gives_up(course(first, last)[1:]) is None
    assert gives_up([{"episode_length": 25.0 - n, "return_mean": -27.0} for n in range(FIRST)]) is None  # PPO's


class Costs(Pays):
    """Every step costs, the first one more, until one of the actions ends the episode."""

    def step(self, action):
        observation, *_ = super().step(action)
        return observation, -1.0 - (self._steps == 1), bool(action) or self._steps == 60, False, {}


def test_giving_up_is_warned_of_once():
    with pytest.warns(UserWarning, match=r"after 1 steps instead of \d+, as every step costs them") as seen:
        policy(population_size=32, n_generations=FIRST + 1, learning_rate=0.6).fit(Costs)
    assert len(seen) == 1


def test_generations_without_a_better_network():
    assert stuck_for([{"best_deployed_return": value} for value in (1.0, 2.0, 2.0, 2.0)]) == 2
    assert stuck_for([{"best_deployed_return": value} for value in (1.0, 2.0)]) == 0
    assert stuck_for([{"best_deployed_return": 2.0}] * 4) == 3


def test_progress_says_where_help_is(capsys):
    with pytest.warns(UserWarning, match="All returns"):
        policy(n_generations=STUCK + 3).fit(Pays, callbacks=Progress(26))
    lines = capsys.readouterr().out.splitlines()
    assert [f"for {STUCK} generations and more" in line for line in lines] == [False, True, False, True]
    assert "'It does not learn'" in lines[2]
    assert "gain_in" not in lines[2]  # whoever gave a network has chosen its gains


@pytest.mark.parametrize(("given", "says"), [({"network": None}, True), ({}, False)])
def test_the_change_that_helps_most_often_is_named(given, says):
    seen = []
    policy(n_generations=1, population_size=2, **given).fit(
        Pays, callbacks=lambda view: seen.append(hint(view)) or False
    )
    assert (seen == [": try network=RSNN(gain_in=1.0, gain_recurrent=0.2, gain_out=1.0)"]) is says
