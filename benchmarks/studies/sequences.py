"""What recurrent connections earn on tasks that are not control: examples/sequence_tasks.py, by task and seed.

    python benchmarks/studies/sequences.py [--tasks memory ...] [--settings recurrent ...] [--seeds 0 1 2 3 4]
        [--results benchmarks/studies/results] [--print]

Each fit is a row of sequences.csv: "score" is the share of right answers of the deployed network in 2,000 trials that
training never saw. A row that is there is not made again.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import tables

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent.parent / "examples"))
import sequence_tasks  # noqa: E402

PLAIN = {"population_size": 256, "episodes_per_member": 16, "n_generations": 20}
GRADED = {"population_size": 128, "episodes_per_member": 64, "n_generations": 60, "common_episodes": True,
          "graded": True, "neurons": 64, "gain_in": 0.3}  # fmt: skip
SETTINGS = {
    "recurrent": PLAIN,
    "fixed": PLAIN | {"recurrence": "fixed"},
    "no recurrence": PLAIN | {"recurrence": "none"},
    "recurrent, common episodes": PLAIN | {"common_episodes": True},
    "graded": GRADED,
    "graded, fixed": GRADED | {"recurrence": "fixed"},
    "graded, no recurrence": GRADED | {"recurrence": "none"},
}


def fit(task, setting, seed, generations=None):
    """The row of a fit, of the setting's generations or of so many."""
    began = time.process_time()
    changed = {} if generations is None else {"n_generations": generations}
    policy, score = sequence_tasks.train(task, **SETTINGS[setting] | changed, random_state=seed)
    population = float(np.mean([record["return_mean"] for record in policy.history_[-5:]]))
    return {"env": task, "settings": setting, "seed": seed, "generations": policy.n_generations_,
            "n_env_steps": policy.n_env_steps_, "population": round(population, 4), "score": round(score, 4),
            "seconds": round(time.process_time() - began, 1)}  # fmt: skip


def show(rows):
    """The table of the documentation."""
    print("| task | chance | " + " | ".join(SETTINGS) + " |\n| --- | --- |" + " --- |" * len(SETTINGS))
    for task, (_, _, answers, _) in sequence_tasks.TASKS.items():
        cells = []
        for setting in SETTINGS:
            found = [100 * row["score"] for row in rows if (row["env"], row["settings"]) == (task, setting)]
            cells.append(f"{np.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})" if found else "-")
        print(f"| {task} | {100 / answers:.0f} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(sequence_tasks.TASKS), default=list(sequence_tasks.TASKS))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--generations", type=int, help="instead of each setting's own")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--print", action="store_true")
    arguments = parser.parse_args()
    path = arguments.results / "sequences.csv"
    if not arguments.print:
        keys = itertools.product(arguments.seeds, arguments.settings, arguments.tasks)
        wanted = ((task, setting, seed) for seed, setting, task in keys)
        for row in tables.completed(path, wanted, lambda *key: fit(*key, arguments.generations)):
            print(row, flush=True)
    show(tables.read(path))


if __name__ == "__main__":
    main()
