"""Wall-clock of tuned trainings in this checkout and in another one: the same settings, seeds and environment steps.

Each side trains in a process of its own, one after the other, with as many workers. Compiled code is cached before.

    git worktree add ../other COMMIT
    python benchmarks/tuned_trainings.py --other ../other [--env Hopper-v5 ...] [--seeds 0] [--n-jobs 2]
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import runner

STEPS = {"HalfCheetah-v5": 800_000, "Hopper-v5": 400_000, "Walker2d-v5": 400_000, "Humanoid-v5": 150_000}
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


def main():
    parser = runner.parser(__doc__)
    parser.add_argument("--other", required=True, help="the other checkout")
    parser.add_argument("--env", nargs="+", default=list(STEPS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--n-jobs", type=int, default=2)
    arguments = parser.parse_args()
    sides = {"other": arguments.other, "this": Path(__file__).parents[1]}
    for name in arguments.env:
        ratios = []
        for seed in arguments.seeds:
            seconds = {}
            for side, checkout in sides.items():
                train(checkout, name, 0, seed, 0)  # compiles
                seconds[side], steps, judged, best = train(checkout, name, STEPS[name], seed, arguments.n_jobs)
                print(
                    f"{name}, seed {seed}, {side}: {seconds[side]:.1f} s, {steps:,} steps and {judged:,} of the "
                    f"deployed network, best {best:,.0f}",
                    flush=True,
                )
            ratios.append(seconds["other"] / seconds["this"])
        print(f"{name}: other over this {runner.spread(ratios)}")


if __name__ == "__main__":
    main()
