"""Saving and loading: equal policies, no code run, every kind of damage named, old file or new."""

import copy
import errno
import io
import json
import os
import pickle
import resource
import stat
import subprocess
import sys
import zipfile
from fractions import Fraction
from types import MappingProxyType

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

import ecpolicy
from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, ModelFileError, SurrogateGradientPPOPolicy
from ecpolicy.callbacks import Checkpoint, Evaluation
from ecpolicy.cli import main
from ecpolicy.distributions.distribution import LARGE
from ecpolicy.files import archive
from ecpolicy.inspection import ConnectionProbabilityDisplay, LearningCurveDisplay, record_activity
from ecpolicy.networks import GRU, LSTM, RSNN, RealRSNN
from ecpolicy.registered import registered_ids
from learnt import fingerprint, learnt
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
    with np.load(saved, allow_pickle=False) as held:
        assert held["best/parameters/recurrent"].shape == (32, 32)
        assert json.loads(held["policy.json"])["format"] == "ecpolicy"


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
        "network": RSNN(np.int64(8)),
    }
    EvolvingConnectivityPolicy(**small).fit(Match).save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert loaded.learning_rate == 0.25
    assert loaded.set_params(warm_start=True, n_generations=5).fit(Match).n_generations_ == 5


def test_a_policy_acts_as_trained_whatever_its_parameters_say_now(small, tmp_path):
    policy = EvolvingConnectivityPolicy(**small).fit(Match)
    expected = policy.episode_returns(Match)
    policy.set_params(network__gain_in=2.0, network__n_neurons=16, normalize_observations=False, optimizer="sgd")
    np.testing.assert_array_equal(policy.episode_returns(Match), expected)
    policy.save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert loaded.network == RSNN(16, gain_in=2.0)
    np.testing.assert_array_equal(loaded.episode_returns(Match), expected)
    with pytest.raises(ValueError, match="Training so far was of matrices"):
        loaded.partial_fit(Match)


def test_numpy_scalars_resume_bit_for_bit(small, tmp_path):
    small |= {"learning_rate": np.float32(0.05), "eps": np.float32(0.01)}
    whole = EvolvingConnectivityPolicy(**{**small, "n_generations": 8}).fit(Match)
    EvolvingConnectivityPolicy(**small).fit(Match).save(tmp_path / "p.ecp")
    resumed = load(tmp_path / "p.ecp").set_params(warm_start=True, n_generations=8).fit(Match)
    assert fingerprint(resumed) == fingerprint(whole)


def test_large_and_constant_arrays_can_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "SMALL", 1 << 20)
    arrays = {"a": np.zeros(1 << 20)}  # would be compressed a thousandfold
    archive.write(tmp_path / "p.ecp", {}, arrays)
    _, again = archive.read(tmp_path / "p.ecp")
    np.testing.assert_array_equal(again["a"], arrays["a"])


