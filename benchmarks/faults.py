"""Kill what trains, again and again, and compare what is learnt in the end with an undisturbed training.

First the training process itself: it is killed (SIGKILL) at a random moment, then the fit is resumed from its
checkpoint and finished. Then the workers of a fit, one after the other, on a pool of loky and on clusters of Dask and
Ray that are started on this machine. Everything learnt, and all that further training depends on, must be equal bit for
bit.

    python benchmarks/faults.py [--kills 20] [--worker-kills 10] [--engines loky dask ray] [--env Hopper-v5] [--seed 0]
"""

import argparse
import functools
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import gymnasium as gym
import numpy as np
from joblib import parallel_config

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Checkpoint
from learnt import fingerprint

# Generations so short that a good part of the time is saving: many kills come in the middle of it.
TRAINING = {"population_size": 16, "n_generations": 40, "max_episode_steps": 25, "score_threshold": None}
WORKERS = {"population_size": 128, "max_episode_steps": 200}


# The training process


def trainer():
    return EvolvingConnectivityPolicy(**TRAINING, random_state=0)


def train(environment, folder):
    """Fit with a checkpoint after every generation, from the newest one if there is one."""
    checkpoint = Checkpoint(folder / "training.ecp", keep=2)
    return trainer().fit(environment, callbacks=checkpoint, resume_from=checkpoint)


def start_training(environment, folder):
    """A process that trains; returns when its fit begins."""
    command = [sys.executable, __file__, "--env", environment, "--train", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "fit begins"
    return process


def kill_trainings(environment, kills, seed, report=print):
    """Kill a training ``kills`` times; how many resumed fits equal the undisturbed one."""
    expected = fingerprint(trainer().fit(environment))
    with tempfile.TemporaryDirectory() as folder:
        process, began = start_training(environment, Path(folder)), time.perf_counter()
        process.communicate()
        whole = time.perf_counter() - began
    generator, equal = np.random.default_rng(seed), 0
    for number, moment in enumerate(generator.uniform(0, whole, kills)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            process = start_training(environment, folder)
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            process.kill()
            process.wait()
            files = Checkpoint(folder / "training.ecp", keep=2).files()
            found = [EvolvingConnectivityPolicy.load(path).n_generations_ for path in files]  # every one is readable
            unfinished = len(list(folder.glob(".*.tmp")))
            same = fingerprint(train(environment, folder)) == expected
            equal += same
            report(
                f"kill {number + 1} after {moment:.2f} of {whole:.2f} s: checkpoints of generations {found}, "
                f"{unfinished} unfinished file(s); resumed fit {'equal' if same else 'DIFFERENT'}"
            )
    return equal


# The workers


class Notes(gym.Wrapper):
    """Leaves a file named after its process in a folder, at every episode."""

    def __init__(self, env, folder):
        super().__init__(env)
        self.folder = Path(folder)

    def reset(self, **kwargs):
        (self.folder / str(os.getpid())).touch()
        return self.env.reset(**kwargs)


class KillsWorkers(threading.Thread):
    """Kills (SIGKILL) processes that play episodes, one after the other, until there were ``kills`` of them.

    Environments leave a file named after their process in ``folder`` at every episode; the one that did so last is
    killed, ``pause`` seconds after the first episode since the kill before.
    """

    def __init__(self, folder, *, kills, pause=0.5):
        super().__init__(daemon=True)
        self.folder, self.kills, self.pause = Path(folder), kills, pause
        self.killed = []
        self._over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self.join()

    def run(self):
        after = time.time()
        while len(self.killed) < self.kills and not self._over.is_set():
            time.sleep(0.02)
            notes = [(path.stat().st_mtime, int(path.name)) for path in self.folder.iterdir()]
            fresh = [(when, process) for when, process in notes if when > after and process != os.getpid()]
            if fresh and not self._over.wait(self.pause):
                process = max(fresh)[1]
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    self.killed.append(process)
                after = time.time()


@contextmanager
def engine(name):
    """Two workers of joblib's backend ``name``, on a cluster of this machine."""
    if name == "dask":
        import dask
        from dask.distributed import Client, LocalCluster

        with (
            dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),  # workers are killed again and again
            LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            ) as cluster,
            Client(cluster),
            parallel_config(backend="dask"),
        ):
            yield
    elif name == "ray":
        import ray
        from ray.util.joblib import register_ray

        register_ray()
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        try:
            with parallel_config(backend="ray", n_jobs=-1):
                yield
        finally:
            ray.shutdown()
    else:
        with parallel_config(backend=name, n_jobs=2):
            yield


def kill_workers(name, environment, kills):
    """Kill workers until the count is reached; how many, in how many generations and seconds, and is the fit equal."""
    with tempfile.TemporaryDirectory() as folder, engine(name):
        noted = functools.partial(make_noted, environment, folder)
        policy = EvolvingConnectivityPolicy(**WORKERS, n_generations=10_000, random_state=0)
        began = time.perf_counter()
        with KillsWorkers(folder, kills=kills) as killer:
            policy.fit(noted, callbacks=lambda view: not killer.is_alive())
        seconds = time.perf_counter() - began
    undisturbed = EvolvingConnectivityPolicy(**WORKERS, n_generations=policy.n_generations_, random_state=0)
    same = fingerprint(undisturbed.fit(environment)) == fingerprint(policy)
    return len(killer.killed), policy.n_generations_, seconds, same


def make_noted(environment, folder):
    return Notes(gym.make(environment), folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--worker-kills", type=int, default=10)
    parser.add_argument("--engines", nargs="*", default=["loky", "dask", "ray"])
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        print("fit begins", flush=True)
        train(arguments.env, arguments.train)
        return
    if arguments.kills:
        equal = kill_trainings(arguments.env, arguments.kills, arguments.seed)
        print(f"training process: {equal} of {arguments.kills} resumed fits equal the undisturbed one", flush=True)
    for name in arguments.engines:
        killed, generations, seconds, same = kill_workers(name, arguments.env, arguments.worker_kills)
        print(
            f"{name}: {killed} workers killed in {generations} generations ({seconds:.0f} s); the fit is "
            f"{'equal to' if same else 'DIFFERENT from'} an undisturbed one",
            flush=True,
        )


if __name__ == "__main__":
    main()
