"""Time ``import ecpolicy`` in fresh interpreters, beside the packages that it cannot do without.

python benchmarks/import_time.py [--rounds 5]
"""

import argparse
import subprocess
import sys

import numpy as np

REQUIRED = "import numba, gymnasium, sklearn.base, joblib, scipy.stats"


def seconds(statement):
    code = f"import time; t = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for statement in (REQUIRED, "import ecpolicy"):
        times = [seconds(statement) for _ in range(rounds)]
        print(f"{statement}: median {np.median(times):.2f} s, best {min(times):.2f} s")


if __name__ == "__main__":
    main()
