"""Callbacks: what they see, when they are called, and what each of them does."""

import copy
import csv
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import threading
import warnings
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
from stable_baselines3.common.logger import CSVOutputFormat, Logger, configure
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
from ecpolicy.networks import RSNN
from learnt import fingerprint
from probes import Broken, Match


def fit(small, *callbacks, **changes):
    return EvolvingConnectivityPolicy(**{**small, **changes}).fit(Match, callbacks=list(callbacks))


# The view


def test_a_view_shows_the_training_and_cannot_change_it(small):
    seen = []

    def look(view):
        assert view.n_generations_ == len(view.history_) == view.history_[-1]["generation"]
        assert view.get_params()["network__n_neurons"] == 32
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
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda view: pickle.loads(pickle.dumps(view))], ids=["copy", "deep", "pickle"]
)
def test_a_copy_of_a_view_is_the_policy_of_that_moment(kind, copied, tmp_path):
    sizes = {"n_generations": 3} if kind is EvolvingConnectivityPolicy else {"max_env_steps": 24, "n_envs": 2,
                                                                             "n_steps": 4, "n_epochs": 1}  # fmt: skip
    copies, scores, histories, drawn = [], [], [], []
    ones = np.ones((2, 1), np.float32)

    def look(view):
        view.predict(ones, deterministic=False)
        copies.append(copied(view))
        scores.append(view.score(Match, n_episodes=2, seed=0))
        histories.append([dict(record) for record in view.history_])
        drawn.append(view.predict(ones, deterministic=False)[1].network[0])

    policy = kind(random_state=0, **sizes).set_params(network__n_neurons=8).fit(Match, callbacks=look)
    assert len(copies) == 3
    for view, score, history, first in zip(copies, scores, histories, drawn, strict=True):
        assert view.score(Match, n_episodes=2, seed=0) == score
        assert view.history_ == history
        np.testing.assert_array_equal(view.predict(ones, deterministic=False)[1].network[0], first)
        with pytest.raises(AttributeError, match="cannot set n_generations"):
            view.n_generations = 1
        with pytest.raises(AttributeError, match="cannot call fit"):
            _ = view.fit
    copies[1].save(tmp_path / "second.ecp")
    assert len(ecpolicy.load(tmp_path / "second.ecp").history_) == 2
    assert len(policy.history_) == 3


def test_all_that_a_view_shows_can_be_copied(small):
    found = []

    def look(view):
        shown = view.history_, view.history_[-1], view.connection_probabilities_, view.get_params()
        found.append([(one, copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))) for one in shown[:2]])
        values = view.connection_probabilities_["input"]
        for one in (copy.copy, copy.deepcopy):
            np.testing.assert_array_equal(one(view.connection_probabilities_)["input"], values)
        assert view.history_[-1] | {"seconds": 0} == {**view.history_[-1], "seconds": 0}

    policy = fit(small, look)
    for number, ((history, *histories), (record, *records)) in enumerate(found):
        assert len(history) == number + 1
        for one in histories:
            assert one == policy.history_[: number + 1]
        for one in records:
            assert one == record == policy.history_[number]


@pytest.mark.parametrize("kind", [EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy])
def test_there_is_no_reason_to_stop_before_the_end(kind):
    sizes = {"n_generations": 3} if kind is EvolvingConnectivityPolicy else {"max_env_steps": 24, "n_envs": 2,
                                                                             "n_steps": 4, "n_epochs": 1}  # fmt: skip
    reasons = []
    policy = kind(random_state=0, **sizes).set_params(network__n_neurons=8)
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
    assert policy.stop_reason_ == "callback Recorder"
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
    assert (policy.stop_reason_, policy.n_generations_) == ("callback Evaluation", 1)
    assert fit(small, Evaluation(Match, every=1, stop_at=99.0)).n_generations_ == 4
    with pytest.raises(ValueError, match="every must be"):
        Evaluation(Match, every=0)
    with pytest.raises(ValueError, match="n_episodes must be"):
        Evaluation(Match, n_episodes=0)
    with pytest.raises(ValueError, match="every must be"):
        Progress(0)


def test_stop_on_return(small):
    policy = fit(small, StopOnReturn(4.0, of="return_mean"))
    assert (policy.stop_reason_, policy.n_generations_) == ("callback StopOnReturn", 1)
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