def test_what_could_not_be_read_again_is_not_saved(fitted, tmp_path, monkeypatch):
    fitted.save(tmp_path / "p.ecp")
    before = (tmp_path / "p.ecp").read_bytes()
    monkeypatch.setattr(archive, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"was not saved, .* its description is too long for a model file"):
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
    document["seed"] = document["seed"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(format="other"), "does not say format"),
        (lambda d: d.update(version=99), "format version 99; this release reads versions 1 to 3. Upgrade ecpolicy"),
        (lambda d: d.update(version=True), "format version True"),
        (lambda d: d.update(version=0), "format version 0; this release reads versions 1 to 3"),
        (lambda d: d.update({"class": "ESPolicy"}), "of the class 'ESPolicy'; wanted"),
        (lambda d: d["parameters"].update(evil=1), "parameters \\['evil'\\] are unknown"),
        (lambda d: d.update(parameters=[]), "its parameters are \\[\\]"),
        (lambda d: d["network"].update(n_neurons=33), "wanted <f4 \\(2, 33\\)"),
        (lambda d: d["parameters"]["network"].update(n_neurons="many"), "n_neurons must be"),
        (lambda d: d["parameters"].update(optimizer="sgd_"), "optimizer must be one of"),
        (lambda d: d["arrays"].pop("search/moments/mean"), "'search/moments/mean' is missing"),
        (lambda d: d["arrays"]["search/moments/mean"].update(shape=[2]), "listed size|listed is"),
        (lambda d: d["arrays"]["search/moments/mean"].update(dtype="|O"), "has dtype '\\|O'"),
        (lambda d: d["arrays"]["search/moments/mean"].update(dtype="nonsense"), "has dtype 'nonsense'"),
        (lambda d: d["arrays"]["search/moments/mean"].update(shape=[-1]), "has dtype '<f8' and shape"),
        (lambda d: d["observation_space"].update(kind="Sphere"), "impossible space"),
        (lambda d: d["observation_space"].update(shape=[1, "x"]), "impossible space"),
        (lambda d: d["action_space"].update(n=-1), "impossible space"),
        (lambda d: d.update(seed=-1), "its seed is -1"),
        (lambda d: d.update(seed="0"), "its seed is '0'"),
        (lambda d: d["training"]["search"].update(generation=None), "its search/generation is None"),
        (lambda d: d["training"]["best"].update(score=float("nan")), "its best/score is nan"),
        (lambda d: d["training"]["best"].update(generation=5), "its content has parts that do not go together"),
        (lambda d: d["training"]["search"]["optimizer"].update(updates=-1), "its search/optimizer/updates is -1"),
        (lambda d: d["training"].update(search=[]), "its search is \\[\\]"),
        (lambda d: d["training"].update(evil=1), "has the unknown entries \\['evil'\\]"),
        (lambda d: d["arrays"].update({"history/seconds": {"dtype": "<f8", "shape": [3]}}), "listed size|listed is"),
        (lambda d: d["training"].pop("best"), "its best is missing"),
        (lambda d: d.pop("training"), "KeyError: 'deployed'"),
        (lambda d: d.update(arrays=[]), "AttributeError"),
        (lambda d: d["arrays"]["search/moments/mean"].update(shape=[float("inf")]), "and shape \\[inf"),
        (lambda d: d["observation_space"].update(shape=[10**13]), "impossible space"),
        (lambda d: d.update(observation_space=nested_tuples(400)), "RecursionError|impossible space"),
        (lambda d: d["network"].update(dt=1e-9), "dt must give"),
        (lambda d: d["network"].pop("n_neurons"), "network has no size"),
        (lambda d: d["network"].update(evil=1), "unknown settings \\['evil'\\]"),
        (lambda d: d["network"].update(kind="mlp"), "network is of the unknown kind 'mlp'"),
        (lambda d: d.update(network="rsnn"), "its network is 'rsnn'"),
        (lambda d: d["setting"].pop("optimizer"), "its setting/optimizer is missing"),
        (lambda d: d["setting"].update(optimizer="mine"), "trained by the optimizer 'mine'; this program has"),
        (lambda d: d.update(network={"own": "os.system"}), "trained with the network 'os.system': give it"),
        (lambda d: d["parameters"].update(random_state="q"), "random_state must be"),
        (lambda d: d.update(stop_reason={"x": 1}), "stop_reason"),
        (lambda d: d.update(environments=3), "its environments is 3"),
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
        ("search/optimizer/second/input.npy", np.full((2, 32), -1, np.float32), "optimizer has parts that do not go"),
        ("history/seconds.npy", np.zeros(5), "listed size|listed is"),
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
        with pytest.raises(
            ModelFileError, match="wanted EvolvingConnectivityPolicy or ESPolicy or SurrogateGradientPPOPolicy"
        ):
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


# Histories


def same_search(one, other):
    ours, theirs = learnt(one), learnt(other)
    return all(np.array_equal(p, theirs[name]) for name, p in ours.items() if name.startswith("search/parameters/"))


def test_a_history_may_be_longer_than_json_could_be(fitted, tmp_path):
    policy = copy.deepcopy(fitted)
    policy.history_ = list(fitted.history_[-1:]) * 90_000
    policy._training = fitted._training._replace(search=fitted._training.search._replace(generation=90_000))
    policy.save(tmp_path / "long.ecp")
    loaded = load(tmp_path / "long.ecp")
    assert len(loaded.history_) == loaded.set_params(n_generations=1).n_generations_ == 90_000
    assert loaded.history_[-1] == loaded.history_[0] == fitted.history_[-1]


