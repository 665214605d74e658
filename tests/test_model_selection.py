"""scikit-learn's tools over environments as samples: searches, curves, and its rules for estimators."""

import copy
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    LeaveOneOut,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.utils import estimator_checks as theirs

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.callbacks import Chain, StopOnReturn
from ecpolicy.networks import GRU, RSNN, RealRSNN
from learnt import fingerprint
from probes import Lengths, Match, NotesItsProcess

TINY = {"network": RSNN(16), "population_size": 20, "n_generations": 2, "confirm_episodes": 4, "random_state": 0}
SETTINGS = [0.05, 0.1, 0.2, 0.4]


def policy(**changes):
    return EvolvingConnectivityPolicy(**{**TINY, **changes})


def outcomes(search):
    """All of cv_results_ that does not depend on the clock."""
    kept = {name: value for name, value in search.cv_results_.items() if "time" not in name}
    return {name: np.asarray(value).tolist() for name, value in kept.items()}


# Searches


def test_grid_search_finds_what_plain_loops_find():
    environments, cv = [Match, Lengths, Match], LeaveOneOut()
    search = GridSearchCV(policy(), {"learning_rate": SETTINGS}, cv=cv).fit(environments)
    means = []
    for learning_rate in SETTINGS:
        scores = []
        for train, test in cv.split(environments):
            fitted = policy(learning_rate=learning_rate).fit([environments[i] for i in train])
            scores.append(fitted.score([environments[i] for i in test]))
        means.append(np.mean(scores))
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], means)
    assert search.best_params_ == {"learning_rate": SETTINGS[int(np.argmax(means))]}
    assert fingerprint(search.best_estimator_) == fingerprint(policy(**search.best_params_).fit(environments))
    assert search.predict(np.ones(1, np.float32))[0] in (0, 1)
    assert search.score([Match]) == search.best_estimator_.score([Match])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_searches_do_not_depend_on_workers(n_jobs):
    """Two workers for the search, and for the fits as well, which then keep to the search's worker."""
    grid = {"learning_rate": SETTINGS[:2], "population_size": [10, 20]}
    expected = outcomes(GridSearchCV(policy(), grid, cv=2).fit([Match, Lengths]))
    parallel = outcomes(GridSearchCV(policy(n_jobs=n_jobs), grid, cv=2, n_jobs=2).fit([Match, Lengths]))
    parallel.pop("params"), expected.pop("params")
    assert parallel == expected


def test_randomized_search():
    space = {"learning_rate": loguniform(0.01, 1), "eps": [1e-3, 1e-2]}
    search = RandomizedSearchCV(policy(), space, n_iter=3, cv=[([0], [0])], random_state=0, n_jobs=2)
    assert len(search.fit([Match]).cv_results_["params"]) == 3
    assert search.best_estimator_.learning_rate == search.best_params_["learning_rate"]


def test_halving_search_spends_generations():
    seen = HalvingRandomSearchCV(
        policy(score_threshold=None), {"learning_rate": SETTINGS}, resource="n_generations", min_resources=1,
        max_resources=4, factor=2, n_candidates=4, cv=[([0], [0])], random_state=0,
    ).fit([Match])  # fmt: skip
    assert seen.n_resources_ == [1, 2, 4]
    assert seen.n_candidates_ == [4, 2, 1]
    assert seen.best_estimator_.n_generations_ == 4


@pytest.mark.parametrize("kind", [EvolvingConnectivityPolicy, ESPolicy])
def test_cross_validation(kind):
    made = kind(**{**TINY, "network": GRU(16)} if kind is ESPolicy else TINY)
    environments = [Match, Lengths, Match, Lengths]
    scores = cross_val_score(made, environments, cv=2)
    assert scores[0] == clone(made).fit(environments[2:]).score(environments[:2])
    result = cross_validate(made, environments, cv=2, n_jobs=2, return_train_score=True, return_estimator=True)
    np.testing.assert_array_equal(result["test_score"], scores)
    assert [fitted.n_generations_ for fitted in result["estimator"]] == [2, 2]