class Full(io.StringIO):
    """A stream with room for so many writes, after which they fail, until there is room again."""

    def __init__(self, error, room=0):
        super().__init__()
        self.error, self.room = error, room

    def write(self, text):
        if self.room <= 0:
            raise self.error
        self.room -= 1
        return super().write(text)


def unwritten(caught):
    return [str(one.message) for one in caught if "could not be written" in str(one.message)]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe"), ValueError("closed file")]
)
def test_progress_that_cannot_be_printed_is_one_warning_a_fit(small, error):
    stream = Full(error)
    progress = Progress(stream=stream)
    alone = fit(small)
    for _ in range(2):
        with pytest.warns(RuntimeWarning) as caught:
            policy = fit(small, progress)
        (message,) = unwritten(caught)
        assert type(error).__name__ in message
        assert "Training goes on" in message
        assert fingerprint(policy) == fingerprint(alone)
    stream.room = 100
    fit(small, progress)
    assert len(stream.getvalue().splitlines()) == 4


def test_progress_on_a_stream_without_the_characters(small):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    policy = fit(small, Progress(stream=stream))
    lines = raw.getvalue().decode("ascii").splitlines()
    assert len(lines) == 4
    for line, record in zip(lines, policy.history_, strict=True):
        assert f"{record['return_mean']:.2f} +- {record['return_std']:.2f}, max {record['return_max']:.2f}" in line
    wide = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    fit(small, Progress(stream=wide))
    assert " ± " in wide.buffer.getvalue().decode()


def test_printing_where_there_is_no_standard_output(small, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert fit(small, verbose=1).n_generations_ == 4


def test_a_warning_that_cannot_be_printed_does_not_end_the_training_either(small, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", closed)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *_, **__: closed.write("warning"))
        assert fit(small, verbose=1).n_generations_ == 4


def test_an_error_that_warnings_are_made_to_be_ends_the_fit(small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="could not be written"):
            fit(small, Progress(stream=Full(OSError(28, "No space left on device"))))


def test_a_watchdog_that_rings_while_a_line_is_printed_is_heard(small):
    with pytest.raises(TimeoutError, match="barked"):
        fit(small, Progress(stream=Full(TimeoutError("the watchdog barked"))))


def test_a_watchdog_that_rings_while_a_checkpoint_is_saved_is_heard(small, tmp_path, monkeypatch):
    def bark(*_):
        raise TimeoutError("the watchdog barked")

    monkeypatch.setattr(os, "fsync", bark)
    with pytest.raises(TimeoutError, match="barked"):
        fit(small, Checkpoint(tmp_path / "c.ecp"))


def rows(path):
    with path.open() as stream:
        return [
            {name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(stream)
        ]


@pytest.mark.parametrize("full", [{2}, {2, 3}, {1, 2}, {4}, {1, 2, 3, 4}])
def test_csv_holds_the_history_again_after_the_disk_was_full(small, tmp_path, full):
    path, hidden = tmp_path / "log" / "log.csv", tmp_path / "elsewhere"
    path.parent.mkdir()
    seen = []

    def disk(view):  # the folder is gone while the disk is meant to be full
        if view.n_generations_ in full and path.parent.exists():
            path.parent.rename(hidden)
        elif view.n_generations_ not in full and hidden.exists():
            hidden.rename(path.parent)

    def look(view):
        if path.exists():
            seen.append(view.n_generations_)
            assert rows(path) == view.history_

    class Room:
        def __call__(self, view):
            return None

        def finish(self, view):
            if hidden.exists():
                hidden.rename(path.parent)

    with pytest.warns(RuntimeWarning) as caught:
        policy = fit(small, disk, Room(), CSVLog(path), look)
    assert seen == sorted({1, 2, 3, 4} - full)
    assert len(unwritten(caught)) == 1
    assert str(path) in unwritten(caught)[0]
    assert rows(path) == policy.history_


FULL_DISK = """
import resource, warnings
from pathlib import Path
import pytest
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import CSVLog, TensorBoardLog
from ecpolicy.networks import RSNN
from probes import Match

def room(view):  # files may have so many bytes: half of a row fits
    size = max((path.stat().st_size for path in Path().rglob("*") if path.is_file()), default=0)
    limit = size + 20 if view.n_generations_ in (2, 3, 4) else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    policy = EvolvingConnectivityPolicy(n_generations=7, population_size=8, network=RSNN(8), random_state=0,
        score_threshold=None).fit(Match, callbacks=[room, {log}])
assert [type(w.message) for w in caught] == [RuntimeWarning], [str(w.message) for w in caught]
assert "could not be written: OSError" in str(caught[0].message)
policy.save("policy.ecp")
"""


@pytest.mark.parametrize("log", ['CSVLog("log.csv")', 'TensorBoardLog("tb")'])
def test_logs_after_a_disk_was_full(tmp_path, log):
    program = FULL_DISK.replace("{log}", log)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(ecpolicy.__file__).parent.parent)])
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    history = ecpolicy.load(tmp_path / "policy.ecp").history_
    assert len(history) == 7
    if "CSV" in log:
        assert rows(tmp_path / "log.csv") == history
    else:
        *damaged, _ = sorted((tmp_path / "tb").iterdir())  # the last one begins by declaring these obsolete
        for path in damaged:
            path.unlink()
        logged = [(step, value) for tag, step, value in scalars(tmp_path / "tb") if tag == "ecpolicy/return_max"]
        assert logged == [(record["n_env_steps"], np.float32(record["return_max"])) for record in history]


