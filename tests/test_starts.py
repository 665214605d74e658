"""Several starts of a search: the best goes on, generations count on, and a stop in between changes nothing."""

import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy, load
from ecpolicy.callbacks import Checkpoint

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


def at_the_start(probabilities):
    return all((p == np.float32(0.5)).all() for p in probabilities.values())


@pytest.fixture(scope="module")
def run():
    return fitted()


def test_the_start_with_the_best_population_goes_on(run):
    policy, probabilities = run  # two generations of 16 members and 20 steps are a start
    returns = [record["return_mean"] for record in policy.history_]
    assert [index for index, p in enumerate(probabilities) if at_the_start(p)] == [1, 3]
    ends = [1, 3, 5]  # last generations of the starts
    best = ends[int(np.argmax([returns[end] for end in ends]))]
    single, trace = fitted(n_starts=1, n_generations=2)
    assert single.history_[-1]["return_mean"] == returns[1]
    if best == 1:  # the state of that end is not seen, as another start begins with it; a single start has it
        wanted = trace[1]
        for name, p in probabilities[5].items():
            np.testing.assert_array_equal(p, wanted[name])
    assert policy._training.starts.ended == 3
    assert policy._training.starts.best is None
    assert policy._training.search.optimizer.updates == 2 + (12 - 6)
    assert [record["generation"] for record in policy.history_] == list(range(1, 13))


@pytest.mark.parametrize("random_state", range(6))
def test_whichever_start_is_the_best(random_state):
    policy, probabilities = fitted(random_state=random_state, n_generations=7)
    returns = [policy.history_[end]["return_mean"] for end in (1, 3, 5)]
    first, _ = fitted(random_state=random_state, n_starts=1, n_generations=2)
    alike = all((first.search_probabilities_[name] == p).all() for name, p in probabilities[5].items())
    assert alike == (np.argmax(returns) == 0)


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
