"""Clean-up: the error that is raised is the first one, and what goes wrong afterwards is in its notes."""

import warnings

import optuna
import pytest

from ecpolicy import EpisodeError, EvolvingConnectivityPolicy
from ecpolicy.callbacks import Checkpoint, TensorBoardLog
from ecpolicy.cleanup import clean_up, cleaning_up
from probes import Broken, Match


def raises(error):
    def step(*_):
        raise error

    return step


class Finish:
    """A callback whose finish does something."""

    def __init__(self, does, log=None):
        self.does, self.log = does, [] if log is None else log

    def __call__(self, view):
        return None

    def finish(self, view):
        self.log.append(self)
        self.does()


def test_all_steps_are_done_and_the_first_error_is_raised():
    done = []
    with pytest.raises(OSError, match="disk") as caught:
        clean_up(lambda: done.append(1), raises(OSError("disk")), raises(KeyError("key")), lambda: done.append(2))
    assert done == [1, 2]
    assert caught.value.__notes__ == ["While cleaning up: KeyError: 'key'"]
    clean_up(lambda: done.append(3))
    clean_up()
    assert done == [1, 2, 3]


@pytest.mark.parametrize("kind", [ZeroDivisionError, optuna.TrialPruned, KeyboardInterrupt, SystemExit])
def test_what_is_on_its_way_stays_the_error(kind):
    error, done = kind("first"), []
    with pytest.raises(kind) as caught, cleaning_up(raises(OSError("disk")), lambda: done.append(1)):
        raise error
    assert caught.value is error
    assert error.__notes__ == ["While cleaning up: OSError: disk"]
    assert done == [1]
    assert error.__context__ is None


def test_the_same_error_again_is_no_note():
    error = OSError("disk")
    with pytest.raises(OSError, match="disk"), cleaning_up(raises(error)):
        raise error
    assert not hasattr(error, "__notes__")


def test_an_error_whose_text_cannot_be_made_is_a_note_all_the_same():
    class MuteError(Exception):
        def __str__(self):
            raise ValueError("no text")

    with pytest.raises(OSError, match="disk") as caught:
        clean_up(raises(OSError("disk")), raises(MuteError()))
    assert "MuteError" in caught.value.__notes__[0]


@pytest.mark.parametrize("on_its_way", [True, False])
def test_an_interrupt_while_cleaning_up_interrupts_after_all_steps(on_its_way):
    done = []
    first = raises(OSError("disk"))
    steps = [raises(KeyboardInterrupt()), lambda: done.append(1)]
    with pytest.raises(KeyboardInterrupt) as caught:  # noqa: PT012
        if on_its_way:
            with cleaning_up(*steps):
                first()
        else:
            clean_up(first, *steps)
    assert done == [1]
    if on_its_way:
        assert isinstance(caught.value.__context__, OSError)
    else:
        assert caught.value.__notes__ == ["While cleaning up: OSError: disk"]


def test_a_warning_that_is_an_error_does_not_replace_the_error():
    def warn():
        warnings.warn("left open", ResourceWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError) as caught, cleaning_up(warn):
            _ = 1 / 0
    assert caught.value.__notes__ == ["While cleaning up: ResourceWarning: left open"]


@pytest.mark.parametrize("kind", [ZeroDivisionError, optuna.TrialPruned, KeyboardInterrupt])
def test_the_finish_of_callbacks_does_not_replace_an_error(small, kind):
    log = []
    ends = [Finish(raises(OSError("disk")), log), Finish(raises(ValueError("closed")), log), Finish(lambda: None, log)]
    policy = EvolvingConnectivityPolicy(**small)
    with pytest.raises(kind) as caught:
        policy.fit(Match, callbacks=[*ends, raises(kind("first"))])
    assert log == ends
    (note,) = caught.value.__notes__
    assert "OSError: disk" in note
    assert "ValueError: closed" in note
    assert policy.score(Match) >= 0


def test_the_errors_of_finish_are_raised_where_nothing_else_went_wrong(small):
    log = []
    ends = [Finish(raises(OSError("disk")), log), Finish(raises(ValueError("closed")), log), Finish(lambda: None, log)]
    policy = EvolvingConnectivityPolicy(**small)
    with pytest.raises(OSError, match="disk") as caught:
        policy.fit(Match, callbacks=ends)
    assert log == ends
    assert caught.value.__notes__ == ["While cleaning up: ValueError: closed"]
    assert policy.stop_reason_ == "n_generations"


def test_a_last_save_that_fails_does_not_hide_the_environment(small, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def remove(view):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    checkpoint = Checkpoint(folder / "c.ecp", every=100)
    with pytest.raises(EpisodeError, match="the plant exploded") as caught:
        EvolvingConnectivityPolicy(**{**small, "n_generations": 50}).fit(
            Broken("raises", after=150), callbacks=[checkpoint, lambda view: view.n_generations_ == 1 and remove(view)]
        )
    assert "could not be saved" in caught.value.__notes__[0]


def test_pruning_stays_pruning_where_tensorboard_has_not_begun(small, tmp_path):
    def objective(trial):
        EvolvingConnectivityPolicy(**small).fit(
            Match, callbacks=[raises(optuna.TrialPruned()), TensorBoardLog(tmp_path / "tb")]
        )

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    study.optimize(objective, n_trials=1)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"]