def test_csv_mends_what_others_did_to_it(small, tmp_path):
    path = tmp_path / "log.csv"

    def meddle(view):
        if view.n_generations_ == 2:
            path.unlink()
        if view.n_generations_ == 3:
            path.write_text("")
        if view.n_generations_ == 4:
            with path.open("a") as stream:
                stream.write("1,2,3\n" * 100)

    policy = fit(small, meddle, CSVLog(path))
    assert rows(path) == policy.history_


@pytest.mark.parametrize("path", ["missing/log.csv", "."])
def test_a_csv_that_cannot_be_begun_raises_before_the_training(small, tmp_path, path):
    policy = EvolvingConnectivityPolicy(**small)
    with pytest.raises(OSError, match=r"No such file|Is a directory"):
        policy.fit(Match, callbacks=CSVLog(tmp_path / path))
    assert not hasattr(policy, "history_")


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
    files, threads = sorted((tmp_path / "tb").iterdir()), threading.active_count()
    policy.fit(Match, callbacks=log)
    assert sorted((tmp_path / "tb").iterdir()) == files
    assert threading.active_count() <= threads


def test_a_tensorboard_folder_that_cannot_be_made(small, tmp_path):
    (tmp_path / "tb").write_text("a file")
    with pytest.warns(RuntimeWarning) as caught:
        policy = fit(small, TensorBoardLog(tmp_path / "tb"))
    assert policy.n_generations_ == 4
    (message,) = unwritten(caught)
    assert str(tmp_path / "tb") in message

    def mend(view):
        if view.n_generations_ == 3:
            (tmp_path / "tb").unlink()

    with pytest.warns(RuntimeWarning) as caught:
        policy = fit(small, mend, TensorBoardLog(tmp_path / "tb"))
    assert len(unwritten(caught)) == 1
    logged = [(step, value) for tag, step, value in scalars(tmp_path / "tb") if tag == "ecpolicy/return_max"]
    assert logged == [(record["n_env_steps"], np.float32(record["return_max"])) for record in policy.history_]


@pytest.mark.parametrize("method", ["__init__", "add_scalar", "flush", "close"])
def test_a_tensorboard_writer_that_fails(small, tmp_path, monkeypatch, method):
    import tensorboardX

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboardX.SummaryWriter, method, fail)
    for _ in range(2):
        with pytest.warns(RuntimeWarning) as caught:
            policy = fit(small, TensorBoardLog(tmp_path / "tb"))
        assert len(unwritten(caught)) == 1
        assert policy.stop_reason_ == "n_generations"


