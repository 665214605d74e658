"""A grid search with two workers beside one: the time it takes, which has the same results.

Eight settings on CartPole-v1, two folds over four environments. Both sides run in this process, in alternating order.
Beside every round is what the machine can give: two equal fits, one after the other and on two workers at once.
"""

from functools import partial

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV

import runner
from ecpolicy import EvolvingConnectivityPolicy

OPTIONS = {"generations": 10, "population": 128, "rounds": 3}
GRID = {"learning_rate": [0.05, 0.1, 0.15, 0.3], "eps": [1e-3, 1e-2]}


def search(options, n_jobs, results):
    """Seconds; all results but the times go to the others."""
    policy = EvolvingConnectivityPolicy(
        population_size=options.population, n_generations=options.generations, score_threshold=None, random_state=0
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


def rows(options):
    GridSearchCV(
        EvolvingConnectivityPolicy(n_generations=1, population_size=2), {"eps": [1e-3] * 4}, n_jobs=2, cv=2
    ).fit(["CartPole-v1"] * 2)  # workers are there
    results = []
    sides = {f"search, n_jobs={n}": partial(search, options, n, results) for n in (1, 2)}
    sides |= {f"two fits, n_jobs={n}": partial(two_fits, n) for n in (1, 2)}
    seconds = runner.in_turns(sides, options.rounds)
    assert all(found == results[0] for found in results)
    for what in ("search", "two fits"):
        one, two = seconds[f"{what}, n_jobs=1"], seconds[f"{what}, n_jobs=2"]
        yield {"what": what, "s": one, "n_jobs=2 is as fast times": one / two}
