"""Hostile model files: a short run of the fuzzer, that it finds what it looks for, and what it has found."""

import json
import pickle
import re
import socket
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

import fuzz_files
from ecpolicy import EvolvingConnectivityPolicy, ModelFileError
from ecpolicy.networks import GRU, LSTM, RealRSNN
from forging import (
    BZIP2,
    DOCUMENT,
    Bomb,
    Case,
    Member,
    archive,
    deflated,
    member,
    npy,
    parts,
    replaced,
    together,
    with_document,
)
from fuzz_files import Audit, act, load
from mutations import KINDS, repeated
from probes import Match

ROOT = Path(__file__).parent.parent


def test_mutants_are_refused_or_act():
    command = [sys.executable, str(ROOT / "tests" / "fuzzing" / "fuzz_files.py"), "--files", "400", "--seed", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 of 400 files were handled wrongly" in result.stdout
    counted = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in result.stdout.splitlines()[1:-2]}
    assert counted["all"][0] == 400
    assert set(counted) == {kind.__name__ for kind in KINDS} | {"all"}
    assert 0.5 < counted["all"][1] / 400 < 0.95  # some are harmless, or other policies


# The detector


@pytest.fixture(scope="module")
def audit():
    return Audit()


@pytest.fixture
def bomb(tmp_path):
    path = tmp_path / "bomb.ecp"
    path.write_bytes(pickle.dumps(Bomb(str(tmp_path / "marker"))))
    return path


def quiet(path):
    path.read_bytes()
    raise ModelFileError("it is damaged")


def refuses_loudly(path):
    raise ModelFileError("\x1b[2J")


def swallows(path):
    try:
        np.empty(1 << 30, np.uint8)
    except Exception as error:
        raise ModelFileError(f"{type(error).__name__}") from None


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (quiet, []),
        (lambda path: pickle.loads(path.read_bytes()), ["executed: pickle.find_class", "executed: the marker"]),
        (lambda path: eval("1"), ["code executed: compile", "code executed: exec"]),
        (lambda path: __import__("colorsys"), ["code executed: import"]),
        (lambda path: subprocess.run(["true"], check=True), ["code executed: subprocess.Popen"]),
        (lambda path: path.with_name("other").write_text("x"), ["code executed: open"]),
        (lambda path: path.with_name("bomb.ecp").unlink(), ["code executed: os.remove"]),
        (lambda path: socket.socket().close(), ["code executed: socket.__new__"]),
        (lambda path: {}["missing"], ["KeyError: 'missing'"]),
        (lambda path: warnings.warn("odd", RuntimeWarning, stacklevel=1), ["warned: RuntimeWarning: odd"]),
        (lambda path: time.sleep(60), ["TooLong", "took"]),
        (lambda path: np.empty(1 << 30, np.uint8), ["MemoryError"]),
        (swallows, ["wanted more than 512 MiB"]),
        (refuses_loudly, ["a message that no terminal should show"]),
    ],
)
def test_what_must_not_happen_is_found(audit, bomb, monkeypatch, read, found):
    monkeypatch.setattr(fuzz_files, "SECONDS", 0.2)
    sys.modules.pop("colorsys", None)
    trial = load(audit, read, bomb, bomb.with_name("marker"))[1]
    for finding in found:
        assert any(finding in said for said in trial.findings), trial.findings
    assert bool(trial.findings) == bool(found)


class Acting:
    """Acts in a fixed way."""

    observation_space_, action_space_ = spaces.Discrete(2), spaces.Discrete(2)

    def __init__(self, action):
        self.action = action

    def predict(self, observation, *, deterministic):
        if isinstance(self.action, Exception):
            raise self.action
        return self.action, None


def test_wrong_actions_are_found():
    assert act(Acting(1), 0) == ("loaded, acts", [], 0.0)
    assert act(Acting(ValueError("named")), 0) == ("loaded, ValueError", [], 0.0)
    assert "is not in" in act(Acting(2), 0).findings[0]
    assert "IndexError" in act(Acting(IndexError()), 0).findings[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.__name__ != "bombs"], ids=lambda kind: kind.__name__)
def test_mutants_are_reproducible(content, kind):
    first, second = (
        [kind(Case(np.random.default_rng([i, 7]), content, [content], "marker", str)) for i in range(5)] for _ in "ab"
    )
    assert first == second
    assert set(first) != {content}


# What was found


@pytest.fixture(scope="module")
def content(fitted, tmp_path_factory):
    """A model file, taken apart by the tests."""
    path = tmp_path_factory.mktemp("saved") / "match.ecp"
    fitted.save(path)
    return path.read_bytes()


NAME = "best/parameters/recurrent.npy"


def around(members, changed):
    """The file with a member described in another way."""
    return archive([changed if name == changed.name else member(name, members[name]) for name in members])


def inflating(members):
    raw = deflated(members[NAME], zlib.Z_FULL_FLUSH) + repeated(b"\0", 256)
    return around(members, Member(NAME, raw, len(members[NAME]), zlib.crc32(members[NAME])))


