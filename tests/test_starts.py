"""Several starts of a search: the best goes on, generations count on, and a stop in between changes nothing.

That results are those of the parameters ``n_starts`` and ``start_env_steps`` of earlier versions, the golden set says.
"""

import itertools

import numpy as np
import pytest

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy, best_start, load
from ecpolicy.callbacks import Checkpoint
from ecpolicy.networks import RSNN, RealRSNN
from learnt import learnt

pytestmark = pytest.mark.filterwarnings("ignore:n_generations=. ended the fit before")

SMALL = {
    "n_generations": 12, "population_size": 16, "max_episode_steps": 20, "network": RSNN(16), "learning_rate": 0.3,
    "eval_episodes": 1, "confirm_episodes": 1, "random_state": 0,
}  # fmt: skip


class Trace:
    """A callback that keeps the probabilities of the search after every generation."""

    def __init__(self):
        self.probabilities = []

    def __call__(self, view):
        self.probabilities.append({name: np.array(p) for name, p in view.search_probabilities_.items()})


def fitted(n_starts=3, env_steps=640, **parameters):
    """A policy fitted with starts of 2 x 16 members x 20 steps, and the probabilities after every generation."""
    trace, policy = Trace(), EvolvingConnectivityPolicy(**{**SMALL, **parameters})
    return best_start(
        policy, "Pendulum-v1", n_starts=n_starts, env_steps=env_steps, callbacks=trace
    ), trace.probabilities


def same(one, other):
    return all(np.array_equal(p, other[name]) for name, p in one.items())


@pytest.fixture(scope="module")
def run():
    return fitted()


STANDS = [(0, 0.3), (1500, 1e-12)]  # the search does not move after the choice


def winner(random_state):
    """The start that went on: the one whose last probabilities those after the choice are."""
    policy, probabilities = fitted(random_state=random_state, n_generations=7, learning_rate=STANDS)
    assert [record["generation"] for record in policy.history_] == list(range(1, 8))
    ends = [policy.history_[generation]["return_mean"] for generation in (1, 3, 5)]
    best = int(np.argmax(ends))
    for start in range(3):
        assert same(probabilities[6], probabilities[2 * start + 1]) == (start == best)
    return best


def test_the_start_with_the_best_population_goes_on():
    assert {winner(random_state) for random_state in range(8)} == {0, 1, 2}


def test_starts_are_compared_over_the_last_quarter_of_their_steps():
    """Of ten populations of each start the last three; the last alone would choose otherwise."""
    settings = {"n_generations": 21, "env_steps": 3200, "n_starts": 2, "learning_rate": [(0, 0.3), (6400, 1e-12)]}
    chosen, by_last = [], []
    for random_state in range(4):
        policy, probabilities = fitted(random_state=random_state, **settings)
        returns = np.array([record["return_mean"] for record in policy.history_[:20]]).reshape(2, 10)
        chosen.append(int(same(probabilities[20], probabilities[19])))
        assert chosen[-1] == np.argmax(returns[:, 7:].mean(axis=1))
        by_last.append(int(np.argmax(returns[:, -1])))
    assert chosen != by_last


def test_starts_begin_afresh(run):
    _, probabilities = run
    for first in (0, 2, 4):  # a first step of Adam is as large as the learning rate
        steps = np.unique(np.abs(probabilities[first]["recurrent"] - np.float32(0.5)).round(4))
        assert set(steps.tolist()) <= {0.0, np.float32(0.3).round(4)}
    assert not same(probabilities[0], probabilities[2])


def test_the_parameters_stay_as_they_were(run):
    policy, _ = run
    assert policy.get_params() == EvolvingConnectivityPolicy(**SMALL).get_params()
    assert policy.n_generations_ == 12


def test_without_the_best_a_played_network_is_deployed():
    for generations in (2, 4, 6):
        policy, probabilities = fitted(keep_best=False, n_generations=generations)
        assert same(policy.connection_probabilities_, probabilities[-1])
        assert policy.connectivity_["recurrent"].any()


def test_the_schedule_of_horizons_begins_with_every_start():
    policy, _ = fitted(max_episode_steps=[(0, 20), (400, 25)], n_generations=8, env_steps=700)
    lengths = [record["episode_length"] for record in policy.history_]
    assert lengths == [20, 20, 25, 20, 20, 25, 20, 20]


def test_the_schedule_of_learning_rates_begins_with_every_start():
    _, probabilities = fitted(learning_rate=[(0, 0.3), (400, 1e-6)], n_generations=8, env_steps=700)
    moved = [
        float(np.abs(after["recurrent"] - before["recurrent"]).max())
        for before, after in itertools.pairwise(probabilities)
    ]
    small = [step < 1e-5 for step in moved]  # of generations 2 to 8; the starts are 1 to 3, 4 to 6, and 7 on
    assert small == [False, True, False, False, True, False, False]


def test_one_start_is_a_fit(run):
    one, _ = fitted(n_starts=1, n_generations=4)
    plain = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 4}).fit("Pendulum-v1")
    late, _ = fitted(env_steps=10**6, n_generations=4)
    assert same(plain.search_probabilities_, one.search_probabilities_)
    assert same(plain.search_probabilities_, late.search_probabilities_)


