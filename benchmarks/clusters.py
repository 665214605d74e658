"""Throughput of a fit on Dask and on Ray beside loky's, two workers each on this machine.

All engines run the same fit (equal seeds, hence equal episodes in every generation), one after the other, in rounds
that begin with another engine each, so that a busy neighbour hits all of them. A cluster runs during its own fit only.
The first generation, which starts workers and imports, is left out; a generation's seconds are compared with those of
the same generation on loky in the same round. ``--horizon 1`` plays episodes of one step each, and so shows what a
generation takes beyond its episodes.

    python benchmarks/clusters.py [--env Hopper-v5] [--populations 256 1024] [--generations 6] [--rounds 3]
                                  [--horizon 1000]
"""

import argparse

import numpy as np

from ecpolicy import EvolvingConnectivityPolicy
from faults import engine

ENGINES = ("loky", "dask", "ray")


def seconds_per_generation(name, arguments, population):
    """Seconds of every generation but the first, and steps (the deployed network's included)."""
    policy = EvolvingConnectivityPolicy(
        population_size=population, n_generations=arguments.generations, learning_rate=0.05, score_threshold=None,
        max_episode_steps=arguments.horizon, keep_best=False, random_state=0,
    )  # fmt: skip
    with engine(name):
        policy.fit(arguments.env)
    steps = np.diff([record["n_env_steps"] + record["n_evaluation_steps"] for record in policy.history_])
    return np.array([record["seconds"] for record in policy.history_[1:]]), steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--populations", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--generations", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--horizon", type=int, default=1000)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    arguments = parser.parse_args()
    names = list(dict.fromkeys(["loky", *arguments.engines]))
    for population in arguments.populations:
        seconds = {name: [] for name in names}
        for number in range(arguments.rounds):
            for name in np.roll(names, number).tolist():
                taken, steps = seconds_per_generation(name, arguments, population)
                seconds[name].append(taken)
                print(
                    f"population {population}, round {number + 1}, {name}: {np.round(taken, 3)} s, steps {steps}",
                    flush=True,
                )
        loky = np.concatenate(seconds["loky"])
        for name in names:
            taken = np.concatenate(seconds[name])
            ratio = loky / taken
            print(
                f"population {population}, {name}: {np.median(taken):.3f} s a generation, "
                f"{np.median(np.tile(steps, arguments.rounds) / taken):,.0f} steps/s; "
                f"{np.median(ratio):.2f} of loky's throughput (range {ratio.min():.2f} to {ratio.max():.2f}, "
                f"n = {ratio.size}); {1000 * np.median(taken - loky):+.0f} ms a generation",
                flush=True,
            )


if __name__ == "__main__":
    main()
