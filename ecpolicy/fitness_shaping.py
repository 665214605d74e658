"""Fitness shaping: from the returns of a generation to integer utilities whose weighted sums are exact.

A utility is ``weights / scale`` with integer weights that add up to zero, so that
``sum_i w_i (theta_i - rho) = sum_i w_i theta_i``: a sum of integers, the same in any order and on any device.
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
