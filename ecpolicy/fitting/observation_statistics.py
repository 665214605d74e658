"""Observation statistics that a training starts from: those of VecNormalize, or mean, variance and count."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from ecpolicy.normalization import Moments
from ecpolicy.spaces import observation_size
from ecpolicy.untyped import Space

WANTED = (
    "observation_statistics must be a VecNormalize of Stable-Baselines3 that normalises observations, or (mean, "
    "variance, count) over flattened observations"
)


def initial_moments(given: object, space: Space, *, continues: bool = False) -> Moments:
    """The moments that ``fit`` was given to start from, those of no observation for None.

    Parameters
    ----------
    given : VecNormalize, (mean, variance, count) or None
        Mean and variance have the size of a flattened observation. An object counts as a VecNormalize if it has
        ``obs_rms``. Its pickled files are not read here: load them with ``VecNormalize.load``, where you trust them.
    space : gymnasium.Space
        Of the observations.
    continues : bool
        Whether an earlier training goes on, which has statistics of its own.

    Raises
    ------
    TypeError, ValueError
    """
    size = observation_size(space)
    if given is None:
        return Moments.empty(size)
    if continues:
        raise ValueError("observation_statistics are for a new training; the one that goes on has its own.")
    mean, variance, count = _parts(given, space)
    for name, value in (("mean", mean), ("variance", variance)):
        if value.shape != (size,) or not np.isfinite(value).all():
            raise ValueError(f"{WANTED}; the {name} must be {size} finite numbers, got {value}.")
    if (variance < 0).any() or not np.isfinite(count) or count < 0:
        raise ValueError(f"{WANTED}; variances and count must not be negative, got {variance} and {count}.")
    n = round(count)
    return Moments(n, mean, variance * n) if n else Moments.empty(size)


def _parts(given: object, space: Space) -> tuple[np.ndarray, np.ndarray, float]:
    if hasattr(given, "obs_rms"):
        running = given.obs_rms
        if isinstance(running, Mapping):  # of a Dict space, some of whose parts may not be normalised
            if not isinstance(space, spaces.Dict):
                raise ValueError(f"{WANTED}; got statistics of the parts {sorted(running)} for the space {space}.")
            parts = [_of_part(running.get(name), part) for name, part in space.spaces.items()]
            count = max((float(one.count) for one in running.values()), default=0.0)
            return np.concatenate([m for m, _ in parts]), np.concatenate([v for _, v in parts]), count
        mean, variance, count = running.mean, running.var, float(running.count)
    elif isinstance(given, tuple) and len(given) == 3:
        mean, variance, count = given
    else:
        raise TypeError(f"{WANTED}; got {given!r}.")
    return np.array(mean, np.float64).reshape(-1), np.array(variance, np.float64).reshape(-1), float(count)


def _of_part(running: Any, space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of one part of a Dict space; zeros and ones where it is left as it is."""
    if running is None:
        size = observation_size(space)
        return np.zeros(size), np.ones(size)
    return np.array(running.mean, np.float64).reshape(-1), np.array(running.var, np.float64).reshape(-1)
