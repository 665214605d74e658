"""Fitness shaping: from the returns of a generation to integer utilities whose weighted sums are exact.

A utility is ``weights / scale`` with integer weights that add up to zero, so that
``sum_i w_i (theta_i - rho) = sum_i w_i theta_i``: a sum of integers, the same in any order and on any device.

``FITNESS_SHAPINGS["mine"] = mine`` makes a function ``mine(fitness) -> Utility`` known by this name, to fits and to
files.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Utility(NamedTuple):
    """Integer weights (members,) that sum to zero; member i counts ``weights[i] / scale``."""

    weights: NDArray[np.int32]
    scale: float


FitnessShaping = Callable[[NDArray[np.float64]], Utility]


def centered_ranks(fitness: NDArray[np.float64]) -> Utility:
    """Ranks spread evenly over [-0.5, 0.5]; members with equal fitness share their mean rank.

    ``weights = 2 (2 rank - (n - 1))`` with ranks from 0, doubled so that shared ranks stay integer, and
    ``utility = rank / (n - 1) - 0.5``.
    """
    n = fitness.size
    _, rank, ties = np.unique(fitness, return_inverse=True, return_counts=True)
    twice_rank = (2 * ties.cumsum() - ties - 1)[rank].astype(np.int32)  # the mean of tied ranks from 0, doubled
    return Utility(2 * twice_rank - 2 * (n - 1), 4.0 * (n - 1))


def log_ranks(fitness: NDArray[np.float64]) -> Utility:
    """The weights of CMA-ES (Hansen, 2016) on the best quarter, nothing for the others; centred.

    Member i of the n/4 best weighs ``log(n / 4 + 1/2) - log(i)``, i counting from the best one, 1. Members with equal
    fitness share their mean. The weights have the deviation of centred ranks, rounded to multiples of 2**-16; the worst
    member has what rounding leaves.
    """
    n, best = fitness.size, max(fitness.size // 4, 1)
    _, rank, ties = np.unique(-fitness, return_inverse=True, return_counts=True)
    by_rank = np.maximum(0.0, np.log(best + 0.5) - np.log(np.arange(1, n + 1)))
    shared = (np.add.reduceat(by_rank, ties.cumsum() - ties) / ties)[rank]
    utility = (shared - shared.mean()) / (np.sqrt(12) * by_rank.std())
    weights = np.rint(utility * 2**16).astype(np.int32)
    weights[np.argmin(fitness)] -= weights.sum()
    return Utility(weights, 2.0**16)


FITNESS_SHAPINGS: dict[str, FitnessShaping] = {"centered_ranks": centered_ranks, "log_ranks": log_ranks}
