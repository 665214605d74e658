"""Checkpoints and going on from them: nothing is lost, and nothing differs from an uninterrupted fit."""

import errno
import os
import resource
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import ecpolicy
import faults
from ecpolicy import EpisodeError, ESPolicy, EvolvingConnectivityPolicy, ModelFileError, SurrogateGradientPPOPolicy
from ecpolicy.callbacks import Checkpoint
from ecpolicy.networks import GRU, RealRSNN
from learnt import fingerprint
from probes import Broken, Lengths, Match

KINDS = {"EC": (EvolvingConnectivityPolicy, {}), "ES": (ESPolicy, {"network": GRU(8)})}


@pytest.fixture(params=KINDS)
def make(request, small):
    """A function that makes a policy, of either evolving estimator."""
    kind, changes = KINDS[request.param]
    return lambda **further: kind(**{**small, **changes, **further})


@pytest.fixture
def file(tmp_path):
    return tmp_path / "training.ecp"


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_a_resumed_fit_equals_an_uninterrupted_one(make, file, generation):
    expected = make(n_generations=6).fit(Lengths)
    make(n_generations=generation).fit(Lengths, callbacks=Checkpoint(file))
    resumed = make(n_generations=6).fit(Lengths, resume_from=file)
    assert fingerprint(resumed) == fingerprint(expected)
    assert resumed.deployed_generation_ == expected.deployed_generation_
    assert resumed.stop_reason_ == "n_generations"


def test_the_same_command_starts_and_goes_on(make, file):
    checkpoint = Checkpoint(file, every=2)

    def run(n_generations):
        return make(n_generations=n_generations).fit(Lengths, callbacks=checkpoint, resume_from=checkpoint)

    for n_generations in (1, 3, 3, 5):
        policy = run(n_generations)
        assert policy.n_generations_ == n_generations
    assert fingerprint(policy) == fingerprint(make(n_generations=5).fit(Lengths))


def test_the_same_command_with_observation_statistics(make, file):
    checkpoint, statistics = Checkpoint(file), (np.full(1, 0.5), np.ones(1), 100)

    def run(n_generations):
        policy = make(n_generations=n_generations)
        return policy.fit(Match, callbacks=checkpoint, resume_from=checkpoint, observation_statistics=statistics)

    run(1)
    expected = make(n_generations=3).fit(Match, observation_statistics=statistics)
    assert fingerprint(run(3)) == fingerprint(expected)
    with pytest.raises(ValueError, match="has its own"):
        make().fit(Match, resume_from=file, observation_statistics=statistics)


def test_a_seed_drawn_from_nothing_goes_on_as_well(make, file):
    first = make(random_state=None, n_generations=2).fit(Match, callbacks=Checkpoint(file))
    one = first.set_params(warm_start=True, n_generations=4).fit(Match)
    other = make(random_state=None).fit(Match, resume_from=file)
    assert fingerprint(one) == fingerprint(other)


def test_parameters_may_change_and_the_policy_keeps_its_own(make, file):
    make(n_generations=2).fit(Match, callbacks=Checkpoint(file))
    policy = make(n_generations=3, learning_rate=0.5).fit(Match, resume_from=file)
    assert policy.learning_rate == 0.5
    assert policy.n_generations_ == 3
    assert fingerprint(policy) != fingerprint(make(n_generations=3).fit(Match))


def test_what_was_saved_is_there_where_the_first_generation_fails(make, file):
    saved = make(n_generations=2).fit(Match, callbacks=Checkpoint(file))
    policy = make()
    with pytest.raises(EpisodeError), pytest.warns(UserWarning, match=r"continues a training on probes.Match"):
        policy.fit(lambda: Broken("raises"), resume_from=file)
    assert fingerprint(policy) == fingerprint(saved)
    assert policy.stop_reason_ == "error"
    np.testing.assert_array_equal(policy.episode_returns(Match), saved.episode_returns(Match))


def test_what_cannot_go_on_says_why_and_changes_nothing(make, file, tmp_path):
    make(n_generations=2).fit(Match, callbacks=Checkpoint(file))
    policy = make(random_state=7, n_generations=1).fit(Match)
    before, own_size = fingerprint(policy), {"network": policy.network}
    with pytest.raises(ValueError, match=r"continues a training of random_state=0; random_state is now 7"):
        policy.fit(Match, resume_from=file)
    policy.set_params(random_state=0)
    with pytest.raises(ValueError, match="Training so far was for the observation_space"):
        policy.fit("CartPole-v1", resume_from=file)
    with pytest.raises(ValueError, match="Training so far was of matrices"):
        policy.set_params(network__n_neurons=16).fit(Match, resume_from=file)
    with pytest.raises(FileNotFoundError):
        policy.fit(Match, resume_from=tmp_path / "nowhere.ecp")
    with pytest.raises(TypeError, match="resume_from must be the path of a saved policy or a Checkpoint; got 5"):
        policy.fit(Match, resume_from=5)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelFileError):
        policy.fit(Match, resume_from=file)
    with pytest.raises(ModelFileError), pytest.warns(RuntimeWarning, match="Trying the checkpoint before it"):
        policy.fit(Match, resume_from=Checkpoint(file))
    with pytest.raises(ValueError, match="observation_statistics are for a new training"):
        policy.set_params(warm_start=True, **own_size).fit(Match, observation_statistics=([0.0], [1.0], 10))
    assert fingerprint(policy) == before


