"""Time imports in fresh interpreters: an estimator, the packages that it cannot do without, and what workers need."""

import subprocess
import sys
from functools import partial

import runner

OPTIONS = {"rounds": 5}
REQUIRED = "import numba, gymnasium, sklearn.base, joblib, scipy.stats"
ESTIMATOR = "from ecpolicy import EvolvingConnectivityPolicy"
WORKER = "import ecpolicy.rollout.workers"


def seconds(statement):
    code = f"import time; t = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def rows(options):
    sides = {statement: partial(seconds, statement) for statement in (REQUIRED, ESTIMATOR, WORKER)}
    for statement, times in runner.in_turns(sides, options.rounds).items():
        yield {"statement": statement, "s": times, "least": times.min()}
