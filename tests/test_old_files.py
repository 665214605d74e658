"""Files of earlier versions are loaded, and their policies act as they did."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import ecpolicy
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


def test_there_are_files_of_every_version():
    assert {path.parent.name for path in FILES} == {"2b88603", "bded9a8"}
    for folder in FOLDER.iterdir():
        assert {path.stem for path in folder.glob("*.ecp")} == set(json.loads((folder / "expected.json").read_text()))