def test_ppo_goes_on_from_a_checkpoint(file):
    """From the same weights, optimiser, statistics and history; its environments start new episodes."""
    settings = {"network": RealRSNN(8, step_ms=2.0), "n_envs": 4, "n_steps": 8, "eval_every": 1, "random_state": 0}
    saved = SurrogateGradientPPOPolicy(**settings, max_env_steps=64).fit(Match, callbacks=Checkpoint(file))
    resumed = SurrogateGradientPPOPolicy(**settings, max_env_steps=96).fit(Match, resume_from=file)
    assert resumed.history_[:2] == saved.history_
    assert resumed.n_updates_ == 3
    warm = saved.set_params(warm_start=True, max_env_steps=96).fit(Match)
    assert fingerprint(resumed) == fingerprint(warm)


# Checkpoints


def test_a_transient_error_is_not_taken_for_damage(small, file, monkeypatch):
    checkpoint = Checkpoint(file, keep=2)
    EvolvingConnectivityPolicy(**{**small, "n_generations": 3}).fit(Match, callbacks=checkpoint)
    policy = EvolvingConnectivityPolicy(**small)
    for where in ("open", "stat"):
        plain = getattr(Path, where)

        def fail(path, *args, plain=plain, **kwargs):
            if path == file:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return plain(path, *args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(Path, where, fail)
            with pytest.raises(OSError, match="Input/output error"):
                policy.fit(Match, resume_from=checkpoint)
    assert not hasattr(policy, "history_")


def test_a_checkpoint_of_a_newer_version_is_not_passed_over(small, file):
    checkpoint = Checkpoint(file, keep=2)
    EvolvingConnectivityPolicy(**{**small, "n_generations": 3}).fit(Match, callbacks=checkpoint)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["policy.json"] = members["policy.json"].replace(b'"version": 3', b'"version": 4')
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelFileError, match=r"version 4; this release reads versions 1 to 3\. Upgrade ecpolicy"):
        EvolvingConnectivityPolicy(**small).fit(Match, resume_from=checkpoint)


def test_rotation(small, file, tmp_path):
    checkpoint = Checkpoint(file, keep=3)
    seen = []

    def look(view):
        seen.append([ecpolicy.load(path).n_generations_ for path in checkpoint.files()])

    EvolvingConnectivityPolicy(**{**small, "n_generations": 5}).fit(Match, callbacks=[checkpoint, look])
    assert seen == [[1], [2, 1], [3, 2, 1], [4, 3, 2], [5, 4, 3]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training.1.ecp", "training.2.ecp", "training.ecp"]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(small, file):
    checkpoint = Checkpoint(file, keep=2)
    EvolvingConnectivityPolicy(**{**small, "n_generations": 3}).fit(Match, callbacks=checkpoint)
    file.write_bytes(b"lost")
    policy = EvolvingConnectivityPolicy(**small)
    with pytest.warns(RuntimeWarning, match=r"not a usable ecpolicy model file.*Trying the checkpoint before it"):
        policy.fit(Match, resume_from=checkpoint)
    assert fingerprint(policy) == fingerprint(EvolvingConnectivityPolicy(**small).fit(Match))


def test_checkpoints_by_time(small, file, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("ecpolicy.callbacks.checkpoint.monotonic", lambda: clock[0])
    saved = []

    def tick(view):
        saved.append(ecpolicy.load(file).n_generations_ if file.exists() else None)
        clock[0] += 10

    checkpoint = Checkpoint(file, every=None, seconds=15)
    EvolvingConnectivityPolicy(**{**small, "n_generations": 6}).fit(Match, callbacks=[checkpoint, tick])
    assert saved == [None, None, 3, 3, 5, 5]
    assert ecpolicy.load(file).n_generations_ == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"every": None}, "both None"), ({"every": 0}, "every must be"), ({"seconds": 0}, "seconds must be"),
     ({"keep": 0}, "keep must be"), ({"every": 1.5}, "every must be")],
)  # fmt: skip
def test_bad_checkpoints(file, arguments, message):
    with pytest.raises(ValueError, match=message):
        Checkpoint(file, **arguments)


# Disks


