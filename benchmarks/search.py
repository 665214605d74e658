"""A grid search with two workers beside one: the time it takes, and whether the results are the same.

Eight settings on CartPole-v1, two folds over four environments. Both sides run in this process, in alternating order.
Beside every round is what the machine can give: two equal fits, one after the other and on two workers at once.

    python benchmarks/search.py [--generations 10] [--rounds 3]
"""

import argparse
import time

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV

from ecpolicy import EvolvingConnectivityPolicy

GRID = {"learning_rate": [0.05, 0.1, 0.15, 0.3], "eps": [1e-3, 1e-2]}


def search(arguments, n_jobs):
    """Seconds, and all results but the times."""
    policy = EvolvingConnectivityPolicy(
        population_size=arguments.population, n_generations=arguments.generations, score_threshold=None, random_state=0
    )
    began = time.perf_counter()
    found = GridSearchCV(policy, GRID, cv=2, n_jobs=n_jobs, refit=False).fit(["CartPole-v1"] * 4)
    seconds = time.perf_counter() - began
    return seconds, {
        name: np.asarray(value).tolist() for name, value in found.cv_results_.items() if "time" not in name
    }


def fit():
    EvolvingConnectivityPolicy(
        population_size=128, learning_rate=0.3, n_generations=6, score_threshold=None, random_state=0
    ).fit("CartPole-v1")


def limit():
    """How many times as fast two equal fits are on two workers."""
    seconds = []
    for n_jobs in (1, 2):
        began = time.perf_counter()
        Parallel(n_jobs=n_jobs)(delayed(fit)() for _ in range(2))
        seconds.append(time.perf_counter() - began)
    return seconds[0] / seconds[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--population", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    GridSearchCV(
        EvolvingConnectivityPolicy(n_generations=1, population_size=2), {"eps": [1e-3] * 4}, n_jobs=2, cv=2
    ).fit(["CartPole-v1"] * 2)  # workers are there
    ratios, limits, results = [], [], []
    for number in range(arguments.rounds):
        seconds = {}
        for n_jobs in (1, 2) if number % 2 else (2, 1):
            seconds[n_jobs], found = search(arguments, n_jobs)
            results.append(found)
        ratios.append(seconds[1] / seconds[2])
        limits.append(limit())
        print(
            f"n_jobs 1: {seconds[1]:.1f} s, n_jobs 2: {seconds[2]:.1f} s, {ratios[-1]:.2f} times as fast "
            f"(two equal fits: {limits[-1]:.2f})",
            flush=True,
        )
    same = all(found == results[0] for found in results)
    scores = np.round(results[0]["mean_test_score"], 1).tolist()
    print(f"median {np.median(ratios):.2f} (range {min(ratios):.2f} to {max(ratios):.2f}); cv_results_ equal: {same}")
    print(f"two equal fits: median {np.median(limits):.2f} (range {min(limits):.2f} to {max(limits):.2f})")
    print(f"mean_test_score {scores}")


if __name__ == "__main__":
    main()
