"""Random graphs to compare a network with: they keep densities of blocks, or every neuron's degrees."""

import numpy as np
from numpy.typing import NDArray

Block = tuple[slice, slice]  # rows and columns; the same ones, or none in common

SWEEPS = 50  # trades of every neuron before a graph is taken


def with_densities(
    present: NDArray[np.bool_], blocks: list[Block], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """A random graph with as many connections in every block, none of a node with itself."""
    random = np.zeros_like(present)
    off = ~np.eye(len(present), dtype=bool)
    for rows, columns in blocks:
        places = off[rows, columns]
        block = np.zeros(places.shape, bool)
        block[places] = generator.permutation(present[rows, columns][places])
        random[rows, columns] = block
    return random


def with_degrees(
    present: NDArray[np.bool_], blocks: list[Block], generator: np.random.Generator, *, sweeps: int = SWEEPS
) -> NDArray[np.bool_]:
    """A random graph in which every node keeps its connections to and from each block's other end in number.

    A Markov chain whose stationary distribution is uniform over all such graphs without connections of a node with
    itself. In a sweep, all nodes of a block are paired; of the targets that just one of two nodes has, each gets as
    many as before, drawn at random (Curveball: Strona et al., 2014; all pairs at a time and directed: Carstens et al.,
    2016, arXiv:1609.05137). Two nodes do not trade each other. Trades alone cannot turn a cycle of three nodes around,
    so that some graphs would never be reached (Rao et al., 1996): triples of nodes whose connections are such a cycle
    are turned around as well. Trades and turns are as likely as what undoes them.

    Parameters
    ----------
    present : ndarray of bool, shape (nodes, nodes)
        Presynaptic by postsynaptic; the diagonal is left out.
    blocks : list of (rows, columns)
        Slices that cover the matrix; one block of all nodes keeps degrees alone.
    generator : numpy.random.Generator
    sweeps : int

    Returns
    -------
    ndarray of bool, shape (nodes, nodes)
    """
    random = present & ~np.eye(len(present), dtype=bool)
    for rows, columns in blocks:
        block = random[rows, columns]  # a view
        within = rows == columns
        for _ in range(sweeps):
            _trade(block, within, generator)
            if within:
                _turn(block, generator)
    return random


def _trade(block: NDArray[np.bool_], within: bool, generator: np.random.Generator) -> None:
    """Deal out anew, in place, the targets that one of two nodes has, for all nodes in pairs."""
    first, second = generator.permutation(len(block))[: len(block) // 2 * 2].reshape(2, -1)  # (pairs,) each
    one, other = block[first], block[second]
    dealt = one ^ other  # (pairs, columns)
    if within:
        pairs = np.arange(first.size)
        dealt[pairs, first] = dealt[pairs, second] = False
    keys = np.where(dealt, generator.random(dealt.shape), 2.0)
    ranks = np.empty(dealt.shape, np.int64)
    np.put_along_axis(ranks, keys.argsort(axis=1), np.arange(dealt.shape[1])[None], axis=1)
    to_one = ranks < (one & dealt).sum(axis=1, keepdims=True)
    block[first] = np.where(dealt, to_one, one)
    block[second] = np.where(dealt, ~to_one, other)


def _turn(block: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """Turn around, in place, cycles of three nodes that have no other connections among them."""
    i, j, k = generator.permutation(len(block))[: len(block) // 3 * 3].reshape(3, -1)  # (triples,) each
    pre, post = np.concatenate([i, j, k]), np.concatenate([j, k, i])
    around = block[pre, post].reshape(3, -1).all(axis=0) & ~block[post, pre].reshape(3, -1).any(axis=0)
    turned = np.tile(around, 3)
    block[pre[turned], post[turned]] = False
    block[post[turned], pre[turned]] = True
