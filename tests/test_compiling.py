"""Kernels are kept on disk where that can be, and work all the same where it cannot."""

import errno
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching
from numba.core.dispatcher import Dispatcher

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN
from ecpolicy.networks.numba import bits as host
from ecpolicy.networks.numba import compiling, weights

ROOT = Path(__file__).parent.parent
SMALL = {"n_generations": 1, "population_size": 4, "max_episode_steps": 5, "random_state": 0}

NOWHERE = """
import sys, warnings
from numba.core import caching

def nowhere(self):
    raise PermissionError(13, "Permission denied")

caching._CacheLocator.ensure_cache_path = nowhere
warnings.simplefilter("error")
import ecpolicy
from ecpolicy.networks import RSNN
from ecpolicy.inspection import record_activity

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        policy = ecpolicy.EvolvingConnectivityPolicy(network=RSNN(8), **eval(sys.argv[1])).fit("CartPole-v1")
    ecpolicy.ESPolicy(**eval(sys.argv[1])).fit("CartPole-v1")
print([warning.category.__name__ for warning in caught], caught[0].message)
print(policy.connection_probabilities_["recurrent"].sum())
"""


def double(x):
    return 2 * x


def triple(x):
    return 3 * x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where kernels are kept, in a process that said nothing yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "_told", [])
    return tmp_path


def files(folder, ending):
    return sorted(folder.glob(f"*/*.{ending}"))


def test_a_process_without_a_place_for_kernels_is_told_so_once():
    run = subprocess.run([sys.executable, "-c", NOWHERE, repr(SMALL)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told, total = run.stdout.splitlines()
    assert told.startswith("['RuntimeWarning'] ")
    assert "environment variable NUMBA_CACHE_DIR" in told
    expected = EvolvingConnectivityPolicy(network=RSNN(8), **SMALL).fit("CartPole-v1")
    assert total == str(expected.connection_probabilities_["recurrent"].sum())


def test_every_kernel_is_compiled_like_this():
    kernels = [
        value
        for module in (host, weights)
        for value in [*vars(module).values(), host.rsnn_step(1)]
        if isinstance(value, Dispatcher) and value.targetoptions.get("inline") != "always"
    ]
    assert len(kernels) > 10
    assert all(isinstance(kernel._cache, compiling._Spare) for kernel in kernels)
    assert [file.name for file in (ROOT / "ecpolicy").rglob("*.py") if "cache=True" in file.read_text()] == []


def test_a_kernel_is_found_again(folder):
    assert compiling.compiled(double)(3) == 6
    again = compiling.compiled(double)
    assert again(4) == 8
    assert sum(again.stats.cache_hits.values()) == 1
    assert Path(again.stats.cache_path).parent == folder


def test_a_disk_that_is_full_fails_no_kernel(folder, monkeypatch):
    first, second = compiling.compiled(double), compiling.compiled(triple)

    def full(self, key, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    with pytest.warns(RuntimeWarning, match=r"No space left on device.*NUMBA_CACHE_DIR") as caught:
        assert [first(3), first(1.5), second(3)] == [6, 3.0, 9]
    assert len(caught) == 1


def test_a_warning_that_is_an_error_leaves_a_kernel_that_works(folder, monkeypatch):
    kernel = compiling.compiled(double)
    monkeypatch.setattr(kernel._cache, "_lacking", "no reason")
    with pytest.raises(RuntimeWarning, match="no reason"):
        kernel(3)
    assert kernel(3) == 6
    assert kernel(1.5) == 3.0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_folder_that_became_somebody_elses_fails_no_kernel(monkeypatch):
    monkeypatch.setattr(compiling, "_told", [])
    compiling.compiled(triple)(3)  # everything is imported
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setattr(numba.config, "CACHE_DIR", name)
        compiling.compiled(double)(3)
        unread, unwritten = compiling.compiled(double), compiling.compiled(triple)
        for file in files(Path(name), "nb*"):
            file.chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.warns(RuntimeWarning, match=r"PermissionError.*Permission denied"):
                assert unread(3) == 6
            assert unwritten(3) == 9
        finally:
            os.seteuid(0)


def test_files_that_are_damaged_are_written_anew(folder):
    compiling.compiled(double)(3)
    for damaged in (b"", b"garbage", pickle.dumps(numba.__version__) + b"garbage"):
        [index] = files(folder, "nbi")
        index.write_bytes(damaged)
        assert compiling.compiled(double)(3) == 6
    [data] = files(folder, "nbc")
    data.write_bytes(b"garbage")
    assert compiling.compiled(double)(3) == 6
    again = compiling.compiled(double)
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1


def test_a_kernel_gives_what_its_function_does(folder):
    np.testing.assert_array_equal(compiling.compiled(double)(np.arange(3)), double(np.arange(3)))