def test_an_evaluation_that_cannot_save_the_best(small, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    evaluation = Evaluation(Match, every=1, n_episodes=3, seed=5, path=folder / "best.ecp")

    def disk(view):
        if view.n_generations_ == 1:
            shutil.rmtree(folder)
        elif view.n_generations_ == 2:
            folder.mkdir()

    with pytest.warns(RuntimeWarning, match=r"could not be saved.* Training goes on"):
        policy = fit(small, disk, evaluation)
    assert policy.n_generations_ == 4
    saved = ecpolicy.load(folder / "best.ecp")
    assert saved.score(Match, n_episodes=3, seed=5) == max(result.mean for result in evaluation.results[1:])


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
        network=RSNN(32), population_size=40, n_generations=6, random_state=0, score_threshold=None
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
    assert policy.stop_reason_ == "callback StableBaselines3"
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


class Records(BaseCallback):
    """Logs and prints at every step."""

    def __init__(self):
        super().__init__()
        self.formats = []

    def _on_step(self):
        sys.stdout.write(f"step {self.num_timesteps}\n")
        self.formats = [type(output) for output in self.logger.output_formats]
        self.logger.record("steps", self.num_timesteps)
        self.logger.info("a line")
        self.logger.dump(self.num_timesteps)
        return True


def test_a_log_of_stable_baselines3_that_fails_does_not_end_the_training(small, tmp_path, monkeypatch):
    class Failing(CSVOutputFormat):
        def write(self, *_):
            raise OSError(28, "No space left on device")

    failing = Failing(str(tmp_path / "failing.csv"))
    logger = Logger(str(tmp_path), [failing, CSVOutputFormat(str(tmp_path / "works.csv"))])
    monkeypatch.setattr(sys, "stdout", Full(BrokenPipeError(32, "Broken pipe")))
    records = Records()
    for _ in range(2):
        with pytest.warns(RuntimeWarning) as caught:
            policy = fit(small, StableBaselines3(records, logger=logger))
        assert policy.stop_reason_ == "n_generations"
        messages = unwritten(caught)
        assert ["OSError" in messages[0], "BrokenPipeError" in messages[0]].count(True) == 1
        assert len(messages) == 2
    assert records.formats == [Failing, CSVOutputFormat]
    with (tmp_path / "works.csv").open() as stream:
        steps = [float(row["steps"]) for row in csv.DictReader(stream)]
    assert steps == 2 * [record["n_env_steps"] for record in policy.history_]
    with pytest.raises(OSError, match="No space"):
        failing.write({}, {})


def test_errors_of_their_callbacks_are_not_those_of_a_log(small):
    class Raises(BaseCallback):
        def _on_step(self):
            raise OSError("their own")

    with pytest.raises(OSError, match="their own"):
        fit(small, StableBaselines3(Raises()))


# The command line

SIZES = ["--n-generations", "3", "--population-size", "8", "--network-n-neurons", "8"]
TRAIN = ["train", "CartPole-v1", *SIZES, "--overwrite"]


def command(folder, *arguments, **streams):
    given = [sys.executable, "-m", "ecpolicy", *TRAIN, "--score-episodes", "1", "--score-threshold", "1e9", *arguments]
    return subprocess.run(given, cwd=folder, text=True, check=False, timeout=120, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_command_line_on_a_full_disk(tmp_path):
    with Path("/dev/full").open("w") as full:
        ended = command(tmp_path, "--json", stdout=full, stderr=subprocess.PIPE)
        settings, *lines = ended.stderr.splitlines()
        assert settings.startswith("CartPole-v1 | ")
        assert ended.returncode == 1
        assert [line.partition(" could")[0] for line in lines] == [
            "ecpolicy: warning: A line of JSON",
            "ecpolicy train: error: No space left on device",
        ]
        assert ecpolicy.load(tmp_path / "CartPole-v1.ecp").n_generations_ == 3
        ended = command(tmp_path, stdout=full, stderr=subprocess.PIPE)
        assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, lines[-1])
        ended = command(tmp_path, "--json", stdout=subprocess.PIPE, stderr=full)
        assert ended.returncode == 0
        assert [json.loads(line)["event"] for line in ended.stdout.splitlines()] == [*["generation"] * 3, "end"]


def test_the_adapter_refuses_what_is_not_theirs(small):
    with pytest.raises(TypeError, match="Wanted callbacks of Stable-Baselines3, got"):
        StableBaselines3(print)

    class Steps(BaseCallback):
        def _on_step(self):
            self.training_env.reset()

    with pytest.raises(RuntimeError, match="no training environment"):
        fit(small, StableBaselines3(Steps()))
