"""Callbacks: what they see, when they are called, and what each of them does."""

import csv
import struct
import threading
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from tensorboardX.proto.event_pb2 import Event

import ecpolicy
from ecpolicy import EpisodeError, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.callbacks import (
    Chain,
    Checkpoint,
    CSVLog,
    Evaluation,
    Progress,
    StableBaselines3,
    StopOnReturn,
    TensorBoardLog,
)
from faults import fingerprint
from probes import Broken, Match


def fit(small, *callbacks, **changes):
    return EvolvingConnectivityPolicy(**{**small, **changes}).fit(Match, callbacks=list(callbacks))


# The view


def test_a_view_shows_the_training_and_cannot_change_it(small):
    seen = []

    def look(view):
        assert view.n_generations_ == len(view.history_) == view.history_[-1]["generation"]
        assert view.get_params()["n_neurons"] == 32
        assert view.score(Match, n_episodes=1) >= 0
        with pytest.raises(AttributeError, match="cannot set n_generations"):
            view.n_generations = 1
        with pytest.raises(AttributeError, match="cannot delete"):
            del view.history_
        for method in ("fit", "partial_fit", "set_params"):
            with pytest.raises(AttributeError, match=f"cannot call {method}"):
                getattr(view, method)
        with pytest.raises(AttributeError, match="not part of what a callback sees"):
            _ = view._training
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = view.nothing
        with pytest.raises(ValueError, match="read-only"):
            view.connection_probabilities_["input"][0, 0] = 1
        with pytest.raises(TypeError):
            view.connection_probabilities_["input"] = None
        with pytest.raises(TypeError):
            view.history_[-1]["return_mean"] = 1e9
        assert not hasattr(view.history_, "append")
        assert "score" in dir(view)
        assert "fit" not in dir(view)
        assert "EvolvingConnectivityPolicy" in repr(view)
        seen.append(dict(view.history_[-1]))

    policy = fit(small, look)
    assert seen == policy.history_
    assert fingerprint(policy) == fingerprint(fit(small))


def test_a_view_samples_networks_without_changing_what_the_policy_samples(small):
    drawn = []

    def sample(view):
        states = [view.predict(np.ones((3, 1)), deterministic=False)[1] for _ in range(2)]
        drawn.extend(state.connections["recurrent"] for state in states)

    looked_at, alone = fit(small, sample), fit(small)
    assert not any(np.array_equal(drawn[0], other) for other in drawn[1:])
    after = [policy.predict(np.ones((3, 1)), deterministic=False)[1].connections for policy in (looked_at, alone)]
    np.testing.assert_array_equal(after[0]["recurrent"], after[1]["recurrent"])


@pytest.mark.parametrize("kind", [EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy])
def test_there_is_no_reason_to_stop_before_the_end(kind):
    sizes = {"n_generations": 3} if kind is EvolvingConnectivityPolicy else {"max_env_steps": 24, "n_envs": 2,
                                                                             "n_steps": 4, "n_epochs": 1}  # fmt: skip
    reasons = []
    policy = kind(n_neurons=8, random_state=0, **sizes)
    for _ in range(2):
        policy.fit(Match, callbacks=lambda view: reasons.append(view.stop_reason_))
    assert policy.stop_reason_ is not None
    assert set(reasons) == {None}


class Recorder:
    """Notes what it is asked, and may raise."""

    def __init__(self, raises="", stops_at=None):
        self.raises, self.stops_at, self.calls = raises, stops_at, []

    def begin(self, view):
        self._note("begin", view.continues)

    def __call__(self, view):
        self._note("call", view.n_generations_)
        return view.n_generations_ == self.stops_at

    def finish(self, view):
        self._note("finish", view.n_generations_)

    def _note(self, what, value):
        self.calls.append((what, value))
        if what == self.raises:
            raise RuntimeError(f"no {what}")


def test_begin_call_and_finish(small):
    recorder = Recorder(stops_at=2)
    policy = fit(small, recorder)
    assert recorder.calls == [("begin", False), ("call", 1), ("call", 2), ("finish", 2)]
    assert policy.stop_reason_ == "callback"
    policy.set_params(warm_start=True, n_generations=3).fit(Match, callbacks=recorder)
    assert recorder.calls[4:] == [("begin", True), ("call", 3), ("finish", 3)]
    policy.fit(Match, callbacks=recorder)
    assert recorder.calls[7:] == [("begin", True)]  # there was nothing left to do


