"""Tables of results as CSV: names as they are, everything else as JSON; an empty cell is a value that there is not.

A run has a row in runs.csv (settings, versions, and what the deployed network earned in the end) and a row for every
point of its curve in curves.csv; ``run`` is the same in both.
"""

import csv
import json

NAMES = {"run", "study", "method", "task", "engine", "machine", "env", "surrogate", "settings", "matrix"}


def read(path):
    """The table's rows as dicts, without their empty cells; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v if k in NAMES else json.loads(v) for k, v in row.items() if v} for row in rows]


def write(path, rows):
    """Write rows; columns are in the order in which the rows name them first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns, part = list(dict.fromkeys(name for row in rows for name in row)), path.with_suffix(".part")
    with part.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows({k: v if k in NAMES else json.dumps(v) for k, v in row.items()} for row in rows)
    part.replace(path)


def completed(path, keys, make):
    """Make the rows (env, settings, seed) that a table lacks, write each as soon as it is there, and give it."""
    for key in keys:
        rows = {(row["env"], row["settings"], row["seed"]): row for row in read(path)}
        if key not in rows:
            rows[key] = make(*key)
            write(path, [rows[key] for key in sorted(rows)])
            yield rows[key]


def read_runs(folder):
    """All runs by their ids, each with its ``curve``."""
    runs = {row["run"]: {**row, "curve": []} for row in read(folder / "runs.csv")}
    for point in read(folder / "curves.csv"):
        runs[point.pop("run")]["curve"].append(point)
    return runs


def write_runs(folder, runs):
    """Write what :func:`read_runs` gives, ordered by id."""
    runs = [runs[run] for run in sorted(runs)]
    write(folder / "curves.csv", [{"run": run["run"], **point} for run in runs for point in run["curve"]])
    write(folder / "runs.csv", [{name: value for name, value in run.items() if name != "curve"} for run in runs])