@contextmanager
def largest_file(n_bytes):
    """Writing beyond so many bytes fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(folder):
    """Nothing can be written to a folder, also not by root, who becomes somebody else."""
    root = os.geteuid() == 0
    folder.chmod(0o555)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_full_disk_leaves_the_old_file_and_the_policy(fitted, file, tmp_path):
    fitted.save(file)
    before = file.read_bytes()
    with (
        largest_file(1000),
        pytest.raises(OSError, match=r"could not be saved: File too large. The file that was there"),
    ):
        fitted.save(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    assert fitted.score(Match) >= 0


def test_a_read_only_folder(fitted, folder_for_all):
    folder = folder_for_all
    fitted.save(folder / "p.ecp")
    before = (folder / "p.ecp").read_bytes()
    with read_only(folder):
        with pytest.raises(
            PermissionError, match=r"p.ecp could not be saved: Permission denied. The file that was there"
        ):
            fitted.save(folder / "p.ecp")
        with pytest.raises(
            PermissionError, match=r"new.ecp could not be saved: Permission denied. Nothing was written"
        ):
            fitted.save(folder / "new.ecp")
    assert (folder / "p.ecp").read_bytes() == before
    assert len(list(folder.iterdir())) == 1


@pytest.fixture
def folder_for_all():
    """A folder that others than its owner can look into, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_missing_folder(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"its folder .*nowhere does not exist. Nothing was written"):
        fitted.save(tmp_path / "nowhere" / "p.ecp")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        fitted.save(tmp_path)


def test_a_fit_does_not_begin_where_its_checkpoints_could_not_be_saved(small, tmp_path):
    policy = EvolvingConnectivityPolicy(**small)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        policy.fit(Match, callbacks=Checkpoint(tmp_path / "nowhere" / "p.ecp"))
    assert not hasattr(policy, "history_")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        policy.fit(Match, callbacks=Checkpoint(tmp_path))


def test_training_outlasts_a_disk_that_is_full_for_a_while(small, file):
    limits = []

    def fill_and_empty(view):
        if view.n_generations_ == 1:
            limits.append(largest_file(1000))
            limits[0].__enter__()
        if view.n_generations_ == 3:
            limits[0].__exit__(None, None, None)

    with pytest.warns(RuntimeWarning, match=r"could not be saved: File too large.* Training goes on") as caught:
        policy = EvolvingConnectivityPolicy(**small).fit(Match, callbacks=[Checkpoint(file), fill_and_empty])
    assert len(caught) == 2
    assert fingerprint(ecpolicy.load(file)) == fingerprint(policy) == fingerprint(
        EvolvingConnectivityPolicy(**small).fit(Match)
    )  # fmt: skip


def test_a_disk_that_stays_lost_is_an_error_in_the_end_and_the_policy_is_whole(small, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    policy = EvolvingConnectivityPolicy(**small)
    remove = lambda view: view.n_generations_ == 2 and shutil.rmtree(folder) and False  # noqa: E731
    with (
        pytest.warns(RuntimeWarning, match="Training goes on"),
        pytest.raises(FileNotFoundError, match="does not exist"),
    ):
        policy.fit(Match, callbacks=[Checkpoint(folder / "p.ecp"), remove])
    assert policy.n_generations_ == 4
    assert policy.stop_reason_ == "n_generations"
    policy.save(tmp_path / "elsewhere.ecp")


def test_failing_saves_keep_the_older_files(small, file, tmp_path):
    checkpoint = Checkpoint(file, keep=3)
    EvolvingConnectivityPolicy(**{**small, "n_generations": 3}).fit(Match, callbacks=checkpoint)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert [ecpolicy.load(path).n_generations_ for path in checkpoint.files()] == [3, 2, 1]
    with (
        largest_file(1000),
        pytest.warns(RuntimeWarning, match="Training goes on"),
        pytest.raises(OSError, match="File too large"),
    ):
        EvolvingConnectivityPolicy(**{**small, "n_generations": 6}).fit(
            Match, callbacks=checkpoint, resume_from=checkpoint
        )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_killed_processes_left_is_removed_in_time(fitted, file, tmp_path):
    old, young, other = (tmp_path / name for name in (".training.ecp.a.tmp", ".training.ecp.b.tmp", ".x.ecp.a.tmp"))
    for left in (old, young, other):
        left.write_bytes(b"half")
    for left in (old, other):
        os.utime(left, (1, 1))
    fitted.save(file)
    assert sorted(tmp_path.iterdir()) == sorted([young, other, file])


@pytest.mark.slow
def test_a_killed_training_is_resumed_bit_for_bit():
    """The full number of kills is in benchmarks/faults.py."""
    lines = []
    assert faults.kill_trainings("CartPole-v1", kills=2, seed=1, report=lines.append) == 2
    assert len(lines) == 2