@pytest.mark.parametrize("raises", ["begin", "call", "finish"])
def test_a_callback_that_raises_loses_nothing(small, raises):
    first, bad, last = Recorder(), Recorder(raises), Recorder()
    policy = EvolvingConnectivityPolicy(**small)
    with pytest.raises(RuntimeError, match=f"no {raises}"):
        policy.fit(Match, callbacks=[first, bad, last])
    if raises == "begin":
        assert not hasattr(policy, "history_")
        return
    assert policy.score(Match) >= 0
    assert first.calls[-1][0] == last.calls[-1][0] == "finish"
    assert policy.stop_reason_ == ("error" if raises == "call" else "n_generations")
    assert policy.n_generations_ == (1 if raises == "call" else 4)


def test_callbacks_finish_where_an_environment_raises(small):
    recorder = Recorder()
    with pytest.raises(EpisodeError):
        EvolvingConnectivityPolicy(**{**small, "n_generations": 50}).fit(
            Broken("raises", after=150), callbacks=recorder
        )
    assert recorder.calls[-1][0] == "finish"


def test_one_callback_or_several_or_a_chain(small):
    for given in (lambda recorder: recorder, lambda recorder: (recorder,), lambda recorder: Chain(Chain(recorder))):
        recorder = Recorder()
        fit_on = EvolvingConnectivityPolicy(**small).fit(Match, callbacks=given(recorder))
        assert len(recorder.calls) == 2 + fit_on.n_generations_
    for bad in ("print", [3], 3, Recorder, [Checkpoint]):
        with pytest.raises(TypeError, match="callbacks must be"):
            EvolvingConnectivityPolicy(**small).fit(Match, callbacks=bad)


# Evaluation and early stops


def test_evaluation_keeps_the_best(small, tmp_path):
    evaluation = Evaluation(Match, every=2, n_episodes=7, seed=5, path=tmp_path / "best.ecp")
    seen = []

    def score(view):
        seen.append(view.episode_returns(Match, n_episodes=7, seed=5))

    fit(small, evaluation, score, n_generations=9)
    assert [result.generation for result in evaluation.results] == [2, 4, 6, 8]
    for result in evaluation.results:
        assert result.mean == seen[result.generation - 1].mean()
        assert result.std == seen[result.generation - 1].std()
        assert result.n_env_steps == result.generation * 400
    assert evaluation.best.mean == max(result.mean for result in evaluation.results)
    best = EvolvingConnectivityPolicy.load(tmp_path / "best.ecp")
    assert best.n_generations_ == evaluation.best.generation
    assert best.score(Match, n_episodes=7, seed=5) == evaluation.best.mean


def test_evaluation_of_a_resumed_fit_keeps_the_best_before(small, tmp_path):
    path = tmp_path / "best.ecp"

    def evaluation():
        return Evaluation(Match, every=1, n_episodes=7, seed=5, path=path)

    whole = evaluation()
    policy = fit(small, whole, n_generations=8, learning_rate=0.4)
    assert whole.best.generation < 8
    best = path.read_bytes()
    for again in (whole, evaluation()):  # in the same process, and in another
        policy.set_params(warm_start=True, n_generations=8).fit(Match, callbacks=again)
        assert again.best == whole.best
        assert path.read_bytes() == best
    worse = evaluation()
    policy.set_params(n_generations=9).fit(Match, callbacks=worse)
    assert [result.generation for result in worse.results] == [9]
    assert (path.read_bytes() == best) == (worse.results[0].mean <= whole.best.mean)
    anew = evaluation()
    fit(small, anew, n_generations=1)
    assert anew.best == anew.results[0]


def test_evaluation_may_stop(small):
    evaluation = Evaluation(Match, every=1, stop_at=-1.0)
    policy = fit(small, evaluation)
    assert (policy.stop_reason_, policy.n_generations_) == ("callback", 1)
    assert fit(small, Evaluation(Match, every=1, stop_at=99.0)).n_generations_ == 4
    with pytest.raises(ValueError, match="every must be"):
        Evaluation(Match, every=0)
    with pytest.raises(ValueError, match="n_episodes must be"):
        Evaluation(Match, n_episodes=0)
    with pytest.raises(ValueError, match="every must be"):
        Progress(0)


def test_stop_on_return(small):
    policy = fit(small, StopOnReturn(4.0, of="return_mean"))
    assert (policy.stop_reason_, policy.n_generations_) == ("callback", 1)
    policy = fit(small, StopOnReturn(11.0))
    assert policy.n_generations_ == 4
    with pytest.raises(ValueError, match=r"of must be an entry of history_, one of \['best_deployed_return'"):
        fit(small, StopOnReturn(1.0, of="luck"))


# Logs


