"""Speed and distance beside the return, and the name of the plateau."""

import warnings
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Progress, StandingStill
from ecpolicy.callbacks.symptoms import stands_still
from ecpolicy.networks import RSNN
from probes import Match


class Walk(gym.Env):
    """Moves by ``speed`` metres a step of a tenth of a second, and ends after ``length`` steps."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, speed=0.5, length=10):
        self._speed, self._length = speed, length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(1, np.float32), {"x_position": 0.0}

    def step(self, action):
        self._steps += 1
        info = {"x_velocity": self._speed * self._steps * 10, "x_position": self._speed * self._steps}
        return np.zeros(1, np.float32), 1.0, self._steps == self._length, False, info


def odd(**info):
    """A class of environments with this in ``info``."""

    class Odd(Walk):
        def step(self, action):
            return *super().step(action)[:4], info

    return Odd


class Stand(Walk):
    """Stays where it is for 120 steps."""

    def __init__(self):
        super().__init__(0.0, 120)


def policy(**parameters):
    sizes = {"network": RSNN(8), "population_size": 4, "n_generations": 2, "random_state": 0}
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


ODD = [
    odd(x_velocity="fast", x_position=None),
    odd(x_velocity=np.zeros(2), x_position=np.zeros(2)),
    odd(x_velocity=np.inf, x_position=1.0),
    odd(x_velocity=1.0),
]


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("environment", [Match, *ODD])
def test_environments_that_report_no_speed(environment, vectorized, tmp_path):
    fitted = policy().fit(SyncVectorEnv([environment] * 2) if vectorized else environment)
    assert fitted.history_[-1]["deployed_x_velocity"] is None
    assert not stands_still(fitted.history_[-1])
    fitted.save(tmp_path / "p.ecp")
    assert np.isfinite(fitted.evaluate(environment, n_episodes=3).returns).all()


def test_numbers_of_any_kind_are_speeds():
    fitted = policy().fit(odd(x_velocity=np.float32(2), x_position=3))
    assert (fitted.history_[-1]["deployed_x_velocity"], fitted.history_[-1]["deployed_x_position"]) == (2.0, 3.0)


def test_a_vector_environment_in_which_not_all_report_their_speed():
    fitted = policy(eval_episodes=2).fit(SyncVectorEnv([Walk, odd()]))
    assert fitted.history_[-1]["deployed_x_velocity"] is None


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
    policy().fit(Stand, callbacks=Progress())
    assert "deployed    120.00 at 0.00 m/s, standing still" in capsys.readouterr().out
    policy().fit(Walk, callbacks=Progress())
    out = capsys.readouterr().out
    assert "at 27.50 m/s" in out
    assert "standing" not in out


def test_standing_still_is_warned_of_once():
    with pytest.warns(
        UserWarning, match="stood still for 2 generations: 0.00 m/s, a return of 120 over 120 steps"
    ) as seen:
        fitted = policy(n_generations=4).fit(Stand, callbacks=StandingStill(2))
    assert len(seen) == 1
    assert fitted.n_generations_ == 4


def test_standing_still_can_end_a_fit():
    with pytest.warns(UserWarning, match="stood still"):
        fitted = policy(n_generations=5).fit(Stand, callbacks=StandingStill(2, stop=True))
    assert (fitted.n_generations_, fitted.stop_reason_) == (2, "callback StandingStill")


def test_standing_still_is_counted_across_a_resumed_fit():
    still = policy(n_generations=2, warm_start=True).fit(Stand)
    with pytest.warns(UserWarning, match="still for 3 generations"):
        still.set_params(n_generations=5).fit(Stand, callbacks=StandingStill(3, stop=True))
    assert still.n_generations_ == 3
    with pytest.warns(UserWarning, match="still for 4 generations"):
        still.fit(Stand, callbacks=StandingStill(3, stop=True))
    assert still.n_generations_ == 4


def test_generations_without_a_measurement_do_not_count():
    callback, view = StandingStill(2), SimpleNamespace(history_=[], continues=False)
    callback.begin(view)
    still = {"deployed_x_velocity": 0.0, "deployed_return": 1.0, "deployed_length": 500.0}
    for record in (still, {**still, "deployed_x_velocity": None}):
        view.history_.append(record)
        assert not callback(view)
    view.history_.append(still)
    with pytest.warns(UserWarning, match="still for 2 generations"):
        callback(view)


def test_whoever_moves_or_falls_is_not_warned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy().fit(lambda: Walk(0.0, length=99), callbacks=StandingStill(1))
        policy().fit(Walk, callbacks=StandingStill(1))
        policy().fit(Match, callbacks=StandingStill(1))
    with pytest.raises(ValueError, match="generations must be at least 1"):
        StandingStill(0)
