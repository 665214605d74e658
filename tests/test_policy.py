"""The estimator as its users meet it: scikit-learn's rules, Stable-Baselines3's predict, files, determinism."""

import copy
import io
import itertools
import os
import pickle
import signal
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV, cross_val_score

from ecpolicy import EpisodeError, ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.callbacks import Checkpoint, Progress
from ecpolicy.networks import RSNN, RealRSNN
from ecpolicy.networks.layout import unpack
from ecpolicy.networks.network import copied
from learnt import fingerprint, learnt
from probes import Broken, Lengths, Linear, Match, Spaces

SECONDS = "seconds"


def make(small, **changes):
    return EvolvingConnectivityPolicy(**{**small, **changes})


# Learning


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fit_reaches_the_known_optimum(small, seed):
    policy = make(small, n_generations=40, population_size=64, random_state=seed, score_threshold=9.5).fit(Match)
    assert policy.stop_reason_ == "score_threshold"
    assert policy.score(Match, n_episodes=50) > 9
    assert policy.history_[0]["return_mean"] == pytest.approx(5, abs=0.6)


def test_fitted_attributes(fitted):
    assert fitted.observation_space_ == Match.observation_space
    assert fitted.action_space_ == Match.action_space
    assert fitted.n_features_in_ == 1
    shapes = {"input": (2, 32), "recurrent": (32, 32), "output": (32, 2)}
    for name, shape in shapes.items():
        p, bits = fitted.connection_probabilities_[name], fitted.connectivity_[name]
        assert p.shape == bits.shape == shape
        assert bits.dtype == bool
        assert p.min() >= np.float32(1e-3)
        assert p.max() <= np.float32(1 - 1e-3)
        np.testing.assert_array_equal(bits, p > 0.5)
    assert fitted.excitatory_.sum() == 16
    assert fitted.n_generations_ == len(fitted.history_) == 4
    assert fitted.n_env_steps_ == 4 * 40 * 10 == fitted.history_[-1]["n_env_steps"]
    assert fitted.stop_reason_ == "n_generations"
    record = fitted.history_[-1]
    assert record["return_min"] <= record["return_mean"] <= record["return_max"]
    assert record["seconds"] > 0
    assert record["episode_length"] == 10


def test_the_deployed_network_is_the_best_confirmed_one(small):
    policy = make(small, n_generations=8).fit(Match)
    found = learnt(policy)
    assert policy.deployed_generation_ == found["best/generation"]
    assert policy.history_[-1]["best_deployed_return"] == found["best/score"]
    last = make(small, n_generations=8, keep_best=False).fit(Match)
    assert last.deployed_generation_ == 8
    for name, p in last.connection_probabilities_.items():
        np.testing.assert_array_equal(p, policy.search_probabilities_[name])  # the search itself is the same


def test_observation_statistics_cover_all_live_steps(fitted):
    assert learnt(fitted)["search/moments/n"] == fitted.n_env_steps_


def test_sgd_and_unnormalised_observations_learn(small):
    policy = make(small, optimizer="sgd", learning_rate=10.0, normalize_observations=False, n_generations=30)
    policy.fit(Match)
    assert policy.history_[-1]["return_mean"] > policy.history_[0]["return_mean"] + 1


# Determinism


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_workers_do_not_change_the_result(small, n_jobs):
    expected = make(small).fit([Lengths, Match])
    assert fingerprint(make(small, n_jobs=n_jobs).fit([Lengths, Match])) == fingerprint(expected)


def test_seeds_matter(small):
    assert fingerprint(make(small, random_state=1).fit(Match)) != fingerprint(make(small).fit(Match))


