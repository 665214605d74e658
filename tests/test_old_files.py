"""Files of earlier versions are loaded, and their policies act as they did."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import ecpolicy
from ecpolicy.files.migrations import translated
from ecpolicy.networks import GRU, LSTM, RSNN, RealRSNN
from golden_fits import fingerprints
from old_files import episode

FOLDER = Path(__file__).parent / "data" / "files"
FILES = sorted(FOLDER.glob("*/*.ecp"))
RESUMABLE = [path for path in FILES if not path.stem.endswith("_deployed")]


def expected(path):
    return json.loads((path.parent / "expected.json").read_text())[path.stem]


def loaded(path):
    return ecpolicy.load(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_old_policy_acts_as_it_did(path):
    known, policy = expected(path), loaded(path)
    assert type(policy).__name__ == known["class"]
    assert policy.n_env_steps_ == known["n_env_steps"]
    assert len(policy.history_) == known["history"]
    last = {name: value for name, value in policy.history_[-1].items() if name != "seconds"}
    assert last == known["last"]
    played = episode(policy, known["environment"])
    if gym.make(known["environment"]).action_space.dtype.kind == "f":
        np.testing.assert_allclose(played["actions"], known["actions"], rtol=0, atol=1e-5)
        assert played["return"] == pytest.approx(known["return"], abs=1e-2)
    else:
        assert (played["actions"], played["return"]) == (known["actions"], known["return"])


@pytest.mark.parametrize("path", RESUMABLE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_old_training_goes_on(path):
    """As it did, bit for bit; one between several starts goes on with the start under way."""
    known, policy = expected(path), loaded(path)
    policy.set_params(warm_start=True)
    policy.partial_fit(known["environment"])
    if "resumed" in known:
        assert fingerprints(policy) == known["resumed"]
    assert len(policy.history_) == known["history"] + 1
    assert policy.n_env_steps_ > known["n_env_steps"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_old_policy_is_saved_by_this_version(path, tmp_path):
    known, policy = expected(path), loaded(path)
    for training_state in (True, False) if path in RESUMABLE else (False,):
        policy.save(tmp_path / "new.ecp", training_state=training_state)
        again = ecpolicy.load(tmp_path / "new.ecp")
        assert again.history_ == (policy.history_ if training_state else policy.history_[-1:])
        played = episode(again, known["environment"])
        assert played == episode(policy, known["environment"])


def test_what_an_old_file_says_of_the_machine_does_not_matter():
    policy = loaded(FOLDER / "2b88603" / "ec_between_starts.ecp")  # saved with n_jobs=2 and timeout=60
    assert (policy.n_jobs, policy.timeout) == (None, None)


@pytest.mark.parametrize(
    ("name", "network"),
    [("ec", RSNN(33)), ("es_rsnn", RealRSNN(17)), ("es_gru", GRU(9)), ("es_lstm", LSTM(9)),
     ("ppo", RealRSNN(17, step_ms=4.0))],
)  # fmt: skip
def test_flat_settings_are_a_network(name, network):
    policy = loaded(FOLDER / "2b88603" / f"{name}.ecp")
    assert policy.network == network
    assert policy.max_env_steps == (512 if name == "ppo" else None)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("ESPolicy", {"n_neurons": None, "gain_in": 0.3},
         {"network": {"kind": "real-rsnn", "n_neurons": 256, "gain_in": 0.3}}),
        ("ESPolicy", {"network": "lstm", "n_neurons": None}, {"network": {"kind": "lstm", "n_neurons": 128}}),
        ("ESPolicy", {"network": {"kind": "real-rsnn", "n_neurons": 9}, "dt": 1.0, "sigma": None, "learning_rate": 0.2},
         {"network": {"kind": "real-rsnn", "n_neurons": 9}, "sigma": 0.02, "learning_rate": 0.2}),
        ("EvolvingConnectivityPolicy",
         {"network": {"own": "a.B"}, "dt": 1.0, "fitness_shaping": "centered_ranks", "eps": 0.1},
         {"network": {"own": "a.B"}, "eps": 0.1}),
        ("SurrogateGradientPPOPolicy", {"n_neurons": 8, "max_grad_norm": 0.5},
         {"network": {"kind": "real-rsnn", "n_neurons": 8}}),
        ("SurrogateGradientPPOPolicy", {"n_neurons": 8, "max_grad_norm": 2.0, "ppo_kwargs": {"target_kl": 0.1}},
         {"network": {"kind": "real-rsnn", "n_neurons": 8}, "ppo_kwargs": {"max_grad_norm": 2.0, "target_kl": 0.1}}),
    ],
)  # fmt: skip
def test_parameters_of_version_2_are_translated(kind, before, after):
    assert translated(before, kind) == after


def test_there_are_files_of_every_version():
    assert {path.parent.name for path in FILES} == {"2b88603", "bded9a8"}
    for folder in FOLDER.iterdir():
        assert {path.stem for path in folder.glob("*.ecp")} == set(json.loads((folder / "expected.json").read_text()))
