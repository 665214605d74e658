"""Run benchmarks of speed, one after the other: a table each, or with ``--json`` a document a row.

    python benchmarks/run.py                                  what there is
    python benchmarks/run.py import_time search               these, at their own sizes
    python benchmarks/run.py throughput --env Hopper-v5 --rounds 5 [--json]
    python benchmarks/run.py throughput --help

A benchmark is a module with a docstring, OPTIONS (sizes by name, with their defaults) and ``rows(options)``, which
yields the rows of its table as they are measured. A cell that is an array has the figures of the rounds: the table
shows their median and range.
"""

import argparse
import importlib
import json
import sys
from itertools import takewhile

import numpy as np

NAMES = ("c_header", "cluster_model", "clusters", "device_throughput", "import_time", "integrators", "memory",
         "microcontroller", "mujoco_engine", "network_step", "neurons_step", "newcomer_hour", "saving", "search",
         "simulation", "synthesis", "throughput", "tuned_trainings")  # fmt: skip


def options_of(benchmark, arguments):
    """The sizes that a benchmark is run at: its own, where the command line gives no others."""
    parser = argparse.ArgumentParser(
        prog=f"run.py {benchmark.__name__}",
        description=benchmark.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default in benchmark.OPTIONS.items():
        further = {"default": default, "help": f"default: {default}"}
        if isinstance(default, bool):
            further |= {"action": "store_true"}
        elif isinstance(default, list):
            further |= {"nargs": "+", "type": type(default[0])}
        else:
            further |= {"type": type(default)}
        parser.add_argument(f"--{name.replace('_', '-')}", **further)
    return parser.parse_args(arguments)


def text(cell):
    """A cell of the table."""
    if cell is None:
        return "-"
    if isinstance(cell, np.ndarray) and cell.size == 1:
        return text(cell[0])
    if isinstance(cell, np.ndarray):
        return f"{text(np.median(cell))} ({text(cell.min())} to {text(cell.max())}, n = {cell.size})"
    if isinstance(cell, float | np.floating):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int | np.integer) and not isinstance(cell, bool) else str(cell)


def show(rows):
    """Print rows as they come, below a head where the columns change."""
    columns = {}
    for row in rows:
        cells = {name: text(cell) for name, cell in row.items()}
        if list(columns) != list(cells):
            columns = {name: max(len(name), len(cell)) for name, cell in cells.items()}
            print("  ".join(f"{name:>{width}}" for name, width in columns.items()))
        print("  ".join(f"{cell:>{columns[name]}}" for name, cell in cells.items()), flush=True)


def main():
    given = [part for part in sys.argv[1:] if part != "--json"]
    names = list(takewhile(lambda part: not part.startswith("-"), given))
    if not names or not set(names) <= set(NAMES):
        sys.exit(f"{__doc__}\nBenchmarks: {', '.join(NAMES)}")
    for name in names:
        benchmark = importlib.import_module(name)
        rows = benchmark.rows(options_of(benchmark, given[len(names) :]))
        if "--json" in sys.argv:
            for row in rows:
                print(json.dumps({"benchmark": name, **row}, default=lambda cell: cell.tolist()), flush=True)
        else:
            print(f"\n{name}: {benchmark.__doc__.partition(chr(10))[0]}\n")
            show(rows)


if __name__ == "__main__":
    main()
