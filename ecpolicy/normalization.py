"""Running mean and variance of observations, merged exactly as the parallel formula of Chan et al. (1983)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MINIMUM_STD = 1e-6


class Moments(NamedTuple):
    """Number n, mean (obs_size,) and sum of squared deviations (obs_size,), in float64."""

    n: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def empty(cls, obs_size: int) -> "Moments":
        """Moments of no observation."""
        return cls(0, np.zeros(obs_size), np.zeros(obs_size))

    @classmethod
    def from_sums(
        cls, count: int, shift: NDArray[np.float64], sums: NDArray[np.float64], squares: NDArray[np.float64]
    ) -> "Moments":
        """Moments of ``count`` observations from the sums of ``x - shift`` and of its square."""
        if count == 0:
            return cls.empty(shift.size)
        deviation = sums / count
        return cls(count, shift + deviation, np.maximum(squares - sums * deviation, 0.0))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both samples together."""
        if other.n == 0:
            return self
        if self.n == 0:
            return other
        count = self.n + other.n
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / count)
        squares = self.squares + other.squares + delta**2 * (self.n * other.n / count)
        return Moments(count, mean, squares)


class Standardizer(NamedTuple):
    """What a rollout needs of the moments: ``x = clip((obs - mean) * inverse_std, -clip, clip)``."""

    mean: NDArray[np.float64]
    inverse_std: NDArray[np.float64]
    clip: float

    @classmethod
    def of(cls, moments: Moments, *, enabled: bool, clip: float) -> "Standardizer":
        """The standardizer of these moments; the identity (apart from clipping) where disabled or without data."""
        if not enabled or moments.n < 2:
            return cls(np.zeros_like(moments.mean), np.ones_like(moments.mean), clip)
        std = np.sqrt(moments.squares / moments.n)
        return cls(moments.mean, 1.0 / np.maximum(std, MINIMUM_STD), clip)