def test_csv_holds_the_history_also_across_a_resumed_fit(small, tmp_path):
    path, checkpoint = tmp_path / "log.csv", Checkpoint(tmp_path / "c.ecp")

    def rows():
        with path.open() as stream:
            return [
                {name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(stream)
            ]

    policy = fit(small, CSVLog(path))
    assert rows() == policy.history_
    fit(small, CSVLog(path), checkpoint, n_generations=2)
    with path.open("a") as stream:
        stream.write("9,9,9,9,9,9,9,9,9,9,9\n")  # a row that a killed process wrote after its last checkpoint
    resumed = EvolvingConnectivityPolicy(**small)
    resumed.fit(Match, callbacks=[CSVLog(path), checkpoint], resume_from=checkpoint)
    assert rows() == resumed.history_
    assert len(rows()) == 4


def scalars(folder):
    """(tag, step, value) of all event files of a folder, read from the format itself."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            place += length + 16
    return found


def test_tensorboard(small, tmp_path):
    policy = fit(small, TensorBoardLog(tmp_path / "tb"))
    found = scalars(tmp_path / "tb")
    for tag, name in (("rollout/ep_rew_mean", "return_mean"), ("eval/mean_reward", "deployed_return"),
                      ("ecpolicy/return_max", "return_max")):  # fmt: skip
        logged = [(step, value) for found_tag, step, value in found if found_tag == tag]
        expected = [(record["n_env_steps"], np.float32(record[name])) for record in policy.history_]
        assert logged == expected


def test_tensorboard_opens_no_log_where_nothing_is_trained(small, tmp_path):
    log, policy = TensorBoardLog(tmp_path / "tb"), EvolvingConnectivityPolicy(**small, warm_start=True)
    policy.fit(Match, callbacks=log)
    before = sorted((tmp_path / "tb").iterdir()), threading.active_count()
    policy.fit(Match, callbacks=log)
    assert (sorted((tmp_path / "tb").iterdir()), threading.active_count()) == before


# Stable-Baselines3's callbacks


class Counts(BaseCallback):
    def __init__(self):
        super().__init__()
        self.events = []

    def _on_training_start(self):
        self.events.append("start")

    def _on_step(self):
        self.events.append(self.num_timesteps)
        return True

    def _on_training_end(self):
        self.events.append("end")


def test_callbacks_of_stable_baselines3(tmp_path):
    policy = EvolvingConnectivityPolicy(
        n_neurons=32, population_size=40, n_generations=6, random_state=0, score_threshold=None
    )
    stop = StopTrainingOnRewardThreshold(reward_threshold=1.0, verbose=0)
    evaluation = EvalCallback(
        Monitor(gym.make("CartPole-v1")), callback_on_new_best=stop, n_eval_episodes=3, eval_freq=3,
        best_model_save_path=str(tmp_path / "best"), log_path=str(tmp_path / "log"), verbose=0,
    )  # fmt: skip
    counts = Counts()
    saving = CheckpointCallback(save_freq=2, save_path=str(tmp_path / "models"), name_prefix="ec")
    logger = configure(str(tmp_path / "csv"), ["csv"])
    policy.fit("CartPole-v1", callbacks=StableBaselines3(saving, counts, evaluation, logger=logger))
    assert policy.stop_reason_ == "callback"
    assert policy.n_generations_ == 3  # the first evaluation is a new best, and above the threshold
    steps = [record["n_env_steps"] for record in policy.history_]
    assert counts.events == ["start", *steps, "end"]
    saved = ecpolicy.load(tmp_path / "models" / f"ec_{steps[1]}_steps.ecp")
    assert saved.n_generations_ == 2
    best = ecpolicy.load(tmp_path / "best" / "best_model.ecp")
    assert fingerprint(best) == fingerprint(policy)
    evaluated = np.load(tmp_path / "log" / "evaluations.npz")
    assert evaluated["timesteps"].tolist() == [steps[2]]
    assert evaluated["results"].mean() == evaluation.best_mean_reward
    with (tmp_path / "csv" / "progress.csv").open() as stream:
        assert float(next(csv.DictReader(stream))["eval/mean_reward"]) == pytest.approx(evaluation.best_mean_reward)


def test_the_adapter_refuses_what_is_not_theirs(small):
    with pytest.raises(TypeError, match="Wanted callbacks of Stable-Baselines3, got"):
        StableBaselines3(print)

    class Steps(BaseCallback):
        def _on_step(self):
            self.training_env.reset()

    with pytest.raises(RuntimeError, match="no training environment"):
        fit(small, StableBaselines3(Steps()))
