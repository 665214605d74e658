"""Several starts of a search: the best goes on, generations count on, and a stop in between changes nothing."""

import itertools

import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy, load
from ecpolicy.callbacks import Checkpoint
from ecpolicy.fitting import evolution_learner as training
from ecpolicy.fitting import starts as starts_module

pytestmark = pytest.mark.filterwarnings("ignore:n_generations=. ended the fit before")

SMALL = {
    "n_generations": 12, "population_size": 16, "max_episode_steps": 20, "n_neurons": 16, "learning_rate": 0.3,
    "eval_episodes": 1, "confirm_episodes": 1, "n_starts": 3, "start_env_steps": 640, "random_state": 0,
}  # fmt: skip


class Trace:
    """A callback that keeps the probabilities of the search after every generation."""

    def __init__(self):
        self.probabilities = []

    def __call__(self, view):
        self.probabilities.append({name: np.array(p) for name, p in view.search_probabilities_.items()})


def fitted(**parameters):
    trace = Trace()
    policy = EvolvingConnectivityPolicy(**{**SMALL, **parameters}).fit("Pendulum-v1", callbacks=trace)
    return policy, trace.probabilities


@pytest.fixture(scope="module")
def run():
    return fitted()


@pytest.fixture
def ends(monkeypatch):
    """What every start has come to, and what follows it."""
    seen = []

    def end_start(starts, search, *further):
        following = starts_module.end_start(starts, search, *further)
        seen.append((starts.last, search, *following))
        return following

    monkeypatch.setattr(training, "end_start", end_start)
    return seen


@pytest.mark.parametrize("random_state", range(8))
def test_the_start_with_the_best_population_goes_on(ends, random_state):
    policy, probabilities = fitted(random_state=random_state, n_generations=8)
    returns = [record["return_mean"] for record in policy.history_]
    assert [last for last, *_ in ends] == [returns[1], returns[3], returns[5]]  # a start is 2 x 16 members x 20 steps
    best = int(np.argmax([last for last, *_ in ends]))
    chosen = ends[2][3]
    for name, p in ends[best][1].parameters.items():
        np.testing.assert_array_equal(chosen.parameters[name], p)
        np.testing.assert_array_equal(chosen.optimizer.first[name], ends[best][1].optimizer.first[name])
    for start in (0, 1):  # fresh ones follow
        assert all((p == np.float32(0.5)).all() for p in ends[start][3].parameters.values())
        assert ends[start][3].optimizer.updates == 0
    assert policy._training.search.optimizer.updates == 2 + 2
    assert policy._training.starts[:2] == (3, 960 * 2)
    assert policy._training.starts.best is None
    assert [record["generation"] for record in policy.history_] == list(range(1, 9))
    assert not any((p == np.float32(0.5)).all() for generation in probabilities for p in generation.values())


def test_every_start_wins_somewhere(ends):
    """The seeds above tell the starts apart."""
    winners = set()
    for random_state in range(8):
        ends.clear()
        fitted(random_state=random_state, n_generations=7)
        winners.add(int(np.argmax([last for last, *_ in ends])))
    assert winners == {0, 1, 2}


def test_without_the_best_a_played_network_is_deployed():
    for generations in (2, 4, 6):
        policy, probabilities = fitted(keep_best=False, n_generations=generations)
        for name, p in policy.connection_probabilities_.items():
            np.testing.assert_array_equal(p, probabilities[-1][name])
        assert policy.connectivity_["recurrent"].any()


def test_the_schedule_of_horizons_begins_with_every_start():
    policy, _ = fitted(max_episode_steps=[(0, 20), (400, 25)], n_generations=8, start_env_steps=700)
    lengths = [record["episode_length"] for record in policy.history_]
    assert lengths == [20, 20, 25, 20, 20, 25, 20, 20]


def test_the_schedule_of_learning_rates_begins_with_every_start():
    _, probabilities = fitted(learning_rate=[(0, 0.3), (400, 1e-6)], n_generations=8, start_env_steps=700)
    moved = [
        float(np.abs(after["recurrent"] - before["recurrent"]).max())
        for before, after in itertools.pairwise(probabilities)
    ]
    small = [step < 1e-5 for step in moved]  # of generations 2 to 8; the starts are 1 to 3, 4 to 6, and 7 on
    assert small == [False, True, False, False, True, False, False]


def test_a_fit_that_ends_among_the_starts_warns():
    with pytest.warns(UserWarning, match="none is chosen") as warned:
        fitted(max_env_steps=1500)
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match="n_generations=2 ended the fit before 2 starts") as warned:
        fitted(n_generations=2, n_starts=2)
    assert warned[0].filename == __file__


def test_a_finished_search_is_the_first_of_several_starts():
    policy, _ = fitted(n_starts=1, n_generations=3)
    policy.set_params(n_starts=2, warm_start=True, n_generations=6).fit("Pendulum-v1")
    assert policy._training.starts.ended == 2
    assert [record["generation"] for record in policy.history_] == list(range(1, 7))
    assert policy._training.search.optimizer.updates in (1 + 3, 1 + 2)


def test_fewer_starts_than_there_were_still_end_in_a_choice():
    policy, _ = fitted(n_generations=5)
    assert policy._training.starts.best is not None
    policy.set_params(n_starts=2, warm_start=True, n_generations=8).fit("Pendulum-v1")
    assert policy._training.starts.best is None


def test_one_start_is_what_it_was_before():
    one, _ = fitted(n_starts=1, n_generations=4)
    late, _ = fitted(n_starts=3, start_env_steps=10**6, n_generations=4)
    for name, p in one.search_probabilities_.items():
        np.testing.assert_array_equal(p, late.search_probabilities_[name])


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 6, 7])
def test_a_stop_between_starts_changes_nothing(run, stop, tmp_path):
    policy, _ = run
    checkpoint = Checkpoint(tmp_path / "s.ecp", every=1)
    EvolvingConnectivityPolicy(**{**SMALL, "n_generations": stop}).fit("Pendulum-v1", callbacks=checkpoint)
    resumed = EvolvingConnectivityPolicy(**SMALL).fit("Pendulum-v1", resume_from=checkpoint)
    for name, p in policy.search_probabilities_.items():
        np.testing.assert_array_equal(p, resumed.search_probabilities_[name])
    assert [r["return_mean"] for r in resumed.history_] == [r["return_mean"] for r in policy.history_]
    assert load(tmp_path / "s.ecp").n_generations_ == stop


@pytest.mark.parametrize(("name", "value"), [("n_starts", 0), ("start_env_steps", 0), ("n_starts", 1.5)])
def test_wrong_numbers_are_named(name, value):
    with pytest.raises((ValueError, TypeError), match=f"{name} must be an integer"):
        fitted(**{name: value})
