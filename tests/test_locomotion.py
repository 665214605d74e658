"""Speed and distance beside the return, and the name of the plateau."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Progress, StandingStill
from ecpolicy.callbacks.plateau import stands_still
from probes import Match


class Walk(gym.Env):
    """Moves by ``speed`` metres a step of a tenth of a second, and ends after ten steps."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, speed=0.5):
        self._speed = speed

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(1, np.float32), {"x_position": 0.0}

    def step(self, action):
        self._steps += 1
        info = {"x_velocity": self._speed * self._steps * 10, "x_position": self._speed * self._steps}
        return np.zeros(1, np.float32), 1.0, self._steps == 10, False, info


class Odd(Walk):
    """Has an ``x_velocity`` that is none."""

    def step(self, action):
        return *super().step(action)[:4], {"x_velocity": "fast", "x_position": None}


def policy(**parameters):
    sizes = {"n_neurons": 8, "population_size": 4, "n_generations": 2, "random_state": 0}
    return EvolvingConnectivityPolicy(**{**sizes, **parameters})


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_speed_and_distance_stand_beside_the_return(mode):
    environment = Walk if mode is None else SyncVectorEnv([Walk] * 3, autoreset_mode=mode)
    fitted = policy().fit(environment)
    record = fitted.history_[-1]
    assert record["deployed_length"] == record["deployed_return"] == 10
    assert record["deployed_x_velocity"] == pytest.approx(5 * np.mean(np.arange(1, 11)))
    assert record["deployed_x_position"] == pytest.approx(5)
    evaluation = fitted.evaluate(environment, n_episodes=3)
    np.testing.assert_allclose(evaluation.x_velocities, np.full((3, 1), 27.5))
    np.testing.assert_allclose(evaluation.x_positions, np.full((3, 1), 5.0))
    np.testing.assert_array_equal(evaluation.lengths, np.full((3, 1), 10))
    np.testing.assert_array_equal(evaluation.returns, fitted.episode_returns(environment, n_episodes=3))


@pytest.mark.parametrize("environment", [Match, Odd])
def test_environments_that_report_no_speed(environment):
    fitted = policy().fit(environment)
    assert fitted.history_[-1]["deployed_x_velocity"] is None
    assert np.isnan(fitted.evaluate(environment, n_episodes=3).x_positions).all()
    assert not stands_still(fitted.history_[-1])


def test_a_list_of_environments_reports_speed_where_all_do():
    fitted = policy().fit([Walk, Match])
    assert fitted.history_[-1]["deployed_x_velocity"] is None
    speeds = fitted.evaluate([Walk, Match], n_episodes=2).x_velocities
    np.testing.assert_allclose(speeds[:, 0], 27.5)
    assert np.isnan(speeds[:, 1]).all()


def test_gymnasium_tasks_report_their_speed():
    fitted = policy(max_episode_steps=20, eval_episodes=1).fit("HalfCheetah-v5")
    evaluation = fitted.evaluate("HalfCheetah-v5", n_episodes=2)
    environment = gym.make("HalfCheetah-v5")
    np.testing.assert_allclose(  # what the task counts as forward is what the positions say, up to where it starts
        evaluation.x_velocities * evaluation.lengths * environment.unwrapped.dt, evaluation.x_positions, atol=0.11
    )


def test_progress_names_the_plateau(capsys):
    policy().fit(lambda: Walk(0.0), callbacks=Progress())
    assert "deployed     10.00 at 0.00 m/s, standing still" in capsys.readouterr().out
    policy().fit(Walk, callbacks=Progress())
    out = capsys.readouterr().out
    assert "at 27.50 m/s" in out
    assert "standing" not in out


def test_standing_still_is_warned_of_once():
    with pytest.warns(
        UserWarning, match="stood still for 2 generations: 0.00 m/s, a return of 10 over 10 steps"
    ) as seen:
        fitted = policy(n_generations=5).fit(lambda: Walk(0.0), callbacks=StandingStill(2))
    assert len(seen) == 1
    assert fitted.n_generations_ == 5


def test_standing_still_can_end_a_fit():
    with pytest.warns(UserWarning, match="stood still"):
        fitted = policy(n_generations=5).fit(lambda: Walk(0.0), callbacks=StandingStill(2, stop=True))
    assert (fitted.n_generations_, fitted.stop_reason_) == (2, "callback")


def test_whoever_moves_is_not_warned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy().fit(Walk, callbacks=StandingStill(1))
        policy().fit(Match, callbacks=StandingStill(1))
    with pytest.raises(ValueError, match="generations must be at least 1"):
        StandingStill(0)
