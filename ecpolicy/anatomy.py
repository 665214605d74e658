"""Anatomical priors: where connections are likely, certain or impossible before anything is learnt.

Give what these functions return as ``initial_probability={"recurrent": ...}``. Probabilities of exactly 0 and 1 stay
for good: such connections are absent, or present, in every network of every generation.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

OPEN = np.float32(2**-24), np.float32(1 - 2**-24)  # the probabilities nearest to those that stay for good


def block_probabilities(
    n_neurons: int, blocks: Mapping[tuple[str, str], float], *, excitatory_ratio: float = 0.5, otherwise: float = 0.5
) -> NDArray[np.float32]:
    """Probabilities of recurrent connections by the groups that they join.

    Parameters
    ----------
    n_neurons : int
    blocks : mapping of (pre, post) to float
        Groups are "E" and "I"; ``{("E", "I"): 0.2}`` is excitatory to inhibitory.
    excitatory_ratio : float
        As the policy's.
    otherwise : float
        Of the blocks that are not named.

    Returns
    -------
    ndarray of float32, shape (n_neurons, n_neurons)
        Presynaptic by postsynaptic.
    """
    split = round(excitatory_ratio * n_neurons)
    groups = {"E": slice(0, split), "I": slice(split, n_neurons)}
    unknown = {group for pair in blocks for group in pair} - set(groups)
    if unknown:
        raise ValueError(f'Blocks join the groups "E" and "I"; got {", ".join(map(repr, sorted(unknown)))}.')
    probabilities = np.full((n_neurons, n_neurons), otherwise, np.float32)
    for (pre, post), p in blocks.items():
        probabilities[groups[pre], groups[post]] = p
    return _checked(probabilities)


def distance_probabilities(
    positions: ArrayLike, *, length: float, peak: float = 1.0, reach: float = np.inf, self_connections: bool = False
) -> NDArray[np.float32]:
    """Probabilities of recurrent connections that fall with distance: ``peak exp(-distance / length)``.

    Parameters
    ----------
    positions : array, shape (neurons, dimensions)
        Such as those of :func:`ring` and :func:`grid`; distances are straight lines.
    length : float
        The distance over which probabilities fall to 1/e.
    peak : float
        Probability at distance 0.
    reach : float
        Beyond it there are no connections, at any time. Within it all are possible and none is certain, at any peak.
    self_connections : bool
        Whether a neuron may have one with itself; otherwise it has none, at any time.

    Returns
    -------
    ndarray of float32, shape (neurons, neurons)
    """
    points = np.asarray(positions, dtype=np.float64)
    if points.ndim != 2:
        raise ValueError(f"positions must have the shape (neurons, dimensions), got {points.shape}.")
    if not length > 0:
        raise ValueError(f"length must be above 0, got {length!r}.")
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    unclipped = _checked(np.asarray(peak * np.exp(-distance / length), np.float32))
    probabilities = np.where(distance <= reach, np.clip(unclipped, *OPEN), np.float32(0))
    if not self_connections:
        np.fill_diagonal(probabilities, 0.0)
    return probabilities


def ring(n_neurons: int, *, circumference: float = 1.0) -> NDArray[np.float64]:
    """Positions evenly around a circle, where excitatory and inhibitory neurons have halves of it each.

    Interleave them by taking ``positions[order]`` with an order of your own.

    Parameters
    ----------
    n_neurons : int
    circumference : float

    Returns
    -------
    ndarray, shape (n_neurons, 2)
    """
    angle = 2 * np.pi * np.arange(n_neurons) / n_neurons
    return circumference / (2 * np.pi) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def grid(n_neurons: int) -> NDArray[np.float64]:
    """Positions row by row on a square lattice of unit spacing, the last row perhaps not full.

    Excitatory neurons are a network's first: permute the rows, or they lie apart from the inhibitory ones.

    Parameters
    ----------
    n_neurons : int

    Returns
    -------
    ndarray, shape (n_neurons, 2)
    """
    side = int(np.ceil(np.sqrt(n_neurons)))
    return np.stack(np.divmod(np.arange(n_neurons), side), axis=1).astype(np.float64)


def _checked(probabilities: NDArray[np.float32]) -> np.ndarray:
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # NaN as well
        raise ValueError(
            f"Probabilities must lie in [0, 1]; got some from {probabilities.min()} to {probabilities.max()}."
        )
    return probabilities
