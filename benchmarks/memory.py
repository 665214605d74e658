"""Memory of a fit: over many generations, and with the paper's population on Humanoid-v5.

Memory is that of this process and of all its workers together: proportional set sizes, in which a page that several
processes share counts once. The first part reports how it grows from generation to generation, as the slope of a line
through all but the first fifth of them, with the slope's standard error. The second reports the largest value that was
seen, sampled every half second.
"""

import threading

import numpy as np
import psutil

import runner
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Chain, Checkpoint

OPTIONS = {"generations": 200, "env": "Hopper-v5", "large_env": "Humanoid-v5", "population": 10240, "n_jobs": [1, 2],
           "checkpoint": "memory.ecp"}  # fmt: skip


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


def growth(options, n_jobs):
    """Fit for many generations; bytes in use after each."""
    seen = []
    policy = EvolvingConnectivityPolicy(
        population_size=64, n_generations=options.generations, max_episode_steps=50, score_threshold=None,
        n_jobs=n_jobs, random_state=0,
    )  # fmt: skip
    watch = lambda view: seen.append(bytes_in_use())  # noqa: E731
    policy.fit(options.env, callbacks=Chain(Checkpoint(options.checkpoint, every=10), watch))
    return np.array(seen, dtype=float)


def rows(options):
    for n_jobs in options.n_jobs:
        used = growth(options, n_jobs) / 2**20
        late = np.arange(used.size) >= used.size // 5
        x, y = np.arange(used.size)[late], used[late]
        slope, start = np.polyfit(x, y, 1)
        error = (y - slope * x - start).std() / (x.std() * np.sqrt(x.size))
        yield {
            "task": options.env, "n_jobs": n_jobs, "MiB after generation 1": used[0], f"after {x[0] + 1}": y[0],
            f"after {used.size}": y[-1], "KiB a generation": 1024 * slope, "±": 1024 * error,
        }  # fmt: skip
    for n_jobs in options.n_jobs:
        before, peak = bytes_in_use(), Peak()
        policy = EvolvingConnectivityPolicy(
            population_size=options.population, n_generations=1, n_jobs=n_jobs, random_state=0
        )
        peak.start()
        seconds, _ = runner.seconds(policy.fit, options.large_env)
        peak.stop()
        yield {
            "task": options.large_env, "population": options.population, "n_jobs": n_jobs,
            "connections": sum(matrix.size for matrix in policy.connectivity_.values()),
            "GiB before": before / 2**30, "GiB at most": peak.largest / 2**30, "steps": policy.n_env_steps_,
            "s": seconds,
        }  # fmt: skip
