"""Saving and loading: equal policies, no code run, every kind of damage named, old file or new."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

import ecpolicy
from ecpolicy import EvolvingConnectivityPolicy, ModelFileError, persistence
from probes import Match, Spaces

load = EvolvingConnectivityPolicy.load


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "match.ecp"
    fitted.save(path)
    return path


def test_a_loaded_policy_acts_the_same(fitted, saved):
    loaded = load(saved)
    assert loaded.get_params() == fitted.get_params()
    for name in fitted.connectivity_:
        np.testing.assert_array_equal(loaded.connection_probabilities_[name], fitted.connection_probabilities_[name])
    for name in ("seed_", "history_", "n_env_steps_", "n_features_in_", "stop_reason_", "deployed_generation_"):
        assert getattr(loaded, name) == getattr(fitted, name)
    np.testing.assert_array_equal(loaded.episode_returns(Match), fitted.episode_returns(Match))
    observation, ours, theirs = np.ones(1, np.float32), None, None
    for _ in range(10):
        (a, ours), (b, theirs) = fitted.predict(observation, ours), loaded.predict(observation, theirs)
        assert a == b
        np.testing.assert_array_equal(ours.network.v, theirs.network.v)


def test_equal_policies_give_equal_files(fitted, saved, tmp_path):
    load(saved).save(tmp_path / "again.ecp")
    assert (tmp_path / "again.ecp").read_bytes() == saved.read_bytes()


def test_files_are_numpy_archives_of_plain_data(saved):
    with np.load(saved, allow_pickle=False) as archive:
        assert archive["best/parameters/recurrent"].shape == (32, 32)
        assert json.loads(archive["policy.json"])["format"] == "ecpolicy"


def test_other_spaces_survive(small, tmp_path):
    space = gym.spaces.Dict({"x": gym.spaces.Box(-np.inf, np.inf, (2,)), "m": gym.spaces.MultiBinary(3)})
    action = gym.spaces.Box(np.float32([-2, 0]), np.float32([2, np.inf]))
    policy = EvolvingConnectivityPolicy(**{**small, "n_generations": 1}).fit(lambda: Spaces(space, action))
    policy.save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert (loaded.observation_space_, loaded.action_space_) == (space, action)


def test_parameters_that_are_schedules_or_numpy_numbers_survive(small, tmp_path):
    small |= {
        "max_episode_steps": [(0, np.int64(4)), (100, 6)],
        "learning_rate": np.float64(0.25),
        "n_neurons": np.int64(8),
    }
    EvolvingConnectivityPolicy(**small).fit(Match).save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert loaded.learning_rate == 0.25
    assert loaded.set_params(warm_start=True, n_generations=5).fit(Match).n_generations_ == 5


def test_a_policy_acts_as_trained_whatever_its_parameters_say_now(small, tmp_path):
    policy = EvolvingConnectivityPolicy(**small).fit(Match)
    expected = policy.episode_returns(Match)
    policy.set_params(gain_in=2.0, n_neurons=16, normalize_observations=False, optimizer="sgd")
    np.testing.assert_array_equal(policy.episode_returns(Match), expected)
    policy.save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert loaded.n_neurons == 16
    np.testing.assert_array_equal(loaded.episode_returns(Match), expected)
    with pytest.raises(ValueError, match="Training so far was of matrices"):
        loaded.partial_fit(Match)


def test_numpy_scalars_resume_bit_for_bit(small, tmp_path):
    small |= {"learning_rate": np.float32(0.05), "eps": np.float32(0.01)}
    whole = EvolvingConnectivityPolicy(**{**small, "n_generations": 8}).fit(Match)
    EvolvingConnectivityPolicy(**small).fit(Match).save(tmp_path / "p.ecp")
    resumed = load(tmp_path / "p.ecp").set_params(warm_start=True, n_generations=8).fit(Match)
    for name, p in whole._training.search.parameters.items():
        np.testing.assert_array_equal(resumed._training.search.parameters[name], p)


def test_large_and_constant_arrays_can_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "SMALL", 1 << 20)
    arrays = {"a": np.zeros(1 << 20)}  # would be compressed a thousandfold
    persistence.write(tmp_path / "p.ecp", {}, arrays)
    _, again = persistence.read(tmp_path / "p.ecp")
    np.testing.assert_array_equal(again["a"], arrays["a"])


def test_what_could_not_be_read_again_is_not_saved(fitted, tmp_path, monkeypatch):
    fitted.save(tmp_path / "p.ecp")
    before = (tmp_path / "p.ecp").read_bytes()
    monkeypatch.setattr(persistence, "LIMIT", 1000)
    with pytest.raises(ValueError, match="history is too long for a model file"):
        fitted.save(tmp_path / "p.ecp")
    assert (tmp_path / "p.ecp").read_bytes() == before


def test_an_unfitted_policy_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        EvolvingConnectivityPolicy().save(tmp_path / "p.ecp")
    assert not list(tmp_path.iterdir())


# Damage


def rewrite(saved, tmp_path, *, document=None, arrays=None, drop=()):
    """A copy of the file with parts replaced."""
    path = tmp_path / "changed.ecp"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if name in drop:
                continue
            content = source.read(name)
            if name == "policy.json" and document is not None:
                changed = json.loads(content)
                document(changed)
                content = json.dumps(changed).encode()
            if arrays and name in arrays:
                buffer = io.BytesIO()
                np.save(buffer, arrays[name], allow_pickle=True)
                content = buffer.getvalue()
            target.writestr(name, content)
    return path


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_pickles_are_refused_and_not_run(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {"plain.ecp": pickle.dumps(Bomb()), "numpy.ecp": None}.items():
        if content is None:
            np.save(name, np.array([Bomb()], dtype=object), allow_pickle=True)
            name += ".npy"
        else:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match="not a usable ecpolicy model file"):
            load(name)
    changed = rewrite(saved, tmp_path, arrays={"search/parameters/input.npy": np.array([Bomb()], dtype=object)})
    with pytest.raises(ModelFileError):
        load(changed)
    assert not (tmp_path / "exploded").exists()


def nested_tuples(depth):
    space = {"kind": "Discrete", "n": 2, "start": 0, "dtype": "<i8"}
    for _ in range(depth):
        space = {"kind": "Tuple", "spaces": [space]}
    return space


def no_change(document):
    document["generation"] = document["generation"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(format="other"), "does not say format"),
        (lambda d: d.update(version=99), "format version 99; this release reads version 1"),
        (lambda d: d.update({"class": "ESPolicy"}), "holds a ESPolicy"),
        (lambda d: d["parameters"].pop("eps"), "parameters differ .*eps"),
        (lambda d: d["parameters"].update(evil=1), "parameters differ .*evil"),
        (lambda d: d["network"].update(n_neurons=33), "wanted <f4 \\(2, 33\\)"),
        (lambda d: d["parameters"].update(n_neurons="many"), "n_neurons must be"),
        (lambda d: d["parameters"].update(optimizer="sgd_"), "optimizer must be one of"),
        (lambda d: d["arrays"].pop("search/observations/mean"), "'search/observations/mean' is missing"),
        (lambda d: d["arrays"]["search/observations/mean"].update(shape=[2]), "listed size|listed is"),
        (lambda d: d["arrays"]["search/observations/mean"].update(dtype="|O"), "has dtype '\\|O'"),
        (lambda d: d["arrays"]["search/observations/mean"].update(dtype="nonsense"), "has dtype 'nonsense'"),
        (lambda d: d["arrays"]["search/observations/mean"].update(shape=[-1]), "has dtype '<f8' and shape"),
        (lambda d: d["observation_space"].update(kind="Sphere"), "impossible space"),
        (lambda d: d["observation_space"].update(shape=[1, "x"]), "impossible space"),
        (lambda d: d["action_space"].update(n=-1), "impossible space"),
        (lambda d: d.update(seed=-1), "its seed is -1"),
        (lambda d: d.update(seed="0"), "its seed is '0'"),
        (lambda d: d.update(generation=None), "its generation is None"),
        (lambda d: d["best"].update(score=float("nan")), "its score is nan"),
        (lambda d: d.update(history={}), "history"),
        (lambda d: d.pop("best"), "KeyError: 'best'"),
        (lambda d: d.update(arrays=[]), "AttributeError"),
        (lambda d: d["arrays"]["search/observations/mean"].update(shape=[float("inf")]), "and shape \\[inf"),
        (lambda d: d["observation_space"].update(shape=[10**13]), "impossible space"),
        (lambda d: d.update(observation_space=nested_tuples(400)), "RecursionError|impossible space"),
        (lambda d: d["network"].update(dt=1e-9), "dt must give"),
        (lambda d: d["network"].pop("dt"), "network is incomplete"),
        (lambda d: d["network"].update(kind="mlp"), "network is incomplete or of an unknown kind"),
        (lambda d: d.update(network="rsnn"), "its network is 'rsnn'"),
        (lambda d: d["setting"].pop("optimizer"), "setting is incomplete"),
        (lambda d: d.update(network={"own": "os.system"}), "trained with the network 'os.system': give it"),
        (lambda d: d["parameters"].update(n_jobs={"a": 1}), "n_jobs must be"),
        (lambda d: d["parameters"].update(random_state="q"), "random_state must be"),
        (lambda d: d.update(stop_reason={"x": 1}), "stop_reason"),
        (lambda d: d.update(history=[{}] * 3), "one record per generation"),
        (lambda d: d["history"][1].update(return_mean="high"), "return_mean is 'high'"),
        (lambda d: d.update(environments=3), "its environments are 3"),
        (lambda d: d.pop("arrays"), "KeyError: 'arrays'"),
    ],
)
def test_changed_documents_are_named(saved, tmp_path, edit, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        load(rewrite(saved, tmp_path, document=edit))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("search/parameters/recurrent.npy", np.full((32, 32), 1.5, np.float32), "outside \\[0.0, 1.0\\]"),
        ("search/parameters/recurrent.npy", np.full((32, 32), np.nan, np.float32), "outside \\[0.0, 1.0\\]"),
        ("search/parameters/recurrent.npy", np.zeros((32, 32), np.int32), "listed is float32"),
        ("search/parameters/recurrent.npy", np.zeros((16, 64), np.float32), "listed is float32 \\(32, 32\\)"),
        ("optimizer/second/input.npy", np.full((2, 32), -1, np.float32), "outside"),
    ],
)
def test_changed_arrays_are_named(saved, tmp_path, name, array, message):
    with pytest.raises(ModelFileError, match=message):
        load(rewrite(saved, tmp_path, arrays={name: array}))


def test_missing_parts_are_named(saved, tmp_path):
    with pytest.raises(ModelFileError, match=r"holds no policy.json"):
        load(rewrite(saved, tmp_path, drop=["policy.json"]))
    with pytest.raises(ModelFileError, match="is missing"):
        load(rewrite(saved, tmp_path, drop=["best/parameters/input.npy"]))


def test_an_unchanged_rewrite_loads(saved, tmp_path):
    """The damage above is what is refused, not the rewriting."""
    load(rewrite(saved, tmp_path, document=no_change))


def test_a_file_of_any_class_is_loaded(fitted, saved, tmp_path):
    assert type(ecpolicy.load(saved)) is EvolvingConnectivityPolicy
    assert ecpolicy.load(saved).history_ == fitted.history_
    for name in ("SomebodyElse", "os.system", ["ESPolicy"], None):
        changed = rewrite(saved, tmp_path, document=lambda d, name=name: d.update({"class": name}))
        with pytest.raises(ModelFileError, match="which this release does not know"):
            ecpolicy.load(changed)


def test_no_file_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.ecp")
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(100), bytes(1000)):
        (tmp_path / "foreign.ecp").write_bytes(content)
        with pytest.raises(ModelFileError, match="not a usable ecpolicy model file"):
            load(tmp_path / "foreign.ecp")
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    with pytest.raises(ModelFileError, match=r"holds no policy.json"):
        load(tmp_path / "arrays.npz")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_refused(saved, tmp_path, share):
    content = saved.read_bytes()
    (tmp_path / "short.ecp").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError):
        load(tmp_path / "short.ecp")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_harmless(fitted, saved, tmp_path, where, flip):
    content = bytearray(saved.read_bytes())
    content[int(where * len(content))] ^= flip
    (tmp_path / "flipped.ecp").write_bytes(content)
    try:
        loaded = load(tmp_path / "flipped.ecp")
    except ModelFileError:
        return
    for name, p in fitted.connection_probabilities_.items():  # an unread byte of the archive's bookkeeping
        np.testing.assert_array_equal(loaded.connection_probabilities_[name], p)


# Atomic saves


def test_a_failed_save_leaves_the_old_file_and_no_other(fitted, saved, tmp_path, monkeypatch):
    path = tmp_path / "p.ecp"
    path.write_bytes(saved.read_bytes())

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(persistence.np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        fitted.save(path)
    assert path.read_bytes() == saved.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_while_saving_leaves_the_old_file(saved, tmp_path):
    path = tmp_path / "p.ecp"
    path.write_bytes(saved.read_bytes())
    code = (
        "import os, sys; from ecpolicy import EvolvingConnectivityPolicy as P, persistence\n"
        "policy = P.load(sys.argv[1]); persistence.os.fsync = lambda _: os._exit(7)\n"
        "policy.save(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 7
    assert path.read_bytes() == saved.read_bytes()