@pytest.mark.parametrize("generation", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_stop_save_and_resume_at_any_generation(small, generation, optimizer, tmp_path):
    small["optimizer"] = optimizer
    expected = fingerprint(make(small).fit(Lengths))
    make(small, n_generations=generation).fit(Lengths).save(tmp_path / "part.ecp")
    resumed = EvolvingConnectivityPolicy.load(tmp_path / "part.ecp")
    assert resumed.n_generations_ == generation
    resumed.set_params(n_generations=4, warm_start=True).fit(Lengths)
    assert fingerprint(resumed) == expected


def test_partial_fit_is_a_generation_of_fit(small):
    policy = make(small)
    for generation in range(1, 5):
        assert policy.partial_fit(Lengths) is policy
        assert policy.n_generations_ == generation
    assert fingerprint(policy) == fingerprint(make(small).fit(Lengths))


def test_without_random_state_fits_differ_but_can_be_resumed(small, tmp_path):
    small["random_state"] = None
    one, other = make(small).fit(Match), make(small).fit(Match)
    assert one.seed_ != other.seed_
    one.save(tmp_path / "one.ecp")
    resumed = EvolvingConnectivityPolicy.load(tmp_path / "one.ecp").set_params(n_generations=6, warm_start=True)
    one.set_params(n_generations=6, warm_start=True)
    assert fingerprint(resumed.fit(Match)) == fingerprint(one.fit(Match))


@pytest.mark.parametrize("state", [np.random.default_rng(3), np.random.RandomState(3)])
def test_generators_are_accepted_as_random_state(small, state, tmp_path):
    policy = make(small, random_state=state, n_generations=1).fit(Match)
    policy.save(tmp_path / "p.ecp")
    assert EvolvingConnectivityPolicy.load(tmp_path / "p.ecp").seed_ == policy.seed_


# Stopping


def test_step_budget(small):
    policy = make(small, n_generations=50, max_env_steps=1000).fit(Match)
    assert policy.stop_reason_ == "max_env_steps"
    assert policy.n_env_steps_ == 1200  # generations are whole


def test_registered_threshold_is_used_and_can_be_turned_off(small):
    gym.register("Probe/Match-v0", entry_point=lambda: Match(), max_episode_steps=10, reward_threshold=0.5)
    try:
        policy = make(small).fit("Probe/Match-v0")
        assert policy.stop_reason_ == "score_threshold"
        assert policy.n_generations_ == 1
        assert policy.fit(gym.spec("Probe/Match-v0")).n_generations_ == 1
        off = make(small, score_threshold=None).fit("Probe/Match-v0")
        assert off.n_generations_ == 4
    finally:
        gym.registry.pop("Probe/Match-v0")


def test_a_threshold_reached_by_luck_is_not_confirmed(small):
    """One neuron scores 5 ± 1.6 an episode: over 5.2 by chance, but not by 1.645 standard errors in 100 episodes."""
    policy = make(small, network=RSNN(1), score_threshold=5.2, eval_episodes=1).fit(Match)
    assert any(record["deployed_return"] >= 5.2 for record in policy.history_)
    assert policy.stop_reason_ == "n_generations"


def test_warm_start_goes_on_and_cold_start_starts_anew(small):
    policy = make(small, warm_start=True).fit(Match)
    assert policy.fit(Match).n_generations_ == 4
    assert policy.set_params(n_generations=6).fit(Match).n_generations_ == 6
    assert len(policy.history_) == 6
    assert policy.set_params(warm_start=False, n_generations=2).fit(Match).n_generations_ == 2


def test_horizon_schedule(small):
    policy = make(small, max_episode_steps=[(0, 4), (200, 7)], n_generations=3).fit(Match)
    assert [record["episode_length"] for record in policy.history_] == [4, 4, 7]
    assert policy.history_[0]["n_evaluation_steps"] == 6 * 7  # without a time limit, scores go to the last horizon


@pytest.mark.parametrize(("kind", "network"), [(EvolvingConnectivityPolicy, RSNN(32)), (ESPolicy, RealRSNN(32))])
def test_learning_rate_schedule(small, kind, network):
    """A schedule is the same as going on by hand with the other learning rate."""

    def fitted(learning_rate, n_generations, policy=None):
        policy = policy or kind(**small | {"network": network}, warm_start=True)
        return policy.set_params(learning_rate=learning_rate, n_generations=n_generations).fit(Match)

    def climbed(policy):
        wanted = ("search/parameters/", "search/optimizer/first/", "search/optimizer/second/")
        return [part for name, part in sorted(learnt(policy).items()) if name.startswith(wanted)]

    by_hand = fitted(0.05, 5, fitted(0.3, 2))
    after = [record["n_env_steps"] for record in by_hand.history_]
    scheduled = climbed(fitted([(0, 0.3), (after[1], 0.05)], 5))
    assert all(np.array_equal(*pair) for pair in zip(climbed(by_hand), scheduled, strict=True))
    constant = climbed(fitted(0.3, 5))
    assert not any(np.array_equal(*pair) for pair in zip(constant, scheduled, strict=True))


def test_eps_schedule(small):
    policy = make(small, eps=[(0, 0.2), (500, 0.05)], learning_rate=0.6, n_generations=1, warm_start=True)
    for generation, eps in enumerate([0.2, 0.2, 0.05, 0.05], start=1):
        policy.set_params(n_generations=generation).fit(Match)
        smallest = min(p.min() for p in policy.search_probabilities_.values())
        largest = max(p.max() for p in policy.search_probabilities_.values())
        assert (smallest, largest) == (np.float32(eps), np.float32(1 - eps))
    steps = [record["n_env_steps"] for record in policy.history_]
    assert steps[0] < 500 <= steps[1]  # the third generation is the first that begins after 500 steps


def test_a_stop_where_eps_rises_changes_nothing(small):
    schedule = {"eps": [(0, 0.01), (500, 0.2)], "learning_rate": 0.6}
    whole = make(small, **schedule, n_generations=4).fit(Match)
    assert min(p.min() for p in whole.search_probabilities_.values()) == np.float32(0.2)
    stopped = make(small, **schedule, n_generations=2, warm_start=True).fit(Match)
    assert stopped.n_env_steps_ >= 500
    assert fingerprint(stopped.set_params(n_generations=4).fit(Match)) == fingerprint(whole)


def test_scores_are_over_full_episodes_where_there_is_a_time_limit(small):
    gym.register("Probe/Limited-v0", entry_point=lambda: Match(), max_episode_steps=9)
    try:
        policy = make(small, max_episode_steps=4, n_generations=1).fit("Probe/Limited-v0")
    finally:
        gym.registry.pop("Probe/Limited-v0")
    assert policy.history_[0]["episode_length"] == 4
    assert policy.history_[0]["n_evaluation_steps"] == 6 * 9


def test_callbacks_see_every_generation_and_may_stop(small, tmp_path):
    seen = []

    def stop_at_three(policy):
        seen.append((policy.n_generations_, policy.score(Match, n_episodes=1)))
        return policy.n_generations_ == 3

    path = tmp_path / "checkpoint.ecp"
    saved = []
    watch = lambda policy: saved.append(EvolvingConnectivityPolicy.load(path).n_generations_ if path.exists() else None)  # noqa: E731
    policy = make(small, n_generations=9).fit(Match, callbacks=[stop_at_three, Checkpoint(path, every=2), watch])
    assert [generation for generation, _ in seen] == [1, 2, 3]
    assert policy.stop_reason_ == "callback stop_at_three"
    assert saved == [None, 2, 2]
    assert EvolvingConnectivityPolicy.load(path).n_generations_ == 3  # the end is saved as well
    with pytest.raises(ValueError, match="every must be"):
        Checkpoint(path, every=0)
    with pytest.raises(TypeError, match="callbacks must be callables"):
        policy.fit(Match, callbacks=["print"])


class PressesCtrlC(Match):
    def step(self, action):
        if self.t == 5 and type(self).step is not Match.step:
            os.kill(os.getpid(), signal.SIGINT)
            type(self).step = Match.step
        return super().step(action)


def test_ctrl_c_ends_fit_after_the_generation_with_a_usable_policy(small):
    before = signal.getsignal(signal.SIGINT)
    policy = make(small, n_generations=50)
    with pytest.warns(UserWarning, match="Interrupted: fit ended after generation 1"):
        policy.fit(PressesCtrlC)
    assert policy.stop_reason_ == "interrupted"
    assert policy.n_generations_ == 1
    assert signal.getsignal(signal.SIGINT) is before
    resumed = policy.set_params(warm_start=True, n_generations=4).fit(PressesCtrlC)
    assert fingerprint(resumed) == fingerprint(make(small).fit(Match))


def test_ctrl_c_twice_interrupts_at_once(small):
    def press_twice(policy):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    policy = make(small, n_generations=50)
    with pytest.raises(KeyboardInterrupt):
        policy.fit(Match, callbacks=[press_twice])
    assert policy.score(Match) >= 0


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_raising_environment_leaves_what_was_learnt(small, n_jobs):
    policy = make(small, n_generations=2, n_jobs=n_jobs).fit(Match)
    learnt = fingerprint(policy)
    with pytest.raises(EpisodeError, match="plant exploded"):
        policy.set_params(warm_start=True, n_generations=9).fit(lambda: Broken("raises"))
    assert fingerprint(policy) == learnt
    assert policy.predict(np.ones(1, np.float32))[0] in (0, 1)


def test_an_environment_that_breaks_later_leaves_the_generations_before(small):
    policy = make(small, n_generations=50)
    with pytest.raises(EpisodeError, match="plant exploded"):
        policy.fit(Broken("raises", after=150))
    assert 1 <= policy.n_generations_ < 4
    assert policy.score(Match) >= 0


def test_a_failed_refit_loses_nothing(small):
    policy = make(small).fit(Match)
    learnt, state = fingerprint(policy), dict(policy.__dict__)
    with pytest.raises(EpisodeError):
        policy.fit(lambda: Broken("raises"))
    with pytest.raises(ValueError, match="n_jobs"):
        policy.set_params(n_jobs=0).fit(Match)
    assert fingerprint(policy.set_params(n_jobs=None)) == learnt
    assert policy.stop_reason_ == state["stop_reason_"]
    assert policy.seed_ == state["seed_"]


def test_a_fit_that_reached_its_threshold_does_not_go_on(small):
    policy = make(small, warm_start=True, score_threshold=1.0).fit(Match)
    assert (policy.stop_reason_, policy.n_generations_) == ("score_threshold", 1)
    assert policy.fit(Match).n_generations_ == 1
    assert policy.set_params(score_threshold=9.9).fit(Match).n_generations_ > 1


class Opposite(Match):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, 1 - reward, *rest


def test_a_solution_of_another_task_does_not_count(small):
    policy = make(small, warm_start=True, score_threshold=6.0).fit(Match)
    assert policy.stop_reason_ == "score_threshold"
    solved = policy.n_generations_
    policy.set_params(n_generations=solved + 1).fit(Opposite)
    assert policy.n_generations_ == solved + 1
    assert policy.history_[-1]["best_deployed_return"] < 6


def test_the_best_network_over_shorter_episodes_is_measured_over_these(small):
    policy = make(small, warm_start=True, n_generations=2, normalize_observations=False)
    short = policy.fit(gym.make("Pendulum-v1", max_episode_steps=5)).history_[-1]["best_deployed_return"]
    long = policy.set_params(n_generations=3).fit(gym.make("Pendulum-v1", max_episode_steps=50)).history_[-1]
    assert long["best_deployed_return"] < 5 * short < 0
    wrapped = [gym.wrappers.TimeLimit(Match(), steps) for steps in (9, 3)]
    policy = make(small, warm_start=True, n_generations=4).fit(wrapped[0])
    assert policy.history_[-1]["best_deployed_return"] > 3
    assert policy.set_params(n_generations=5).fit(wrapped[1]).history_[-1]["best_deployed_return"] <= 3
    endless = gym.make("CliffWalking-v1")  # a limit of its own, that of the policy, counts as well
    policy = make(small, warm_start=True, n_generations=1, max_episode_steps=5).fit(endless)
    policy.set_params(n_generations=2, max_episode_steps=10).fit(endless)
    assert policy.history_[-1]["deployed_length"] == 10
    assert policy.history_[-1]["best_deployed_return"] <= -10


def test_a_fit_without_a_generation_changes_nothing(small):
    policy = make(small, warm_start=True).fit(Match)
    learnt, deployed = fingerprint(policy), policy.deployed_generation_
    policy.fit(Opposite)  # n_generations are over
    assert fingerprint(policy) == learnt
    assert policy.deployed_generation_ == deployed < policy.n_generations_


def test_ctrl_c_amid_a_generation_is_published_leaves_the_one_before(small, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    policy = make(small, warm_start=True, n_generations=2).fit(Match)
    learnt, history = fingerprint(policy), policy.history_
    checkpoint = Checkpoint(tmp_path / "training.ecp")
    with monkeypatch.context() as patched:
        patched.setattr(EvolvingConnectivityPolicy, "_shown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            policy.set_params(n_generations=4).fit(Match, callbacks=checkpoint)
    assert fingerprint(policy) == learnt
    policy.fit(Match, callbacks=checkpoint)
    assert fingerprint(policy) == fingerprint(make(small).fit(Match))
    assert len(history) == 2  # a list that was given out does not grow


# scikit-learn


@pytest.mark.parametrize("copy", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_fitted_policies_can_be_copied_and_pickled(fitted, copy):
    again = copy(fitted)
    assert fingerprint(again) == fingerprint(fitted)
    np.testing.assert_array_equal(again.episode_returns(Match), fitted.episode_returns(Match))


def test_nested_parallelism_does_not_change_scores(small):
    expected = cross_val_score(make(small, n_generations=1), [Match(), Match()], cv=2)
    nested = cross_val_score(make(small, n_generations=1, n_jobs=2), [Match(), Match()], cv=2, n_jobs=2)
    np.testing.assert_array_equal(nested, expected)


def test_halving_search_with_generations_as_the_resource(small):
    search = HalvingRandomSearchCV(
        make(small), {"learning_rate": [0.05, 0.1, 0.15, 0.3]}, resource="n_generations", max_resources=4,
        min_resources=2, factor=2, n_candidates=2, cv=[([0], [0])], random_state=0,
    )  # fmt: skip
    assert search.fit([Match]).n_resources_ == [2, 4]


def test_metadata_routing_of_score_parameters(small):
    with config_context(enable_metadata_routing=True):
        policy = make(small, n_generations=1).set_score_request(n_episodes=True)
        assert policy.get_metadata_routing().score.requests["n_episodes"] is True


def test_what_was_requested_of_the_metadata_outlasts_a_resumed_fit(small, tmp_path):
    make(small, n_generations=1).fit(Match).save(tmp_path / "training.ecp")
    with config_context(enable_metadata_routing=True):
        policy = make(small).set_score_request(n_episodes=True)
        policy.fit(Match, resume_from=tmp_path / "training.ecp")
        assert policy.get_metadata_routing().score.requests["n_episodes"] is True


def test_ids_registered_by_a_script_reach_the_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "from ecpolicy import EvolvingConnectivityPolicy\n"
        "from ecpolicy.networks import RSNN\n"
        "class Mine(CartPoleEnv): pass\n"
        "if __name__ == '__main__':\n"
        "    gym.register('Mine-v0', entry_point=Mine, max_episode_steps=20)\n"
        "    policy = EvolvingConnectivityPolicy(network=RSNN(16), population_size=34, n_generations=1, n_jobs=2)\n"
        "    print(policy.fit('Mine-v0').n_generations_)\n"
    )
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "1", result.stderr


def test_get_set_clone_and_repr(small):
    policy = make(small, learning_rate=0.2)
    copy = clone(policy)
    assert copy is not policy
    assert copy.get_params() == policy.get_params()
    assert "learning_rate=0.2" in repr(policy)
    assert set(EvolvingConnectivityPolicy().get_params(deep=False)) == set(EvolvingConnectivityPolicy.table)
    with pytest.raises(ValueError, match="Invalid parameter 'neurons'"):
        policy.set_params(neurons=3)


def test_clone_of_a_fitted_policy_is_unfitted(fitted):
    with pytest.raises(NotFittedError):
        clone(fitted).predict(np.ones(1))


def test_grid_search_over_environments(small):
    search = GridSearchCV(make(small, n_generations=2), {"learning_rate": [1e-6, 0.15]}, cv=3, n_jobs=2)
    search.fit([Match, Match, Lengths])
    assert search.cv_results_["split2_test_score"].shape == (2,)
    assert search.best_estimator_.score([Match]) >= 0
    assert search.predict(np.ones(1, np.float32))[0] in (0, 1)


def test_grid_search_on_a_single_environment(small):
    search = GridSearchCV(make(small, n_generations=1), {"network__n_neurons": [8, 16]}, cv=[([0], [0])])
    assert search.fit([Match]).best_params_["network__n_neurons"] in (8, 16)


def test_cross_validation_trains_and_scores_on_different_environments(small):
    scores = cross_val_score(make(small, n_generations=1), [Match, Lengths], cv=2)
    assert scores.shape == (2,)


def test_tags(fitted):
    tags = fitted.__sklearn_tags__()
    assert not tags.target_tags.required
    assert not tags.non_deterministic
    assert EvolvingConnectivityPolicy().__sklearn_tags__().non_deterministic


# predict


def test_single_and_batched_predictions_agree(fitted):
    observations = np.array([[-1], [1], [0.3]], np.float32)
    states, state = [None] * 3, None
    for _ in range(5):
        actions, state = fitted.predict(observations, state)
        assert actions.shape == (3,)
        for i, observation in enumerate(observations):
            action, states[i] = fitted.predict(observation, states[i])
            assert action == actions[i]
            assert Match.action_space.contains(action)
            hash(action)


def test_episode_start_resets_the_rows_it_names_and_is_not_changed(fitted):
    observations = np.array([[1], [-1]], np.float32)
    _, state = fitted.predict(observations)
    _, state = fitted.predict(observations, state)
    start = np.array([False, True])
    kept = copied(state.network)
    actions, after = fitted.predict(observations, state, episode_start=start)
    np.testing.assert_array_equal(start, [False, True])
    for part, before in zip(state.network, kept, strict=True):
        np.testing.assert_array_equal(part, before)
    fresh_actions, fresh = fitted.predict(observations)
    old_actions, old = fitted.predict(observations, state)
    assert (actions[0], actions[1]) == (old_actions[0], fresh_actions[1])
    for part, continued, begun in zip(after.network, old.network, fresh.network, strict=True):
        np.testing.assert_array_equal(part[0], continued[0])
        np.testing.assert_array_equal(part[1], begun[1])
    assert not np.array_equal(after.network.v[1], old.network.v[1])


@pytest.mark.parametrize("n_neurons", [200, 4096])
def test_the_state_of_another_network_is_refused(fitted, small, n_neurons):
    """Kernels trust shapes: such a state would be read and written beyond its arrays."""
    other = make(small, network=RSNN(n_neurons), n_generations=1).fit(Match)
    observation = np.ones((3, 1), np.float32)
    for deterministic in (True, False):
        _, state = other.predict(observation, deterministic=deterministic)
        with pytest.raises(ValueError, match="The state is of another network"):
            fitted.predict(observation, state)
    _, ours = fitted.predict(observation)
    for wrong in (ours._replace(network=ours.network[:-1]), ours._replace(connections={}),
                  ours._replace(network=tuple(part.astype(np.float64) for part in ours.network))):  # fmt: skip
        with pytest.raises(ValueError, match="The state is of another network"):
            fitted.predict(observation, wrong)
    for foreign in (ours.network, "state", 1):
        with pytest.raises(TypeError, match="state must be what predict returned"):
            fitted.predict(observation, foreign)


def test_a_state_of_sampled_networks_must_be_of_as_many_environments(small):
    policy = ESPolicy(network=Linear(), population_size=4, n_generations=1, random_state=0).fit(Match)
    _, state = policy.predict(np.ones((3, 1)), deterministic=False)
    for n in (2, 5):
        with pytest.raises(ValueError, match=f"of 3 environments, the observation of {n}"):
            policy.predict(np.ones((n, 1)), state, deterministic=False)


def test_a_saved_policy_goes_on_drawing_where_it_was(small, tmp_path):
    policy = make(small, n_generations=1).fit(Match)
    policy.predict(np.ones((3, 1)), deterministic=False)
    policy.save(tmp_path / "p.ecp")
    loaded = EvolvingConnectivityPolicy.load(tmp_path / "p.ecp")
    drawn = [each.predict(np.ones((3, 1)), deterministic=False)[1].connections for each in (policy, loaded)]
    for name, words in drawn[0].items():
        np.testing.assert_array_equal(words, drawn[1][name])


def test_stochastic_predictions_sample_a_network_at_each_episode_start(small):
    def run(policy):
        _, state = policy.predict(np.ones((3, 1)), deterministic=False)
        first = state.connections["recurrent"]
        assert len(np.unique(first.reshape(3, -1), axis=0)) == 3
        _, state = policy.predict(np.ones((3, 1)), state, np.array([False, False, True]), deterministic=False)
        second = state.connections["recurrent"]
        np.testing.assert_array_equal(second[:2], first[:2])
        assert not np.array_equal(second[2], first[2])
        _, again = policy.predict(np.ones((3, 1)), deterministic=False)
        assert not np.array_equal(again.connections["recurrent"][0], first[0])
        _, mixed = policy.predict(np.ones((3, 1)), state, deterministic=True)
        assert mixed.connections is state.connections
        return np.concatenate([second, again.connections["recurrent"]])

    np.testing.assert_array_equal(*(run(make(small).fit(Match)) for _ in range(2)))


@pytest.mark.parametrize("kind", ["ec", "es"])
def test_sampled_networks_are_independent_and_an_environments_own(small, kind):
    """None is the mirror image of another; what an environment gets does not depend on who starts beside it."""
    if kind == "ec":
        policy, matrix = make(small, n_generations=1), "recurrent"
    else:
        policy, matrix = ESPolicy(network=Linear(), population_size=4, n_generations=1, random_state=0), "output"
    policy.fit(Match)
    mean = (policy.connection_probabilities_ if kind == "ec" else policy.weights_)[matrix]

    def drawn(state):
        words = state.connections[matrix]
        return unpack(words, mean.shape[1]).astype(float) if kind == "ec" else words

    observation, never = np.ones((40, 1)), np.zeros(40, bool)
    copies = [copy.deepcopy(policy) for _ in range(3)]
    states = [each.predict(observation, deterministic=False)[1] for each in copies]
    noise = (drawn(states[0]) - mean).reshape(40, -1)
    if kind == "es":
        assert not any(np.allclose(a, -b) for a, b in itertools.combinations(noise, 2))
        assert abs(np.corrcoef(noise.ravel()[0::2], noise.ravel()[1::2])[0, 1]) < 0.5
    else:
        assert np.abs(np.corrcoef(noise) - np.eye(40)).max() < 0.2
    all_start, two_start = ~never, never.copy()
    two_start[[3, 17]] = True
    beginning = zip(copies, states, (all_start, two_start, two_start), strict=True)
    after = [each.predict(observation, state, starts, False)[1] for each, state, starts in beginning]
    assert not (drawn(after[0]) == drawn(states[0])).all(axis=(1, 2)).any()
    np.testing.assert_array_equal(drawn(after[1])[[3, 17]], drawn(after[0])[[3, 17]])
    np.testing.assert_array_equal(np.delete(drawn(after[1]), [3, 17], 0), np.delete(drawn(states[1]), [3, 17], 0))
    few = copy.deepcopy(policy).predict(observation[:2], deterministic=False)[1]
    np.testing.assert_array_equal(drawn(few), drawn(states[0])[:2])


def test_dict_observations_and_box_actions(small):
    space = gym.spaces.Dict({"x": gym.spaces.Box(-1, 1, (2,)), "mode": gym.spaces.Discrete(3)})
    action_space = gym.spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))
    policy = make(small, n_generations=1).fit(lambda: Spaces(space, action_space))
    single = {"x": np.zeros(2, np.float32), "mode": np.int64(1)}
    action, _ = policy.predict(single)
    assert action_space.contains(action)
    batch = {"x": np.zeros((4, 2), np.float32), "mode": np.ones(4, np.int64)}
    actions, _ = policy.predict(batch)
    assert actions.shape == (4, 2)
    np.testing.assert_array_equal(actions[2], action)


def test_score_follows_the_seeds_given(fitted):
    returns = fitted.episode_returns([Match, Lengths], n_episodes=5, seed=40)
    assert returns.shape == (5, 2)
    for k in range(5):
        environment, state, total, over = Match(), None, 0.0, False
        observation, _ = environment.reset(seed=40 + k)
        while not over:
            action, state = fitted.predict(observation, state)
            observation, reward, over, _, _ = environment.step(action)
            total += reward
        assert returns[k, 0] == total
    assert fitted.score([Match, Lengths], n_episodes=5, seed=40) == returns.mean()
    assert fitted.score(Match) == fitted.score(Match)


# Progress


def test_progress_lines(small):
    stream = io.StringIO()
    make(small).fit(Match, callbacks=[Progress(2, stream)])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("generation    2/4 | return ")
    for part in ("max", "deployed", "best", "steps", "/s", "at most", "left"):
        assert part in lines[0]
    assert lines[1].endswith("done")


def test_verbose_prints_and_silence_is_the_default(small, capsys):
    make(small).fit(Match)
    assert capsys.readouterr().out == ""
    make(small, verbose=1).fit(Match)
    assert capsys.readouterr().out.count("generation") == 4


def test_fit_raises_no_warning(small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(small, n_jobs=2).fit(Match)