def listed(members, **changes):
    document = json.loads(members[DOCUMENT])
    document["arrays"][NAME.removesuffix(".npy")] |= changes
    return with_document(members, document)


def column(members, name, values):
    return together(replaced(members, f"history/{name}.npy", values))


def twice(members):
    return archive([member(name, members[name]) for name in [*members, NAME]])


def described(members, **changes):
    return together(with_document(members, json.loads(members[DOCUMENT]) | changes))


def box(**changes):
    return {"kind": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "<f4"} | changes


def choices(kind, **described):
    return {"kind": kind, "dtype": "<i8", **described}


def nested(depth):
    return {"kind": "Tuple", "spaces": [nested(depth - 1)]} if depth else box()


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda m: around(m, member(NAME, m[NAME], BZIP2)), "compressed by method 12"),
        (twice, "holds a member twice"),
        (lambda m: together(listed(m, shape=[1 << 28])), "would become"),
        (lambda m: together(listed(m, shape=["32", 32])), "shape \\['32', 32\\]"),
        (lambda m: together(listed(m, dtype="f4,f4")), "dtype 'f4,f4'"),
        (lambda m: together(m | {NAME: npy(np.zeros((32, 32), "f4").T)}), "'fortran_order': True"),
        (lambda m: together(m | {NAME: m[NAME].replace(b"False", b"0    ")}), "listed is float32"),
        (lambda m: together(m | {DOCUMENT: m[DOCUMENT].decode().encode("utf-16")}), "UnicodeDecodeError"),
        (lambda m: described(m, version=1, history=[""] * 4), "history is not a list of records"),
        (lambda m: described(m, version=1, history=[{"a": "x"}]), "got 'x' as 'a'"),
        (lambda m: described(m, version=1, history=[{"a": 10**400}]), "cannot hold 'a' exactly"),
        (lambda m: column(m, "seconds", np.zeros(5)), "columns of its history differ in length"),
        (lambda m: column(m, "seconds", np.zeros((4, 1))), "column 'seconds' of its history is float64 \\(4, 1\\)"),
        (lambda m: column(m, "seconds", np.zeros(4, np.float32)), "column 'seconds' of its history is float32"),
        (lambda m: column(m, "\x1b[2J", np.zeros(4)), "column '.x1b\\[2J' of its history"),
        (lambda m: described(m, stop_reason=["\x1b[2J" * 1000]), "stop_reason is \\['.x1b"),
        (lambda m: described(m, observation_space=nested(17)), "spaces within spaces"),
        (lambda m: described(m, observation_space={"kind": "Tuple", "spaces": [box()] * 5000}), "too many"),
        (lambda m: described(m, observation_space=box(shape=[1 << 24])), "too many"),
        (lambda m: described(m, observation_space=box(shape=[2.0])), "impossible space"),
        (lambda m: described(m, observation_space=box(high=1e39)), "FloatingPointError"),
        (lambda m: described(m, observation_space=box(dtype="|O")), "KeyError"),
        (lambda m: described(m, action_space={"kind": "MultiBinary", "n": [2**32, 2**32]}), "too many"),
        (lambda m: described(m, action_space=choices("Discrete", n=2, start=2**63 - 1)), "choices"),
        (lambda m: described(m, action_space=choices("Discrete", n=3, start=126, dtype="|i1")), "choices"),
        (lambda m: described(m, action_space=choices("MultiDiscrete", nvec=[2], start=[-3], dtype="<u8")), "choices"),
        (lambda m: described(m, action_space=choices("MultiDiscrete", nvec=[2**62] * 4, start=[0] * 4)), "too many"),
        (lambda m: described(m, network=json.loads(m[DOCUMENT])["network"] | {"gain_in": 1e38}), "single precision"),
        (lambda m: described(m, network={"kind": "gru", "n_neurons": 32}), "network must have 1-bit"),
    ],
)  # fmt: skip
def test_hostile_files_are_named(content, tmp_path, forge, message):
    path = tmp_path / "forged.ecp"
    path.write_bytes(forge(parts(content)))
    with pytest.raises(ModelFileError, match=message) as caught:
        EvolvingConnectivityPolicy.load(path)
    said = str(caught.value)
    assert len(said) < 1000
    assert said.isprintable()


def test_members_are_inflated_as_far_as_listed(content, tmp_path, audit, fitted):
    """What follows is never made: the file is as good as the one without it."""
    path = tmp_path / "inflating.ecp"
    path.write_bytes(inflating(parts(content)))
    assert path.stat().st_size > 250_000
    policy, trial = load(audit, EvolvingConnectivityPolicy.load, path, tmp_path / "marker")
    assert trial.findings == []
    np.testing.assert_array_equal(policy.connectivity_["recurrent"], fitted.connectivity_["recurrent"])


@pytest.mark.parametrize("network", [GRU(8), LSTM(8), RealRSNN(8)], ids=lambda network: type(network).__name__)
def test_bits_are_not_given_to_networks_of_real_weights(network):
    with pytest.raises(TypeError, match=re.escape(f"got {network}")):
        EvolvingConnectivityPolicy(network=network).fit(Match)
