"""Bad input: what was given, what is wanted."""

import gymnasium as gym
import numpy as np
import pandas
import pytest
from sklearn.exceptions import NotFittedError

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.inspection import LearningCurveDisplay
from probes import Match, Spaces

BAD_PARAMETERS = [
    ("network__n_neurons", 0, ValueError, r"n_neurons must be an integer in \[1, inf\); got 0"),
    ("network__n_neurons", 2.5, TypeError, "n_neurons must be an integer"),
    ("network__n_neurons", True, TypeError, "n_neurons must be an integer"),
    ("network__excitatory_ratio", 1.2, ValueError, r"excitatory_ratio must be a number in \[0, 1\]; got 1.2"),
    ("network__excitatory_ratio", "half", TypeError, "got 'half'"),
    ("network__dt", 0, ValueError, r"dt must be a number in \(0, inf\)"),
    ("network__dt", 100, ValueError, "dt must give 1 to 100,000 substeps"),
    ("network__tau_m", -1, ValueError, "tau_m"),
    ("network__gain_in", float("nan"), ValueError, "gain_in"),
    ("network__density", 0, ValueError, "density"),
    ("eps", 0.7, ValueError, r"eps must be a number in \[0, 0.5\]"),
    ("eps", [(0, 0.01), (100, 0.7)], ValueError, r"eps from step 100 must be a number in \[0, 0.5\]"),
    ("learning_rate", 0, ValueError, "learning_rate"),
    ("learning_rate", "fast", TypeError, "learning_rate must be a number, or pairs"),
    ("learning_rate", [], ValueError, "start at 0"),
    ("learning_rate", [(0, 0.3), (100, 0)], ValueError, r"learning_rate from step 100 must be a number in \(0, inf\)"),
    ("learning_rate", [(0, True)], TypeError, "learning_rate from step 0 must be a number"),
    ("optimizer", "adamw", ValueError, r"optimizer must be one of \['adam', 'sgd'\]; got 'adamw'"),
    ("population_size", 1, ValueError, r"population_size must be an integer in \[2"),
    ("n_generations", 0, ValueError, "n_generations"),
    ("episodes_per_member", 0, ValueError, "episodes_per_member"),
    ("max_episode_steps", 0, ValueError, "max_episode_steps"),
    ("max_episode_steps", "long", TypeError, "max_episode_steps must be a number, or pairs"),
    ("max_episode_steps", [(5, 100)], ValueError, "start at 0"),
    ("max_episode_steps", [(0, 100), (0, 200)], ValueError, "rising"),
    ("max_episode_steps", [100, 200], TypeError, "pairs"),
    ("max_env_steps", -3, ValueError, "max_env_steps"),
    ("score_threshold", "high", ValueError, "score_threshold must be \"auto\", a number or None; got 'high'"),
    ("eval_episodes", 0, ValueError, "eval_episodes"),
    ("confirm_episodes", 0, ValueError, "confirm_episodes"),
    ("random_state", -1, ValueError, "random_state"),
    ("random_state", "zero", TypeError, "random_state"),
    ("random_state", 2**64, ValueError, "random_state"),
    ("verbose", -1, ValueError, "verbose"),
    ("verbose", "yes", TypeError, "verbose must be an integer"),
    ("keep_best", "no", TypeError, "keep_best must be True or False; got 'no'"),
    ("warm_start", 1, TypeError, "warm_start must be True or False"),
    ("n_jobs", 0, ValueError, "n_jobs must be None or a number of workers"),
    ("n_jobs", "two", TypeError, "n_jobs must be an integer"),
    ("network__tau_m", np.inf, ValueError, "tau_m"),
    ("score_threshold", np.inf, ValueError, "score_threshold"),
    *(
        pytest.param(name, 10**400, ValueError, name, id=f"{name}, huge")
        for name in ("score_threshold", "max_episode_steps", "learning_rate", "timeout")
    ),
]


@pytest.mark.parametrize(("name", "value", "kind", "message"), BAD_PARAMETERS)
def test_parameters_are_checked_by_fit(small, name, value, kind, message):
    policy = EvolvingConnectivityPolicy(**small).set_params(**{name: value})
    with pytest.raises(kind, match=message):
        policy.fit(Match)
    assert not hasattr(policy, "connectivity_")


