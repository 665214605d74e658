"""Wall-clock of tuned trainings in this checkout and in another one: the same settings, seeds and environment steps.

Each side trains in a process of its own, one after the other, with as many workers. Compiled code is cached before.

    git worktree add ../other COMMIT
    python benchmarks/run.py tuned_trainings --other ../other
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

STEPS = {"HalfCheetah-v5": 800_000, "Hopper-v5": 400_000, "Walker2d-v5": 400_000, "Humanoid-v5": 150_000}
OPTIONS = {"other": "", "env": list(STEPS), "seeds": [0], "n_jobs": 2}
FIT = """
import json, sys, time, warnings
import ecpolicy
warnings.simplefilter("ignore")
name, steps, seed, n_jobs = sys.argv[1], *map(int, sys.argv[2:])
tuned = ecpolicy.tuned(name)
parameters = tuned.parameters
if n_jobs == 0:
    parameters, steps, n_jobs = {**parameters, "population_size": 16, "max_episode_steps": 20}, 300, 1
settings = {**parameters, "n_generations": 10**6, "max_env_steps": steps, "n_jobs": n_jobs, "random_state": seed}
policy = ecpolicy.EvolvingConnectivityPolicy(**settings)
began = time.perf_counter()
policy.fit(tuned.environment)
seconds = time.perf_counter() - began
last = policy.history_[-1]
print(json.dumps([seconds, policy.n_env_steps_, last["n_evaluation_steps"], last["best_deployed_return"]]))
"""


def train(checkout, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", FIT, *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(Path(checkout).resolve())}
    # In its own folder, as Python looks for modules there first.
    done = subprocess.run(command, env=environ, cwd=checkout, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows(options):
    sides = {"other": options.other, "this": Path(__file__).parents[1]}
    for name in options.env:
        ratios = []
        for seed in options.seeds:
            seconds = {}
            for side, checkout in sides.items():
                train(checkout, name, 0, seed, 0)  # compiles
                seconds[side], steps, judged, best = train(checkout, name, STEPS[name], seed, options.n_jobs)
                yield {"task": name, "seed": seed, "side": side, "s": seconds[side], "steps": steps,
                       "of the deployed network": judged, "best": best}  # fmt: skip
            ratios.append(seconds["other"] / seconds["this"])
        yield {"task": name, "other over this": np.array(ratios)}