def test_learning_and_validation_curves():
    environments = [Match, Lengths, Match, Lengths]
    sizes, _, scores = learning_curve(policy(), environments, None, train_sizes=[1, 2], cv=2, n_jobs=2)
    assert sizes.tolist() == [1, 2]
    assert scores[0, 0] == policy().fit(environments[2:3]).score(environments[:2])
    _, scores = validation_curve(
        policy(), environments, None, param_name="learning_rate", param_range=SETTINGS[:2], cv=2
    )
    assert scores.shape == (2, 2)
    assert scores[1, 0] == policy(learning_rate=SETTINGS[1]).fit(environments[2:]).score(environments[:2])


def test_callbacks_in_a_search():
    """A list with as many callbacks as environments would be split between them; a chain is not."""
    stop = StopOnReturn(-1.0)
    for callbacks in (stop, Chain(stop, lambda view: False)):
        search = GridSearchCV(policy(), {"eps": [0.01, 0.02]}, cv=2).fit([Match, Lengths], callbacks=callbacks)
        assert search.best_estimator_.stop_reason_ == "callback StopOnReturn"


@pytest.mark.parametrize("outer", ["loky", "threading"])
def test_nested_workers_are_not_multiplied(outer, tmp_path):
    """Two outer workers with fits of two jobs each: episodes are played by the outer workers alone."""

    def fit(folder):
        fitted = policy(n_jobs=2).fit(lambda: NotesItsProcess(folder))
        return fingerprint(fitted)

    found = Parallel(n_jobs=2, backend=outer)(delayed(fit)(tmp_path) for _ in range(4))
    assert set(found) == {fingerprint(policy().fit(Match))}
    processes = {int(path.name) for path in tmp_path.iterdir()}
    assert len(processes) <= 2
    assert (os.getpid() in processes) == (outer == "threading")


def test_n_jobs_none_follows_parallel_config(tmp_path):
    with parallel_config(n_jobs=2):
        policy(population_size=64).fit(lambda: NotesItsProcess(tmp_path))
    assert os.getpid() not in {int(path.name) for path in tmp_path.iterdir()}


