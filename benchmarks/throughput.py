"""Environment steps per second of ``fit`` beside the physics alone, with one and two workers.

The physics alone is the same environments stepped through the same episodes (seeds, actions and lengths recorded from
the same generations) by a bare loop, the episodes dealt out to joblib workers. A fit with each ``n_jobs`` is run, and
after each of its generations the same generation is replayed with one and with two workers, so that both sides of every
ratio are measured within seconds of each other. Steps of the deployed network count on both sides. The first
generation, which starts the workers, is left out. Medians over generations and rounds are reported, with their range.

    python benchmarks/throughput.py [--env Hopper-v5] [--generations 6] [--rounds 1]
"""

import argparse
import time
from typing import ClassVar

import gymnasium as gym
import numpy as np
from joblib import Parallel, delayed

from ecpolicy import EvolvingConnectivityPolicy

CHUNK = 16  # episodes per task of the bare loop, as in a fit


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


def fit(arguments, environment, n_jobs, callback):
    EvolvingConnectivityPolicy(
        learning_rate=0.05, n_generations=arguments.generations, random_state=0, n_jobs=n_jobs
    ).fit(environment, callbacks=[callback])


def record(arguments):
    """The episodes of every generation of the fit, those of the population and of the deployed network."""
    generations = []

    def cut(policy):
        generations.append([(seed, np.array(actions)) for seed, actions in Recorder.episodes if len(actions)])
        Recorder.episodes.clear()

    fit(arguments, lambda: Recorder(make(arguments.env)), 1, cut)
    return generations


_environment = None


def replay(env_id, episodes):
    """Step one environment through recorded episodes."""
    global _environment
    if _environment is None:
        _environment = make(env_id)
    for seed, actions in episodes:
        _environment.reset(seed=seed)
        for action in actions:
            _environment.step(action)


def seconds_of_physics(env_id, episodes, parallel):
    chunks = [episodes[i : i + CHUNK] for i in range(0, len(episodes), CHUNK)]
    parallel(delayed(replay)(env_id, episodes[:1]) for _ in range(8))  # workers have their environment
    began = time.perf_counter()
    parallel(delayed(replay)(env_id, chunk) for chunk in chunks)
    return time.perf_counter() - began


def measure(arguments, generations, n_jobs):
    """Steps/s of every generation but the first: of the fit, and of the physics on one and on two workers."""
    speeds = []
    pools = {workers: Parallel(n_jobs=workers, batch_size=1, pre_dispatch="all") for workers in (1, 2)}

    def compare(policy):
        latest = policy.history_[-1]
        episodes = generations[latest["generation"] - 1]
        steps = sum(len(actions) for _, actions in episodes)
        physics = {w: steps / seconds_of_physics(arguments.env, episodes, pool) for w, pool in pools.items()}
        if latest["generation"] > 1:
            speeds.append((steps / latest["seconds"], physics[1], physics[2]))

    fit(arguments, arguments.env, n_jobs, compare)
    return np.array(speeds)


def report(name, ratios):
    print(f"{name}: {np.median(ratios):.2f} (range {ratios.min():.2f} to {ratios.max():.2f}, n = {ratios.size})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--generations", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    generations = record(arguments)
    steps = [sum(len(actions) for _, actions in episodes) for episodes in generations]
    print(f"{arguments.env}: steps per generation {steps}")
    speeds = {
        n_jobs: np.concatenate([measure(arguments, generations, n_jobs) for _ in range(arguments.rounds)])
        for n_jobs in (1, 2)
    }
    for n_jobs, (fit_speed, one, two) in {n: speed.T for n, speed in speeds.items()}.items():
        medians = [f"{np.median(speed):,.0f}" for speed in (fit_speed, one, two)]
        print("n_jobs {}, steps/s: fit {}, physics {} on one worker, {} on two".format(n_jobs, *medians))
        report(f"n_jobs {n_jobs}: fit over physics with as many workers", fit_speed / (one, two)[n_jobs - 1])
    every = np.concatenate(list(speeds.values()))
    report("physics, two workers over one", every[:, 2] / every[:, 1])
    report("fit, n_jobs 2 over 1, each against physics on one worker beside it",
           speeds[2][:, 0] / speeds[2][:, 1] / np.median(speeds[1][:, 0] / speeds[1][:, 1]))  # fmt: skip


if __name__ == "__main__":
    main()
