"""Networks of integers against networks of floats: what they learn in equally many steps.

    python benchmarks/studies/integers.py [--tasks CartPole-v1 ...] [--seeds 0 1 2 3 4] [--print]

Both have the settings that were tuned for floats. A fit ends at the task's steps, or where its goal is confirmed. Each
is a row of integers.csv, with the columns of gains.csv; a row that is there is not made again.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import tables
from gains import row

from ecpolicy import EvolvingConnectivityPolicy, tuned
from ecpolicy.networks import RSNN, IntegerRSNN

PATH = Path(__file__).parent / "results" / "integers.csv"
NETWORKS = {"floats": RSNN, "integers": IntegerRSNN}
TASKS = {"CartPole-v1": 600_000, "Hopper-v5": 300_000, "HalfCheetah-v5": 300_000}  # environment steps


def fitted(task, name, seed):
    found = tuned(task)
    floats = found.parameters.get("network", RSNN())
    settings = found.parameters | {"network": NETWORKS[name](gain_in=floats.gain_in, gain_out=floats.gain_out)}
    policy = EvolvingConnectivityPolicy(
        **settings, max_env_steps=TASKS[task], n_generations=10_000, random_state=seed, n_jobs=1
    )
    return policy.fit(found.environment)


def print_table(rows):
    print("| task | network | return, each seed | mean, standard deviation | steps |\n| --- | --- | --- | --- | --- |")
    for task in TASKS:
        for name in NETWORKS:
            found = [r for r in rows if (r["env"], r["settings"]) == (task, name)]
            if found:
                scores, steps = (np.array([r[part] for r in found]) for part in ("score", "n_env_steps"))
                print(
                    f"| {task} | {name} | {', '.join(f'{score:,.4g}' for score in scores)} | {scores.mean():,.1f} ± "
                    f"{scores.std(ddof=1):,.1f} | {steps.mean():,.0f} ± {steps.std(ddof=1):,.0f} |"
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--print", action="store_true", help="print the table, train nothing")
    arguments = parser.parse_args()
    if arguments.print:
        print_table(tables.read(PATH))
        return
    keys = ((task, name, seed) for seed, task, name in itertools.product(arguments.seeds, arguments.tasks, NETWORKS))
    for made in tables.completed(PATH, keys, lambda *key: row(fitted(*key), *key)):
        print(made, flush=True)


if __name__ == "__main__":
    main()