@pytest.mark.parametrize(
    "shorten", [lambda h: h[-2:], lambda h: [], lambda h: tuple(h) * 3], ids=["2", "none", "thrice"]
)
def test_a_history_may_be_of_any_length(fitted, tmp_path, shorten):
    policy = copy.deepcopy(fitted)
    policy.history_ = shorten(policy.history_)
    policy.save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert list(loaded.history_) == list(policy.history_)
    resumed = loaded.set_params(warm_start=True, n_generations=6).fit(Match)
    whole = copy.deepcopy(fitted).set_params(warm_start=True, n_generations=6).fit(Match)
    assert same_search(resumed, whole)
    assert len(resumed.history_) == len(policy.history_) + 2
    resumed.save(tmp_path / "p.ecp")
    assert load(tmp_path / "p.ecp").history_ == resumed.history_


class Rich(gym.Env):
    """Returns that are finite, but whose squares are not."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (1,), np.float32), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1e200 * self.np_random.random(), True, False, {}


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_huge_returns_survive(small, tmp_path):
    policy = EvolvingConnectivityPolicy(**small).fit(Rich)
    policy.save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert loaded.history_ == policy.history_
    assert loaded.history_[-1]["return_max"] > 1e198


@pytest.mark.parametrize(
    ("entry", "kept"),
    [(np.inf, np.inf), (-1e308, -1e308), (np.nan, None), (None, None), (2**63 - 1, 2**63 - 1), (2**63, 2**63),
     (True, True), (np.bool_(False), False), (np.float32(0.1), float(np.float32(0.1))), (np.uint8(7), 7)],
)  # fmt: skip
def test_entries_of_a_history_survive(fitted, tmp_path, entry, kept):
    policy = copy.deepcopy(fitted)
    policy.history_ = [{**record, "mine": entry} for record in policy.history_]
    policy.save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert list(loaded.history_) == [{**record, "mine": kept} for record in fitted.history_]
    loaded.save(tmp_path / "again.ecp")
    assert (tmp_path / "again.ecp").read_bytes() == (tmp_path / "p.ecp").read_bytes()


@pytest.mark.parametrize(
    ("record", "message"),
    [({"mine": "high"}, "got 'high' as 'mine'"), ({"mine": 2**63 + 1}, "cannot hold 'mine' exactly"),
     ({"mine": 10**400}, "cannot hold 'mine' exactly"), ({"mine": [1]}, "as 'mine'"), ({}, "must be a dict"),
     ({7: 1.0}, "names that are strings; got 7"), ("x", "got 'x'"), ({"a\0": 1.0}, "cannot have the name"),
     ({"\ud800": 1.0}, "cannot have the name")],
)  # fmt: skip
def test_what_a_history_cannot_hold_is_named(fitted, tmp_path, record, message):
    policy = copy.deepcopy(fitted)
    policy.history_ = [*policy.history_, record]
    with pytest.raises(ValueError, match=message):
        policy.save(tmp_path / "p.ecp")
    assert not list(tmp_path.iterdir())


def test_records_that_lack_a_name_have_none_there(fitted, tmp_path):
    policy = copy.deepcopy(fitted)
    policy.history_ = [{"generation": 1, "old": 2}, {"generation": 2, "new": 3.5}]
    policy.save(tmp_path / "p.ecp")
    assert list(load(tmp_path / "p.ecp").history_) == [
        {"generation": 1, "old": 2, "new": None}, {"generation": 2, "old": None, "new": 3.5}
    ]  # fmt: skip


def test_what_a_user_put_into_a_history_ends_no_training(fitted):
    policy = copy.deepcopy(fitted)
    policy.history_ = [{**record, "note": "before lunch"} for record in policy.history_]
    policy.partial_fit(Match)
    assert policy.history_[-2]["note"] == "before lunch"
    assert policy.history_[-1]["generation"] == 5


# Parameters


def test_parameters_that_a_file_lacks_have_their_defaults(saved, tmp_path):
    def older(document):
        del document["parameters"]["eps"], document["network"]["dt"]

    policy = load(rewrite(saved, tmp_path, document=older))
    assert policy.eps == 0.01
    policy.set_params(warm_start=True, n_generations=5).fit(Match)


def test_a_file_says_nothing_about_the_machine(fitted, tmp_path):
    policy = copy.deepcopy(fitted)
    policy.set_params(n_jobs=3, timeout=9.5, verbose=7, backend="numpy").save(tmp_path / "p.ecp")
    loaded = load(tmp_path / "p.ecp")
    assert (loaded.n_jobs, loaded.timeout, loaded.verbose, loaded.backend) == (None, None, 0, "auto")
    with zipfile.ZipFile(tmp_path / "p.ecp") as held:
        given = json.loads(held.read("policy.json"))["parameters"]
    assert not {"n_jobs", "timeout", "verbose", "backend"} & set(given)


def test_what_a_file_says_of_the_machine_does_not_matter(saved, tmp_path):
    absurd = {"n_jobs": 10**9, "timeout": "soon", "verbose": -1, "backend": ["tpu"]}
    loaded = load(rewrite(saved, tmp_path, document=lambda d: d["parameters"].update(absurd)))
    assert (loaded.n_jobs, loaded.timeout, loaded.verbose, loaded.backend) == (None, None, 0, "auto")


def test_ppo_kwargs_survive_apart_from_the_device(tmp_path):
    pytest.importorskip("sb3_contrib")
    given = {"device": "cpu", "target_kl": float("inf"), "normalize_advantage": False}
    policy = SurrogateGradientPPOPolicy(
        network=RealRSNN(8, step_ms=2), n_envs=2, n_steps=4, max_env_steps=8, random_state=0, ppo_kwargs=given
    ).fit(Match)
    policy.save(tmp_path / "p.ecp")
    loaded = ecpolicy.load(tmp_path / "p.ecp")
    assert loaded.ppo_kwargs == {"target_kl": float("inf"), "normalize_advantage": False}
    loaded.save(tmp_path / "again.ecp")
    assert (tmp_path / "again.ecp").read_bytes() == (tmp_path / "p.ecp").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [{"network": RSNN(n_neurons=np.int64(8), gain_in=np.float32(0.1))}, {"network": RSNN(8, step_ms=2, dt=1)},
     {"learning_rate": ((0, 0.3), (10, np.float16(0.1)))}, {"learning_rate": Fraction(1, 3)},
     {"initial_probability": MappingProxyType({"recurrent": np.zeros((32, 32), int), "output": np.float32(0.2)})},
     {"max_env_steps": 10**400}, {"observation_clip": 1e308}, {"random_state": np.uint64(2**64 - 1)},
     {"random_state": np.random.default_rng(0)}, {"score_threshold": -1e308}, {"keep_best": np.bool_(True)}],
)  # fmt: skip
def test_what_fit_accepts_can_be_saved_and_loaded(small, tmp_path, changes):
    policy = EvolvingConnectivityPolicy(**{**small, "n_generations": 1, **changes}).fit(Match)
    for training_state in (True, False):
        policy.save(tmp_path / "p.ecp", training_state=training_state)
        loaded = load(tmp_path / "p.ecp")
        np.testing.assert_array_equal(loaded.episode_returns(Match), policy.episode_returns(Match))
        loaded.save(tmp_path / "again.ecp", training_state=training_state)
        assert (tmp_path / "again.ecp").read_bytes() == (tmp_path / "p.ecp").read_bytes()


def test_networks_of_the_library_are_checked_where_they_are_given(small):
    with pytest.raises(ValueError, match="gain_in must be a number in"):
        EvolvingConnectivityPolicy(**small | {"network": RSNN(8, gain_in=-1.0)}).fit(Match)


@pytest.mark.parametrize("name", ["learning_rate", "network__n_neurons"])
def test_what_could_not_be_loaded_is_not_saved(fitted, tmp_path, name):
    policy = copy.deepcopy(fitted).set_params(**{name: "many"})
    message = f"was not saved, as it could not be loaded again: .*{name.removeprefix('network__')} must be"
    with pytest.raises(ValueError, match=message):
        policy.save(tmp_path / "p.ecp")
    assert not list(tmp_path.iterdir())


# The deployed policy alone


def deployed(policy, tmp_path):
    """The policy as it is when it was saved without its training state; it can be saved so again."""
    policy.save(tmp_path / "small.ecp", training_state=False)
    loaded = ecpolicy.load(tmp_path / "small.ecp")
    loaded.save(tmp_path / "again.ecp", training_state=False)
    assert (tmp_path / "again.ecp").read_bytes() == (tmp_path / "small.ecp").read_bytes()
    return loaded


TINY = {"network": RSNN(9), "n_generations": 2, "population_size": 4, "eval_episodes": 1, "confirm_episodes": 1,
        "max_episode_steps": 20, "random_state": 0}  # fmt: skip
PPO = {"network": RealRSNN(9, step_ms=4), "n_envs": 2, "n_steps": 8, "max_env_steps": 32, "random_state": 0}


@pytest.fixture(
    params=[
        (EvolvingConnectivityPolicy, TINY | {"network": RSNN(70)}, "CartPole-v1"),
        (EvolvingConnectivityPolicy, TINY, "Pendulum-v1"),
        (ESPolicy, TINY | {"network": RealRSNN(9)}, "Pendulum-v1"),
        (ESPolicy, TINY | {"network": LSTM(9)}, "CartPole-v1"),
        (SurrogateGradientPPOPolicy, PPO, "Pendulum-v1"),
        (SurrogateGradientPPOPolicy, PPO | {"normalize_observations": False}, "CartPole-v1"),
    ],
    ids=lambda given: f"{given[0].__name__}-{given[2]}",
)
def whole(request):
    """A fitted policy and its environment."""
    kind, parameters, environment = request.param
    if kind is SurrogateGradientPPOPolicy:
        pytest.importorskip("sb3_contrib")
    return kind(**parameters).fit(environment), environment


def test_a_deployed_policy_acts_bit_for_bit(whole, tmp_path):
    policy, environment = whole
    alone = deployed(policy, tmp_path)
    observations = np.random.default_rng(0).normal(size=(30, 3, policy.n_features_in_)).astype(np.float32)
    ours = theirs = None
    for observation in observations:
        (a, ours), (b, theirs) = policy.predict(observation, ours), alone.predict(observation, theirs)
        np.testing.assert_array_equal(a, b)
        for one, other in zip(ours.network, theirs.network, strict=True):
            np.testing.assert_array_equal(one, other)
    played = [p.episode_returns(environment, n_episodes=2, max_episode_steps=30) for p in (policy, alone)]
    np.testing.assert_array_equal(*played)
    assert alone.history_ == policy.history_[-1:]
    generations = "n_updates_" if hasattr(policy, "n_updates_") else "n_generations_"
    last = "deployed_update_" if hasattr(policy, "n_updates_") else "deployed_generation_"
    for name in ("seed_", "n_env_steps_", "stop_reason_", "observation_space_", "n_features_in_", generations, last):
        assert getattr(alone, name) == getattr(policy, name)
    assert registered_ids(alone.environments_) == [environment]


def test_a_deployed_policy_cannot_be_resumed_and_says_so(whole, tmp_path):
    policy, environment = whole
    alone = deployed(policy, tmp_path)
    for doing in (
        lambda: alone.partial_fit(environment),
        lambda: alone.set_params(warm_start=True).fit(environment),
        lambda: policy.fit(environment, resume_from=tmp_path / "small.ecp"),
        lambda: policy.fit(environment, resume_from=Checkpoint(tmp_path / "small.ecp")),
        lambda: alone.save(tmp_path / "whole.ecp"),
    ):
        with pytest.raises(ValueError, match=r"saved without its training state.* cannot be resumed\."):
            doing()
    assert not (tmp_path / "whole.ecp").exists()
    copies = pickle.loads(pickle.dumps(alone)), copy.deepcopy(alone)
    for one in copies:
        one.set_params(warm_start=False).fit(environment).save(tmp_path / "whole.ecp")
        assert ecpolicy.load(tmp_path / "whole.ecp").history_ == one.history_


def test_a_deployed_policy_has_nothing_to_sample_from_but_ppo_its_noise(whole, tmp_path):
    policy, _ = whole
    alone, observation = deployed(policy, tmp_path), np.zeros(policy.n_features_in_, np.float32)
    if isinstance(policy, SurrogateGradientPPOPolicy):
        a, b = (p.predict(observation, deterministic=False)[0] for p in (policy, alone))
        np.testing.assert_array_equal(a, b)
    else:
        with pytest.raises(ValueError, match="no probabilities to sample networks from, give deterministic=True"):
            alone.predict(observation, deterministic=False)


def test_a_deployed_policy_is_exported_and_drawn(fitted, tmp_path):
    alone = deployed(fitted, tmp_path)
    assert alone.to_c() == fitted.to_c()
    for name, present in fitted.connectivity_.items():
        np.testing.assert_array_equal(alone.connectivity_[name], present)
        np.testing.assert_array_equal(alone.connection_probabilities_[name], present)
    assert alone.connectome_.densities() == fitted.connectome_.densities()
    with pytest.raises(ValueError, match="saved without its training state"):
        _ = alone.search_probabilities_
    ours, theirs = (record_activity(p, Match, max_episode_steps=5).spikes for p in (fitted, alone))
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="no history to draw: it was saved without its training state"):
        LearningCurveDisplay.from_policy_run(alone)
    with pytest.raises(ValueError, match="no probabilities to draw: it was saved without its training state"):
        ConnectionProbabilityDisplay.from_estimator(alone)


def test_a_deployed_policy_is_small(tmp_path):
    parameters = TINY | {"network": RSNN(256), "population_size": 2, "n_generations": 1}
    policy = EvolvingConnectivityPolicy(**parameters).fit(
        lambda: Spaces(gym.spaces.Box(-np.inf, np.inf, (11,), np.float64), gym.spaces.Box(-1, 1, (3,)))
    )
    deployed(policy, tmp_path)
    assert (tmp_path / "small.ecp").stat().st_size <= 16 << 10


def test_the_command_line_exports_a_deployed_policy(tmp_path, capsys):
    EvolvingConnectivityPolicy(**TINY).fit("CartPole-v1").save(tmp_path / "p.ecp")
    assert main(["export", str(tmp_path / "p.ecp"), str(tmp_path / "small.ecp")]) == 0
    assert main(["info", str(tmp_path / "small.ecp"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["resumable"], report["generations"], report["environments"]) == (False, 2, ["CartPole-v1"])
    assert "seconds" not in report
    assert main(["evaluate", str(tmp_path / "small.ecp"), "--episodes", "2", "--json"]) == 0
    assert main(["export", str(tmp_path / "p.ecp"), str(tmp_path / "p.ecp")]) == 2
    assert "give another name" in capsys.readouterr().err
    assert load(tmp_path / "p.ecp").n_generations_ == 2


# What is the system's


@pytest.mark.parametrize(
    "error",
    [*(OSError(number, os.strerror(number)) for number in (errno.EMFILE, errno.EIO, errno.ENOMEM, errno.ESTALE)),
     MemoryError()],
    ids=repr,
)  # fmt: skip
def test_what_goes_wrong_with_the_system_is_no_damage(saved, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    for where in ("_read", "_array"):
        with monkeypatch.context() as patched:
            patched.setattr(archive, where, fail)
            for read in (load, ecpolicy.load):
                with pytest.raises(type(error)) as caught:
                    read(saved)
                assert caught.value is error


def test_too_many_open_files_are_no_damage(saved, small):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    reads = (load, lambda path: EvolvingConnectivityPolicy(**small).fit(Match, resume_from=Checkpoint(path)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        for read in reads:
            with pytest.raises(OSError, match="Too many open files") as caught:
                read(saved)
            assert not isinstance(caught.value, ModelFileError)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("path", [io.BytesIO(), None, 7, b"p.ecp", ["p.ecp"]], ids=lambda path: type(path).__name__)
def test_what_is_no_path_is_named(fitted, path):
    takes = [load, ecpolicy.load, fitted.save, Checkpoint, archive.check_writable]
    if path is not None:  # which is none
        takes.append(lambda path: Evaluation(Match, path=path))
        takes.append(lambda path: EvolvingConnectivityPolicy().fit(Match, resume_from=path))
    for take in takes:
        with pytest.raises(TypeError, match=r"path .* got "):
            take(path)


# Links and permissions


def test_a_save_goes_where_a_link_leads(fitted, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "p.ecp", tmp_path / "link.ecp"
    link.symlink_to(target)
    for _ in range(2):  # first the link leads nowhere
        fitted.save(link)
        assert link.is_symlink()
        assert target.is_file()
        assert not target.is_symlink()
    assert load(link).history_ == fitted.history_
    assert sorted(tmp_path.rglob("*")) == sorted([link, target, target.parent])


def test_a_relative_link_and_one_of_a_link(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "first.ecp").symlink_to("second.ecp")
    (tmp_path / "link.ecp").symlink_to("a/first.ecp")
    fitted.save("link.ecp")
    assert (tmp_path / "a" / "second.ecp").is_file()
    assert (tmp_path / "a" / "first.ecp").is_symlink()
    assert (tmp_path / "link.ecp").is_symlink()


def test_links_that_lead_in_a_circle_or_to_no_folder(fitted, tmp_path):
    (tmp_path / "a.ecp").symlink_to(tmp_path / "b.ecp")
    (tmp_path / "b.ecp").symlink_to(tmp_path / "a.ecp")
    (tmp_path / "c.ecp").symlink_to(tmp_path / "nowhere" / "c.ecp")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"a.ecp could not be saved: Too many levels of symbolic links") as caught:
        fitted.save(tmp_path / "a.ecp")
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(FileNotFoundError, match=r"its folder .*nowhere does not exist"):
        fitted.save(tmp_path / "c.ecp")
    with pytest.raises(OSError, match="not a file that could be replaced"):
        fitted.save("/dev/null")
    assert sorted(tmp_path.iterdir()) == before


def test_checkpoints_rotate_behind_a_link(small, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    checkpoint = Checkpoint(tmp_path / "training.ecp", keep=3)
    checkpoint.path.symlink_to(tmp_path / "elsewhere" / "p.ecp")
    EvolvingConnectivityPolicy(**small).fit(Match, callbacks=checkpoint)
    assert checkpoint.path.is_symlink()
    assert [ecpolicy.load(path).n_generations_ for path in checkpoint.files()] == [4, 3, 2]
    assert len(list(tmp_path.iterdir())) == 4


def test_permissions_are_those_of_the_process_or_of_the_file_that_is_replaced(fitted, tmp_path):
    before = os.umask(0o027)
    try:
        fitted.save(tmp_path / "new.ecp")
        os.umask(0o022)
        assert stat.S_IMODE((tmp_path / "new.ecp").stat().st_mode) == 0o640
        (tmp_path / "new.ecp").chmod(0o600)
        fitted.save(tmp_path / "new.ecp")
        assert stat.S_IMODE((tmp_path / "new.ecp").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_saving_leaves_the_umask_alone(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask belongs to the process"))
    fitted.save(tmp_path / "p.ecp")


def test_names_that_are_taken_are_passed_over(fitted, tmp_path, monkeypatch):
    names = iter(["taken", "taken", "free"])
    (tmp_path / ".p.ecp.taken.tmp").write_bytes(b"of another process")
    monkeypatch.setattr(archive.secrets, "token_hex", lambda n: next(names))
    fitted.save(tmp_path / "p.ecp")
    assert (tmp_path / ".p.ecp.taken.tmp").read_bytes() == b"of another process"
    assert load(tmp_path / "p.ecp").history_ == fitted.history_


# Atomic saves


def test_a_failed_save_leaves_the_old_file_and_no_other(fitted, saved, tmp_path, monkeypatch):
    path = tmp_path / "p.ecp"
    path.write_bytes(saved.read_bytes())

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(archive.np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        fitted.save(path)
    assert path.read_bytes() == saved.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_while_saving_leaves_the_old_file(saved, tmp_path):
    path = tmp_path / "p.ecp"
    path.write_bytes(saved.read_bytes())
    code = (
        "import os, sys; from ecpolicy import EvolvingConnectivityPolicy as P\n"
        "from ecpolicy.files import archive\n"
        "policy = P.load(sys.argv[1]); archive.os.fsync = lambda _: os._exit(7)\n"
        "policy.save(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 7
    assert path.read_bytes() == saved.read_bytes()


def test_outputs_that_overflow_are_named(small, tmp_path):
    policy = ESPolicy(**small | {"network": GRU(4), "n_generations": 1}).fit(Match)
    policy.save(tmp_path / "p.ecp", training_state=False)
    document, arrays = archive.read(tmp_path / "p.ecp")
    arrays["connections/output"][:] = np.array([LARGE, -LARGE])  # as large as a file may hold
    arrays["connections/output_bias"][:] = LARGE  # whatever the state is, the output of one action overflows
    held = {name: part for name, part in document.items() if name not in ("format", "version", "arrays")}
    archive.write(tmp_path / "p.ecp", held, arrays)
    policy = ESPolicy.load(tmp_path / "p.ecp")
    with pytest.raises(ValueError, match="outputs are NaN or infinite"):
        policy.predict(np.ones(1, np.float32))