@pytest.mark.parametrize(
    ("environment", "kind", "message"),
    [
        ("NoSuchTask-v0", ValueError, "Gymnasium could not make 'NoSuchTask-v0'"),
        (42, TypeError, "Got an environment of type int; wanted an environment id"),
        (None, TypeError, "Got an environment of type NoneType"),
        ([], ValueError, "empty list"),
        (list("CartPole-v1"), ValueError, "'CartPole-v1' split up"),
        (pandas.DataFrame({"x": [1.0]}), TypeError, "Got an environment of type list"),
        (np.array(list("CartPole-v1")), ValueError, "'CartPole-v1' split up"),
        (lambda: 3, TypeError, "made a int; wanted a gymnasium.Env"),
        ([Match, "CartPole-v1"], ValueError, "must share its spaces, but the observation_space"),
        (lambda: Spaces(gym.spaces.Sequence(gym.spaces.Discrete(2)), gym.spaces.Discrete(2)), ValueError, "flatten"),
        (lambda: Spaces(gym.spaces.Discrete(2), gym.spaces.Text(3)), ValueError, "action space Text"),
    ],
)
def test_environments_are_checked_by_fit(small, environment, kind, message):
    with pytest.raises(kind, match=message):
        EvolvingConnectivityPolicy(**small).fit(environment)


def test_what_counts_as_an_environment(small):
    """An id, a spec, a class, an instance, a vector environment, and lists of them give a fitted policy."""
    policy = EvolvingConnectivityPolicy(**{**small, "n_generations": 1, "population_size": 4, "max_episode_steps": 3})
    vectorized = gym.make_vec("CartPole-v1", 2)
    for environment in (
        "CartPole-v1",
        gym.spec("CartPole-v1"),
        gym.make("CartPole-v1"),
        lambda: gym.make("CartPole-v1"),
        vectorized,
        ["CartPole-v1", gym.make("CartPole-v1")],
        ("CartPole-v1",),
        np.array(["CartPole-v1"]),
    ):
        assert policy.fit(environment).n_features_in_ == 4
    vectorized.close()


def test_unfitted():
    policy = EvolvingConnectivityPolicy()
    for call in (
        lambda: policy.predict(np.ones(1)),
        lambda: policy.score(Match),
        lambda: policy.episode_returns(Match),
        lambda: LearningCurveDisplay.from_policy_run(policy),
    ):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call()


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.ones(2), r"of shape \(2,\); wanted shape \(1,\), or \(n, "),
        (np.ones((2, 2)), r"of shape \(2, 2\)"),
        (np.ones((0, 1)), r"of shape \(0, 1\)"),
        (np.array([np.nan]), "holds NaN"),
        (np.array([[0.0], [np.inf]]), "holds NaN or infinite"),
        ("left", "of type str"),
    ],
)
def test_bad_observations(fitted, observation, message):
    with pytest.raises(ValueError, match=message):
        fitted.predict(observation)


def test_states_of_another_batch_size(fitted):
    _, state = fitted.predict(np.ones((3, 1)))
    with pytest.raises(ValueError, match="state is of 3 environments, the observation of 2"):
        fitted.predict(np.ones((2, 1)), state)
    with pytest.raises(ValueError, match="episode_start has 3 entries for 2 observations"):
        fitted.predict(np.ones((2, 1)), episode_start=np.ones(3, bool))


def test_environments_of_other_spaces(fitted):
    with pytest.raises(ValueError, match="trained for the observation_space"):
        fitted.score("CartPole-v1")
    with pytest.raises(ValueError, match="n_episodes must be"):
        fitted.score(Match, n_episodes=0)
    with pytest.raises(ValueError, match="seed must be"):
        fitted.score(Match, seed=-1)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("backend", "foo", ValueError),
        ("timeout", "x", TypeError),
        ("n_jobs", 0, ValueError),
        ("chunk_size", 0, ValueError),
    ],
)
def test_parameters_are_checked_by_score(small, name, value, kind):
    policy = EvolvingConnectivityPolicy(**{**small, "n_generations": 1}).fit(Match)
    with pytest.raises(kind, match=f"{name} must be"):
        policy.set_params(**{name: value}).score(Match)


def test_warm_starts_that_do_not_fit(small):
    policy = EvolvingConnectivityPolicy(**small, warm_start=True).fit(Match)
    with pytest.raises(ValueError, match="Training so far was for the observation_space"):
        policy.fit("CartPole-v1")
    with pytest.raises(ValueError, match="Training so far was of matrices"):
        policy.set_params(network__n_neurons=16).fit(Match)
    with pytest.raises(ValueError, match="used optimizer 'adam'"):
        policy.set_params(network__n_neurons=32, optimizer="sgd").fit(Match)
    assert policy.score(Match) >= 0
