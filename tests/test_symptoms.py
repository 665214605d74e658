"""What the library says where a training does not learn."""

import warnings

import gymnasium as gym
import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Progress
from ecpolicy.callbacks.symptoms import BLIND, FIRST, STUCK, hint, left_to_chance, nothing_to_learn, stuck_for
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
    assert left_to_chance(lengths[:5] * 4, None) is None


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