def test_the_example_of_optuna():
    script = Path(__file__).parent.parent / "examples" / "optuna_search.py"
    command = [sys.executable, str(script), "--trials", "3", "--generations", "2", "--population", "16"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "best learning_rate" in result.stdout


# scikit-learn's rules. Its own checks that need no table of numbers, and ours where theirs do.

ESTIMATORS = {
    "EC": (EvolvingConnectivityPolicy, TINY),
    "ES": (ESPolicy, {**TINY, "network": GRU(16)}),
    "SG-PPO": (
        SurrogateGradientPPOPolicy,
        {"network": RealRSNN(8, step_ms=2.0), "n_envs": 4, "n_steps": 8, "max_env_steps": 64, "random_state": 0},
    ),
}


def fits_and_returns_itself(made):
    assert made.fit([Match]) is made
    assert made.fit([Match], None) is made


def fitting_keeps_parameters(made):
    before = copy.deepcopy(made.get_params())
    assert clone(made.fit([Match])).get_params() == before == made.get_params()


def fitted_attributes_end_in_an_underscore(made):
    new = set(vars(made.fit([Match]))) - set(made.get_params())
    assert all(name.endswith("_") or name.startswith("_") for name in new)
    assert {"n_features_in_", "history_", "observation_space_", "action_space_"} <= new


def init_only_assigns(made):
    source = inspect.getsource(type(made).__init__)
    body = source[source.index("-> None:") + 8 :].split()
    assert body == " ".join(f"self.{name} = {name}" for name in inspect.signature(type(made)).parameters).split()


def parameters_are_keyword_only_with_defaults(made):
    for parameter in inspect.signature(type(made)).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


def unfitted_raises_not_fitted(made):
    for call in (lambda: made.predict(np.ones(1)), lambda: made.score([Match]), lambda: made.save("nowhere")):
        with pytest.raises(NotFittedError):
            call()


def a_clone_is_unfitted_and_fits_alike(made):
    other = clone(made.fit([Match]))
    unfitted_raises_not_fitted(other)
    assert fingerprint(other.fit([Match])) == fingerprint(made)


def refitting_forgets(made):
    twice = clone(made).fit([Lengths]).fit([Match])
    assert fingerprint(twice) == fingerprint(made.fit([Match]))
    assert len(twice.history_) == len(made.history_)


def warm_start_goes_on(made):
    made.set_params(warm_start=True).fit([Match])
    before = len(made.history_)
    name = "n_generations" if "n_generations" in made.get_params() else "max_env_steps"
    made.set_params(**{name: 2 * getattr(made, name)}).fit([Match])
    assert len(made.history_) == 2 * before


def partial_fit_is_one_step_more(made):
    for count in (1, 2, 3):
        assert made.partial_fit([Match]) is made
        assert len(made.history_) == count


def invalid_parameters_are_refused_by_fit_alone(made):
    made.set_params(network__n_neurons=-1)
    with pytest.raises(ValueError, match="n_neurons"):
        made.fit([Match])
    with pytest.raises(ValueError, match="Invalid parameter"):
        made.set_params(nonsense=1)


def fitting_leaves_the_data_alone(made):
    environments = [Match, Match]
    made.fit(environments)
    assert environments == [Match, Match]


def pickling_keeps_what_was_learnt(made):
    again = pickle.loads(pickle.dumps(made.fit([Match])))
    assert fingerprint(again) == fingerprint(made)
    assert again.predict(np.ones(1))[0] == made.predict(np.ones(1))[0]


def predictions_do_not_depend_on_the_batch(made):
    made.fit([Match])
    observations = np.linspace(-1, 1, 9, dtype=np.float32)[:, None]
    batch, _ = made.predict(observations)
    assert batch.tolist() == [made.predict(row)[0] for row in observations]


def predicting_changes_nothing(made):
    before = fingerprint(made.fit([Match]))
    observation = np.ones((3, 1), np.float32)
    kept = observation.copy()
    made.predict(observation)
    made.score([Match])
    assert fingerprint(made) == before
    np.testing.assert_array_equal(observation, kept)


def global_random_states_are_left_alone(made):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    made.fit([Match])
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def tags_say_what_is_taken(made):
    tags = made.__sklearn_tags__()
    assert not tags.target_tags.required
    assert not tags.input_tags.two_d_array
    assert tags.no_validation
    assert not tags.non_deterministic
    assert made.set_params(random_state=None).__sklearn_tags__().non_deterministic


def labels_are_ignored(made):
    assert fingerprint(made.fit([Match], [1])) == fingerprint(clone(made).fit([Match]))


OURS = [
    fits_and_returns_itself, fitting_keeps_parameters, fitted_attributes_end_in_an_underscore, init_only_assigns,
    parameters_are_keyword_only_with_defaults, unfitted_raises_not_fitted, a_clone_is_unfitted_and_fits_alike,
    refitting_forgets, warm_start_goes_on, partial_fit_is_one_step_more, invalid_parameters_are_refused_by_fit_alone,
    fitting_leaves_the_data_alone, pickling_keeps_what_was_learnt, predictions_do_not_depend_on_the_batch,
    predicting_changes_nothing, global_random_states_are_left_alone, tags_say_what_is_taken, labels_are_ignored,
]  # fmt: skip
THEIRS = [
    theirs.check_estimator_cloneable, theirs.check_estimator_repr, theirs.check_estimator_tags_renamed,
    theirs.check_valid_tag_types, theirs.check_no_attributes_set_in_init, theirs.check_get_params_invariance,
    theirs.check_set_params, theirs.check_mixin_order,
    theirs.check_parameters_default_constructible,
]  # fmt: skip
RAN = []


@pytest.mark.parametrize("check", [*OURS, *THEIRS], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_rules_of_scikit_learn(name, check):
    kind, parameters = ESTIMATORS[name]
    made = kind(**parameters)
    if check in OURS:
        check(made)
    else:
        check(name, made)
    RAN.append((name, check.__name__))


def test_all_of_the_rules_were_checked(request):
    """Unless tests were selected by hand: 27 checks of each of three estimators."""
    selected = [item for item in request.session.items if "test_rules_of_scikit_learn" in item.name]
    assert len(set(RAN)) == len(selected)
    if not request.config.option.keyword and not any("::" in argument for argument in request.config.args):
        assert len(RAN) == 3 * 27
