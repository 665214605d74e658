"""A grid search with two workers beside one: the time it takes, and whether the results are the same.

Eight settings on CartPole-v1, two folds over four environments. Both sides run in this process, in alternating order.
Beside every round is what the machine can give: two equal fits, one after the other and on two workers at once.

    python benchmarks/search.py [--generations 10] [--rounds 3]
"""

from functools import partial

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV

import runner
from ecpolicy import EvolvingConnectivityPolicy

GRID = {"learning_rate": [0.05, 0.1, 0.15, 0.3], "eps": [1e-3, 1e-2]}


def search(arguments, n_jobs, results):
    """Seconds; all results but the times go to the others."""
    policy = EvolvingConnectivityPolicy(
        population_size=arguments.population, n_generations=arguments.generations, score_threshold=None, random_state=0
    )
    grid = GridSearchCV(policy, GRID, cv=2, n_jobs=n_jobs, refit=False)
    seconds, found = runner.seconds(grid.fit, ["CartPole-v1"] * 4)
    results.append({name: np.asarray(part).tolist() for name, part in found.cv_results_.items() if "time" not in name})
    return seconds


def fit():
    EvolvingConnectivityPolicy(
        population_size=128, learning_rate=0.3, n_generations=6, score_threshold=None, random_state=0
    ).fit("CartPole-v1")


def two_fits(n_jobs):
    """Seconds of two equal fits, which is all that the machine can give."""
    return runner.seconds(Parallel(n_jobs=n_jobs), [delayed(fit)() for _ in range(2)])[0]


def main():
    parser = runner.parser(__doc__, rounds=3)
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--population", type=int, default=128)
    arguments = parser.parse_args()
    GridSearchCV(
        EvolvingConnectivityPolicy(n_generations=1, population_size=2), {"eps": [1e-3] * 4}, n_jobs=2, cv=2
    ).fit(["CartPole-v1"] * 2)  # workers are there
    results = []
    sides = {f"search, n_jobs={n}": partial(search, arguments, n, results) for n in (1, 2)}
    sides |= {f"two fits, n_jobs={n}": partial(two_fits, n) for n in (1, 2)}
    seconds = runner.in_turns(sides, arguments.rounds)
    for what in ("search", "two fits"):
        one, two = seconds[f"{what}, n_jobs=1"], seconds[f"{what}, n_jobs=2"]
        print(f"{what}: {np.median(one):.1f} s, n_jobs=2 is {runner.spread(one / two)} times as fast")
    print(f"cv_results_ equal: {all(found == results[0] for found in results)}")
    scores = np.round(results[0]["mean_test_score"], 1).tolist()
    print(f"mean_test_score {scores}")


if __name__ == "__main__":
    main()
