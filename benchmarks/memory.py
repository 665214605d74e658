"""Memory of a fit: over many generations, and with the paper's population on Humanoid-v5.

Memory is that of this process and of all its workers together: proportional set sizes, in which a page that several
processes share counts once. The first part reports how it grows from generation to generation, as the slope of a line
through all but the first fifth of them, with the slope's standard error. The second reports the largest value that was
seen, sampled every half second.

    python benchmarks/memory.py [--generations 200] [--env Hopper-v5] [--population 10240] [--n-jobs 1 2]
"""

import argparse
import threading
import time

import numpy as np
import psutil

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Chain, Checkpoint


def bytes_in_use():
    """Of this process and its children."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it has ended meanwhile
            continue
    return total


class Peak(threading.Thread):
    """The largest value of ``bytes_in_use`` until ``stop``."""

    def __init__(self):
        super().__init__(daemon=True)
        self.largest, self._over = 0, threading.Event()

    def run(self):
        while not self._over.wait(0.5):
            self.largest = max(self.largest, bytes_in_use())

    def stop(self):
        self._over.set()
        self.join()


def growth(arguments, n_jobs):
    """Fit for many generations; bytes in use after each."""
    seen = []
    policy = EvolvingConnectivityPolicy(
        population_size=64, n_generations=arguments.generations, max_episode_steps=50, score_threshold=None,
        n_jobs=n_jobs, random_state=0,
    )  # fmt: skip
    watch = lambda view: seen.append(bytes_in_use())  # noqa: E731
    policy.fit(arguments.env, callbacks=Chain(Checkpoint(arguments.checkpoint, every=10), watch))
    return np.array(seen, dtype=float)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--large-env", default="Humanoid-v5")
    parser.add_argument("--population", type=int, default=10240)
    parser.add_argument("--n-jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--checkpoint", default="memory.ecp")
    arguments = parser.parse_args()
    for n_jobs in arguments.n_jobs:
        used = growth(arguments, n_jobs) / 2**20
        late = np.arange(used.size) >= used.size // 5
        x, y = np.arange(used.size)[late], used[late]
        slope, start = np.polyfit(x, y, 1)
        error = (y - slope * x - start).std() / (x.std() * np.sqrt(x.size))
        print(
            f"{arguments.env}, n_jobs {n_jobs}: {used[0]:.1f} MiB after generation 1, {y[0]:.1f} after {x[0] + 1}, "
            f"{y[-1]:.1f} after {used.size}; {1024 * slope:+.2f} ± {1024 * error:.2f} KiB a generation",
            flush=True,
        )
    for n_jobs in arguments.n_jobs:
        before, peak, began = bytes_in_use(), Peak(), time.perf_counter()
        peak.start()
        policy = EvolvingConnectivityPolicy(
            population_size=arguments.population, n_generations=1, n_jobs=n_jobs, random_state=0
        ).fit(arguments.large_env)
        peak.stop()
        bits = sum(matrix.size for matrix in policy.connectivity_.values())
        print(
            f"{arguments.large_env}, population {arguments.population:,} of {bits:,} connections, n_jobs {n_jobs}: at "
            f"most {peak.largest / 2**30:.2f} GiB ({before / 2**30:.2f} before the fit), {policy.n_env_steps_:,} steps "
            f"in {time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
