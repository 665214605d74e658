"""Which connections are the same in how many of 20 trainings on CartPole-v1, against chance.

    python benchmarks/studies/stability.py [--settings free "same input"] [--runs 20] [--generations 100]
        [--policies policies] [--results benchmarks/studies/results] [--print] [--figure stability.png]

"free" has the library's defaults: nothing tells two neurons of one sign apart. In "same input", all trainings have one
input matrix, drawn once with a density of one half and fixed, so that neuron k of one training is neuron k of another;
in "same input and output" one output matrix as well (the table has ``--runs 10 --generations 40``).
Policies are saved as they are trained; those that are there are not trained again. A row of stability.csv says of a
matrix how many connections are present in a number of runs, and how many would be by chance, that is, where runs share
the densities of blocks and nothing else.
"""

import argparse
from pathlib import Path

import numpy as np
import tables

import ecpolicy
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.across_seeds import Stability, stability

HERE = Path(__file__).parent
ENV, NEURONS = "CartPole-v1", 256
SAME = (np.random.default_rng(0).random((8, NEURONS)) < 0.5).astype(np.float32)  # (inputs and negatives, neurons)
READ = (np.random.default_rng(1).random((NEURONS, 2)) < 0.5).astype(np.float32)  # (neurons, outputs)
SETTINGS = {
    "free": {},
    "same input": {"initial_probability": {"input": SAME}},
    "same input and output": {"initial_probability": {"input": SAME, "output": READ}},
}
LEARNT = {
    "free": ("input", "recurrent", "output"),
    "same input": ("recurrent", "output"),
    "same input and output": ("recurrent",),
}


DRAWN = [("free", "recurrent"), ("same input", "output")]


def trained(setting, seed, folder, generations):
    """The connectome of a training, from its file where there is one."""
    path = folder / f"{setting.replace(' ', '-')}-{seed}.ecp"
    if not path.exists():
        policy = EvolvingConnectivityPolicy(**SETTINGS[setting], n_generations=generations, random_state=seed).fit(ENV)
        policy.save(path, training_state=False)
        print(setting, seed, policy.stop_reason_, policy.n_generations_, flush=True)
    return ecpolicy.load(path).connectome_


def rows_of(setting, connectomes):
    """A row for each learnt matrix and number of runs."""
    for matrix in LEARNT[setting]:
        found = stability(connectomes, [matrix])
        for runs, (connections, expected) in enumerate(zip(found.connections, found.by_chance, strict=True)):
            yield {"env": ENV, "settings": setting, "matrix": matrix, "runs": runs, "connections": int(connections),
                   "by_chance": round(float(expected), 4)}  # fmt: skip


def read(rows, setting, matrix):
    """What a table has of a matrix."""
    chosen = [row for row in rows if (row["settings"], row["matrix"]) == (setting, matrix)]
    return Stability({}, *(np.array([row[name] for row in chosen]) for name in ("connections", "by_chance")))


def show(rows):
    """The table of the documentation; ± is the standard deviation of the ratio by chance."""
    print("| setting | matrix | connections | variance of the counts / chance | in 3/4 of runs and more | by chance |\n"
          "| --- | --- | --- | --- | --- | --- |")  # fmt: skip
    for setting, matrix in dict.fromkeys((row["settings"], row["matrix"]) for row in rows):
        found = read(rows, setting, matrix)
        total, most = found.connections.sum(), 3 * found.connections.size // 4
        print(
            f"| {setting} | {matrix} | {total:,} | {found.variance_ratio:.3f} ± {np.sqrt(2 / total):.3f} | "
            f"{found.connections[most:].sum():,} | {found.by_chance[most:].sum():,.1f} |"
        )


def draw(rows, path):
    """In how many runs connections are present, beside chance."""
    from matplotlib import pyplot as plt

    from ecpolicy.inspection import StabilityDisplay

    figure, axes = plt.subplots(1, len(DRAWN), figsize=(3.4 * len(DRAWN), 2.3), layout="constrained")
    for ax, (setting, matrix) in zip(axes, DRAWN, strict=True):
        StabilityDisplay(read(rows, setting, matrix)).plot(ax=ax)
        ax.set_title(f"{setting}: {matrix} connections", fontsize="medium")
    figure.savefig(path, dpi=200)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--generations", type=int, default=100, help="at most")
    parser.add_argument("--policies", type=Path, default=Path("policies"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--print", action="store_true", help="train nothing")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    path = arguments.results / "stability.csv"
    rows = tables.read(path)
    if not arguments.print:
        arguments.policies.mkdir(parents=True, exist_ok=True)
        for setting in arguments.settings:
            connectomes = [
                trained(setting, seed, arguments.policies, arguments.generations) for seed in range(arguments.runs)
            ]
            others = [row for row in rows if row["settings"] != setting]
            rows = [*others, *rows_of(setting, connectomes)]
            tables.write(path, rows)
    show(rows)
    if arguments.figure:
        draw(rows, arguments.figure)


if __name__ == "__main__":
    main()
