"""Density budgets: blocks of connections that keep the mean probability of their prior, whatever the search does."""

import numpy as np
from numpy.typing import NDArray

LEVELS = 16  # probabilities of a prior that are told apart between two groups, at most
EXPECTED = 8  # connections (or missing ones) that a class of probabilities expects: few could never be decided
HALVINGS = 40  # of an interval of width 2 or little more: to 2e-12
CLOSE = 1e-6  # means that differ by less are equal: rounding to float32 moves them by 3e-8


def budget_blocks(prior: NDArray[np.float32], pre: NDArray[np.int64], post: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the blocks that have a budget each: connections between the same groups, of the same prior probability.

    Where a prior has more than ``LEVELS`` probabilities between two groups, as one that falls with distance, they are
    sorted into so many classes of equal size: each distance keeps its density. There are fewer classes where these
    would expect fewer than ``EXPECTED`` connections each, since a class that expects less than one can have none that
    is more likely than not.

    Parameters
    ----------
    prior : ndarray of float32, shape (pre, post)
    pre, post : ndarray of int64, shapes (pre,) and (post,)
        The groups of rows and columns.

    Returns
    -------
    ndarray of int64, shape (pre, post)
        From 0 on, without gaps.
    """
    pairs = pre[:, None] * (int(post.max(initial=0)) + 1) + post
    blocks, searched = pairs * LEVELS, (prior > 0) & (prior < 1)
    for pair in np.unique(pairs):
        members = (pairs == pair) & searched
        p = prior[members].astype(np.float64)
        levels, level = np.unique(p, return_inverse=True)
        most = int(np.clip(np.minimum(p, 1 - p).sum() / EXPECTED, 1, LEVELS))
        if levels.size > most:
            edges = np.quantile(p, np.linspace(0, 1, most + 1)[1:-1])
            level = np.searchsorted(edges, p, side="right")
        blocks[members] += level
    numbered: NDArray[np.int64] = np.unique(blocks, return_inverse=True)[1].reshape(prior.shape)
    return numbered


def within_budget(
    rho: NDArray[np.float32], prior: NDArray[np.float32], blocks: NDArray[np.int64], eps: float
) -> NDArray[np.float32]:
    """The nearest probabilities that have the prior's mean in every block, and go on being explored.

    A probability is kept in ``[2 eps prior, 1 - 2 eps (1 - prior)]``, which is ``[eps, 1 - eps]`` for a prior of one
    half: ``2 eps`` of every probability is the prior's. So a block whose connections are all decided has the prior's
    density, where ``[eps, 1 - eps]`` would take a tenth of it at 0.1. The nearest ones in the Euclidean sense are
    those that are all shifted by the same number and clipped; it is found by bisection.

    Parameters
    ----------
    rho, prior : ndarray of float32, shape (pre, post)
        A prior of exactly 0 or 1 is kept as it is.
    blocks : ndarray of int64, shape (pre, post)
        As :func:`budget_blocks` numbers them.
    eps : float

    Returns
    -------
    ndarray of float32, shape (pre, post)
        What is within its budget already comes back bit for bit.
    """
    label, start = blocks.ravel(), prior.ravel().astype(np.float64)
    fixed = (start == 0) | (start == 1)
    low = np.where(fixed, start, 2 * eps * start).astype(np.float32)
    high = np.where(fixed, start, 1 - 2 * eps * (1 - start)).astype(np.float32)
    given = rho.ravel()
    clipped = np.clip(given, low, high)
    size = np.bincount(label)

    def surplus(p: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(label, p - start) / size

    over = np.abs(surplus(clipped)) > CLOSE
    if not over.any():
        return clipped.reshape(rho.shape)
    below, above = (np.full(size.size, bound) for bound in (float((low - given).min()), float((high - given).max())))
    for _ in range(HALVINGS):
        shift = (below + above) / 2
        short = surplus(np.clip(given + shift[label], low, high)) < 0
        below, above = np.where(short, shift, below), np.where(short, above, shift)
    shifted = np.clip(given + above[label], low, high).astype(np.float32)
    return np.where(over[label], shifted, clipped).reshape(rho.shape)
