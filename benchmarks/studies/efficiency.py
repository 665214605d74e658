"""Where a generation's seconds go (the paper's figure 5): 1-bit connections against real weights, same everything else.

One process, one environment after the other: Evolving Connectivity, and Evolution Strategies on the spiking network
with real weights, with the event-driven kernel and with a dense one. Generations alternate between the methods, so that
all see the same state of the machine; medians over generations. Sampling is drawing the population, update is drawing
it again for the gradient; physics is all the rest: environments, observations, actions, the optimizer. Network and
physics are per 1,000 environment steps of the population, as episodes differ in length.

    python benchmarks/studies/efficiency.py [--env Hopper-v5] [--population 256] [--neurons 256] [--generations 8]
        [--table FILE]
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import tables

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.distributions import Bernoulli, Gaussian
from ecpolicy.networks import RSNN, RealRSNN

spent = defaultdict(float)


def timed(owner, method, what):
    """Make a method add its seconds to ``spent[what]``."""
    plain = getattr(owner, method)

    def measured(*args, **kwargs):
        began = time.perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            spent[what] += time.perf_counter() - began

    setattr(owner, method, measured)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--neurons", type=int, default=256)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--horizon", type=int, default=200)
    parser.add_argument("--table", type=Path, help="CSV file for the medians, drawn by reproduce_figures.py")
    arguments = parser.parse_args()
    for distribution in (Bernoulli, Gaussian):
        timed(distribution, "sample", "sampling")
        timed(distribution, "gradient", "update")
    for network in (RSNN, RealRSNN):
        timed(network, "step", "network")
    common = {
        "population_size": arguments.population,
        "max_episode_steps": arguments.horizon,
        "n_generations": arguments.generations,
        "score_threshold": None,
        "eval_episodes": 1,
        "keep_best": False,
        "random_state": 0,
    }
    policies = {
        "EC, 1 bit": EvolvingConnectivityPolicy(network=RSNN(arguments.neurons), **common),
        "ES, event-driven": ESPolicy(network=RealRSNN(arguments.neurons), **common),
        "ES, dense": ESPolicy(network=RealRSNN(arguments.neurons, dense=True), **common),
    }
    rows = {name: [] for name in policies}
    for generation in range(arguments.generations + 1):
        for name, policy in policies.items():
            spent.clear()
            began = time.perf_counter()
            policy.partial_fit(arguments.env)
            seconds = time.perf_counter() - began
            steps = policy.n_env_steps_ - (policy.history_[-2]["n_env_steps"] if generation else 0)
            if generation:  # the first one compiles
                rest = seconds - sum(spent.values())
                per_step = [part / steps * 1000 for part in (spent["network"], rest, seconds)]
                rows[name].append((spent["sampling"], spent["update"], *per_step, steps))
    print(f"{arguments.env}, population {arguments.population}, {arguments.neurons} neurons")
    print(
        f"{'':>17} {'sampling, s':>12} {'update, s':>12} {'network, s/1000':>16} {'physics, s/1000':>16} "
        f"{'all, s/1000':>12} {'steps':>8}"
    )
    medians = {name: np.median(parts, axis=0) for name, parts in rows.items()}
    for name, (sampling, update, network, physics, whole, steps) in medians.items():
        print(f"{name:>17} {sampling:12.3f} {update:12.3f} {network:16.4f} {physics:16.4f} {whole:12.4f} {steps:8.0f}")
    if arguments.table:
        names = "sampling", "update", "network", "physics", "all", "steps"
        settings = {"env": arguments.env, "population": arguments.population, "neurons": arguments.neurons}
        parts = {method: dict(zip(names, map(float, row), strict=True)) for method, row in medians.items()}
        tables.write(arguments.table, [{**settings, "method": method, **row} for method, row in parts.items()])
    ours = medians["EC, 1 bit"]
    for name in list(policies)[1:]:
        theirs = medians[name]
        print(
            f"{name} over EC: sampling {theirs[0] / ours[0]:.1f}, update {theirs[1] / ours[1]:.1f}, network "
            f"{theirs[2] / ours[2]:.1f}, all per step {theirs[4] / ours[4]:.2f}"
        )


if __name__ == "__main__":
    main()
