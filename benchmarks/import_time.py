"""Time ``import ecpolicy`` in fresh interpreters, beside the packages that it cannot do without.

python benchmarks/import_time.py [--rounds 5]
"""

import subprocess
import sys
from functools import partial

import numpy as np

import runner

REQUIRED = "import numba, gymnasium, sklearn.base, joblib, scipy.stats"


def seconds(statement):
    code = f"import time; t = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main():
    arguments = runner.parser(__doc__, rounds=5).parse_args()
    sides = {statement: partial(seconds, statement) for statement in (REQUIRED, "import ecpolicy")}
    for statement, times in runner.in_turns(sides, arguments.rounds).items():
        print(f"{statement}: median {np.median(times):.2f} s, best {min(times):.2f} s")


if __name__ == "__main__":
    main()
