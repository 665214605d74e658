"""Environment steps per second of ``fit`` beside the physics alone, with one and two workers.

Every round runs, for n_jobs 1 and 2: a fit of a few generations; and the physics alone, that is the same environments
stepped through the same episodes (seeds, actions and lengths recorded from the same generations) by a bare loop, with
the episodes dealt out to as many joblib workers. Steps of the deployed network's evaluation count as steps of the fit,
and are part of what is replayed. Rounds alternate, so that a slow spell of the machine hits both sides; the median
ratio is reported.

    python benchmarks/throughput.py [--env Hopper-v5] [--generations 6] [--rounds 3]
"""

import argparse
import time
from typing import ClassVar

import gymnasium as gym
import numpy as np
from joblib import Parallel, delayed

from ecpolicy import EvolvingConnectivityPolicy

CHUNK = 16  # episodes per task of the bare loop


class Recorder(gym.Wrapper):
    """Keeps the seed and the actions of every episode that it plays."""

    episodes: ClassVar[list] = []

    def reset(self, *, seed=None, options=None):
        self.actions = []
        self.episodes.append((seed, self.actions))
        return self.env.reset(seed=seed, options=options)

    def step(self, action):
        self.actions.append(np.array(action))
        return self.env.step(action)


def make(env_id):
    return gym.make(env_id, disable_env_checker=True)


def policy(arguments, n_jobs):
    return EvolvingConnectivityPolicy(
        learning_rate=0.05, n_generations=arguments.generations, random_state=0, n_jobs=n_jobs
    )


def record(arguments):
    """The episodes of the fit, population and deployed network alike."""
    Recorder.episodes = []
    policy(arguments, 1).fit(lambda: Recorder(make(arguments.env)))
    return [(seed, np.array(actions)) for seed, actions in Recorder.episodes if len(actions)]


_environment = None


def replay(env_id, episodes):
    """Step one environment through recorded episodes; returns seconds of this worker."""
    global _environment
    if _environment is None:
        _environment = make(env_id)
    for seed, actions in episodes:
        _environment.reset(seed=seed)
        for action in actions:
            _environment.step(action)


def time_physics(arguments, episodes, n_jobs):
    chunks = [episodes[i : i + CHUNK] for i in range(0, len(episodes), CHUNK)]
    with Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="all") as parallel:
        parallel(delayed(replay)(arguments.env, episodes[:1]) for _ in range(2 * n_jobs))  # start the workers
        began = time.perf_counter()
        parallel(delayed(replay)(arguments.env, chunk) for chunk in chunks)
        return time.perf_counter() - began


def time_fit(arguments, n_jobs):
    """Seconds of the generations after the first, which starts workers and makes environments; and their steps."""
    fitted = policy(arguments, n_jobs).fit(arguments.env)
    first, last = fitted.history_[0], fitted.history_[-1]
    steps = sum(last[name] - first[name] for name in ("n_env_steps", "n_evaluation_steps"))
    return sum(record["seconds"] for record in fitted.history_[1:]), steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--generations", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    episodes = record(arguments)
    steps = sum(len(actions) for _, actions in episodes)
    print(f"{arguments.env}: {len(episodes)} episodes, {steps:,} steps recorded")
    speeds = {"fit": {1: [], 2: []}, "physics": {1: [], 2: []}}
    for number in range(arguments.rounds):
        for n_jobs in (1, 2):
            seconds, fit_steps = time_fit(arguments, n_jobs)
            speeds["fit"][n_jobs].append(fit_steps / seconds)
            speeds["physics"][n_jobs].append(steps / time_physics(arguments, episodes, n_jobs))
            fit, physics = speeds["fit"][n_jobs][-1], speeds["physics"][n_jobs][-1]
            print(f"round {number}, n_jobs {n_jobs}: fit {fit:,.0f}/s, physics {physics:,.0f}/s, {fit / physics:.2f}")
    for n_jobs in (1, 2):
        ratio = np.array(speeds["fit"][n_jobs]) / speeds["physics"][n_jobs]
        print(
            f"n_jobs {n_jobs}: fit over physics {np.median(ratio):.2f} (range {ratio.min():.2f} to {ratio.max():.2f})"
        )
    for name, by_jobs in speeds.items():
        scaling = np.array(by_jobs[2]) / by_jobs[1]
        print(f"{name}: n_jobs 2 over 1: {np.median(scaling):.2f} (range {scaling.min():.2f} to {scaling.max():.2f})")


if __name__ == "__main__":
    main()
