"""How long saving, loading and resuming take, and how large files are, as a training gets long and networks get large.

A tiny task is trained for so many generations, in one training that is saved at each of them. Then policies of 256
neurons are trained for two tiny generations and saved with and without their training state.
"""

import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import ecpolicy
import runner
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN

OPTIONS = {"generations": [100, 1000, 10_000, 100_000], "env": ["CartPole-v1", "Hopper-v5", "Humanoid-v5"]}
TINY = {"network": RSNN(4, step_ms=1.0, dt=1.0), "population_size": 2, "eval_episodes": 1, "confirm_episodes": 1,
        "score_threshold": None, "random_state": 0}  # fmt: skip
SHORT = {"population_size": 4, "n_generations": 2, "max_episode_steps": 20, "eval_episodes": 1, "confirm_episodes": 1,
         "random_state": 0}  # fmt: skip


class OneStep(gym.Env):
    """An episode of one step."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(self.np_random.random()), True, False, {}


def milliseconds(call, times=9):
    """The times of a call."""
    return 1000 * np.array([runner.seconds(call)[0] for _ in range(times)])


def long_training(generations, path):
    """Train, save, load and resume at each number of generations."""
    policy = EvolvingConnectivityPolicy(**TINY, warm_start=True)
    for n in sorted(generations):
        done = getattr(policy, "n_generations_", 0)
        each = 1000 * runner.seconds(policy.set_params(n_generations=n).fit, OneStep)[0] / (n - done)
        save, load = milliseconds(lambda: policy.save(path)), milliseconds(lambda: ecpolicy.load(path))
        goes_on = EvolvingConnectivityPolicy(**TINY, n_generations=n + 1)
        resume = milliseconds(lambda goes_on=goes_on: goes_on.fit(OneStep, resume_from=path), times=3)
        assert len(goes_on.history_) == goes_on.n_generations_ == n + 1
        assert goes_on.history_[:3] == policy.history_[:3]
        yield {"generations": n, "ms to save": save, "to load": load, "to resume": resume, "a generation": each,
               "bytes": path.stat().st_size}  # fmt: skip


def large_networks(environments, path):
    """Sizes and times of policies of 256 neurons."""
    for environment in environments:
        policy = EvolvingConnectivityPolicy(**SHORT).fit(environment)
        for training_state in (True, False):
            save = milliseconds(lambda ts=training_state, p=policy: p.save(path, training_state=ts))
            load = milliseconds(lambda: ecpolicy.load(path))
            yield {"task": environment, "training state": training_state, "ms to save": save, "to load": load,
                   "bytes": path.stat().st_size}  # fmt: skip


def rows(options):
    with tempfile.TemporaryDirectory() as folder:
        yield from long_training(options.generations, Path(folder) / "long.ecp")
        yield from large_networks(options.env, Path(folder) / "large.ecp")
