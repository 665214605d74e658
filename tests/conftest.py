"""Shared fixtures: small policies that are fast to train."""

import gc
import hashlib
import os
import signal
import sys
from pathlib import Path

import pytest

# Numba's cache notices a change of the file that a kernel is in, not of the intrinsics that it uses from simd.
ROOT = Path(__file__).parent.parent
KERNELS = ROOT / "ecpolicy" / "networks" / "numba"
SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(KERNELS.rglob("*.py"))))
os.environ["NUMBA_CACHE_DIR"] = str(ROOT / ".numba_cache" / SOURCES.hexdigest()[:16])

# Workers and other processes read the package compiled, and what others have compiled with XLA.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache" / "limited"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**30),  # with a limit, processes lock what they read and write
}

# With JAX, PyTorch and the rest in memory, looking for garbage as often as Python does takes a twentieth of the time.
gc.set_threshold(100_000, 50, 50)

# A shell's background job ignores Ctrl-C, and so would fit, which the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Arrays of different dtypes or ranks do not mix unasked, in workers and other processes neither.
os.environ |= {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}

from ecpolicy import EvolvingConnectivityPolicy  # noqa: E402
from ecpolicy.networks import RSNN  # noqa: E402
from probes import SEED, Match  # noqa: E402

SMALL = {
    "network": RSNN(32),
    "population_size": 40,
    "n_generations": 4,
    "eval_episodes": 2,
    "confirm_episodes": 4,
    "random_state": SEED,
}


# Files go to the workers in this order, the longest first: a worker that takes one last leaves the others waiting.
LONGEST = (
    "repository", "clusters", "device", "docs", "ways_to_play", "rollout", "export", "policy", "docs_code",
    "misbehaviour", "cli", "identity", "cells", "brax", "model_selection", "verilog", "contract", "fuzz", "golden",
    "notebook", "inspection", "workers", "resume", "integer", "sb3", "es", "callbacks",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture
def small():
    """Constructor parameters of a policy that trains in a fraction of a second."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def fitted():
    """A policy fitted on Match; tests must not change it."""
    return EvolvingConnectivityPolicy(**SMALL).fit(Match)


def pytest_report_header(config):
    """What repeats a run: ``ECPOLICY_TEST_SEED=1 pytest`` has other random fits and arrays."""
    return f"ECPOLICY_TEST_SEED={SEED}"
