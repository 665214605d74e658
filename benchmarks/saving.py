"""How long saving, loading and resuming take, and how large files are, as a training gets long and networks get large.

    python benchmarks/saving.py [--generations 100 1000 10000 100000] [--env CartPole-v1 Hopper-v5 Humanoid-v5]

A tiny task is trained for so many generations, in one training that is saved at each of them. Then policies of 256
neurons are trained for two tiny generations and saved with and without their training state. Times are medians.
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
    """The median time of a call."""
    return 1000 * float(np.median([runner.seconds(call)[0] for _ in range(times)]))


def long_training(generations, path):
    """Train, save, load and resume at each number of generations."""
    policy = EvolvingConnectivityPolicy(**TINY, warm_start=True)
    print(f"{'generations':>12} {'save':>9} {'load':>9} {'resume':>9} {'file':>12} {'a generation':>13}")
    for n in generations:
        done = getattr(policy, "n_generations_", 0)
        each = 1000 * runner.seconds(policy.set_params(n_generations=n).fit, OneStep)[0] / (n - done)
        save = milliseconds(lambda: policy.save(path))
        load = milliseconds(lambda: ecpolicy.load(path))
        goes_on = EvolvingConnectivityPolicy(**TINY, n_generations=n + 1)
        resume = milliseconds(lambda goes_on=goes_on: goes_on.fit(OneStep, resume_from=path), times=3)
        assert len(goes_on.history_) == goes_on.n_generations_ == n + 1
        assert goes_on.history_[:3] == policy.history_[:3]
        size = path.stat().st_size
        print(f"{n:>12,} {save:>6.1f} ms {load:>6.1f} ms {resume:>6.1f} ms {size:>12,} {each:>10.2f} ms", flush=True)


def large_networks(environments, path):
    """Sizes and times of policies of 256 neurons."""
    print(f"\n{'256 neurons':>14} {'training state':>15} {'file':>10} {'save':>9} {'load':>9}")
    for environment in environments:
        policy = EvolvingConnectivityPolicy(**SHORT).fit(environment)
        for training_state in (True, False):
            save = milliseconds(lambda ts=training_state, p=policy: p.save(path, training_state=ts))
            load = milliseconds(lambda: ecpolicy.load(path))
            size = path.stat().st_size
            print(f"{environment:>14} {training_state!s:>15} {size:>10,} {save:>6.1f} ms {load:>6.1f} ms", flush=True)


def main():
    parser = runner.parser(__doc__)
    parser.add_argument("--generations", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--env", nargs="*", default=["CartPole-v1", "Hopper-v5", "Humanoid-v5"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        long_training(sorted(arguments.generations), Path(folder) / "long.ecp")
        large_networks(arguments.env, Path(folder) / "large.ecp")


if __name__ == "__main__":
    main()