def test_evolution_strategies_start_from_other_weights(tmp_path):
    settings = {name: value for name, value in SMALL.items() if name != "learning_rate"}
    checkpoint = Checkpoint(tmp_path / "p.ecp", keep=5)
    policy = ESPolicy(
        **{**settings, "n_generations": 3, "learning_rate": 1e-9, "weight_decay": 0.0, "network": RealRSNN(16)}
    )
    best_start(policy, "Pendulum-v1", n_starts=2, env_steps=640, callbacks=checkpoint)
    third, second, first = (learnt(load(path))["search/parameters/recurrent"] for path in checkpoint.files())
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert np.abs(third - second).max() > 0.1


def test_a_fit_that_ends_among_the_starts_warns():
    policy = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": 2})
    with pytest.warns(UserWarning, match="n_generations=2 ended the fit before 2 starts") as warned:
        best_start(policy, "Pendulum-v1", n_starts=2, env_steps=640)
    assert warned[0].filename == __file__
    assert policy.n_generations_ == 2
    with pytest.warns(UserWarning, match="max_env_steps=1500 ends the fit before 3 starts of 640 steps") as warned:
        policy, probabilities = fitted(max_env_steps=1500)
    assert warned[0].filename == __file__
    assert (policy.n_env_steps_, policy.stop_reason_) == (1600, "max_env_steps")
    assert same(policy.search_probabilities_, probabilities[-1])


def test_what_was_learnt_before_an_error_stays():
    def breaks(view):
        if view.n_generations_ == 3:
            raise RuntimeError("mine")

    policy = EvolvingConnectivityPolicy(**SMALL)
    with pytest.raises(RuntimeError, match="mine"):
        best_start(policy, "Pendulum-v1", n_starts=2, env_steps=640, callbacks=breaks)
    assert policy.n_generations_ == 3
    assert policy.stop_reason_ == "error"
    assert policy.max_env_steps is None


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 6, 7])
def test_a_stop_between_starts_changes_nothing(run, stop, tmp_path):
    policy, _ = run
    checkpoint = Checkpoint(tmp_path / "s.ecp", every=3)
    half = EvolvingConnectivityPolicy(**{**SMALL, "n_generations": stop})
    best_start(half, "Pendulum-v1", n_starts=3, env_steps=640, callbacks=[checkpoint])
    assert load(tmp_path / "s.ecp").n_generations_ == stop
    assert load(tmp_path / "s.ecp").warm_start is False
    resumed = best_start(
        EvolvingConnectivityPolicy(**SMALL), "Pendulum-v1", n_starts=3, env_steps=640, callbacks=[checkpoint],
        resume_from=checkpoint,
    )  # fmt: skip
    assert same(policy.search_probabilities_, resumed.search_probabilities_)
    assert [r["return_mean"] for r in resumed.history_] == [r["return_mean"] for r in policy.history_]
    assert [path.name for path in tmp_path.iterdir()] == ["s.ecp"]


def test_the_best_start_must_be_beside_what_is_resumed(tmp_path):
    """Random state 2, whose first start is the best one."""
    assert winner(2) == 0
    starts = {"n_starts": 3, "env_steps": 640, "callbacks": Checkpoint(tmp_path / "s.ecp")}
    settings = {**SMALL, "random_state": 2}
    best_start(EvolvingConnectivityPolicy(**{**settings, "n_generations": 3}), "Pendulum-v1", **starts)
    (tmp_path / "s.start.ecp").rename(tmp_path / "moved.ecp")
    with pytest.raises(FileNotFoundError, match=r"s\.start\.ecp"):
        best_start(EvolvingConnectivityPolicy(**settings), "Pendulum-v1", **starts, resume_from=tmp_path / "s.ecp")


@pytest.mark.parametrize(("name", "value"), [("n_starts", 0), ("env_steps", 0), ("n_starts", 1.5)])
def test_wrong_numbers_are_named(name, value):
    with pytest.raises((ValueError, TypeError), match=f"{name} must be an integer"):
        fitted(**{name: value})


def test_policies_without_a_search_are_refused():
    with pytest.raises(TypeError, match="best_start fits policies that evolve; got a SurrogateGradientPPOPolicy"):
        best_start(SurrogateGradientPPOPolicy(), "CartPole-v1")


@pytest.mark.parametrize("kind", [EvolvingConnectivityPolicy, ESPolicy])
def test_the_parameters_of_old_are_answered_by_the_new_spelling(kind):
    new = r"ecpolicy\.best_start\(policy, environments, n_starts=3, env_steps=640\)"
    with pytest.raises(TypeError, match=new):
        kind(n_starts=3, start_env_steps=640)
    with pytest.raises(ValueError, match=new):
        kind().set_params(n_starts=3, start_env_steps=640)
    with pytest.raises(TypeError, match="unexpected keyword argument 'n_stars'"):
        kind(n_stars=3)
