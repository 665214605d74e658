"""Search distributions: how a population is drawn from theta, and how theta climbs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.fitness_shaping import Utility
from ecpolicy.kernels import host
from ecpolicy.kernels.host import PLANES
from ecpolicy.kernels.layout import WORD, Words, pack, words_per_row
from ecpolicy.networks.rsnn import Shape
from ecpolicy.random import Key, Stream, fold_in

Probabilities = Mapping[str, NDArray[np.float32]]
Packed = dict[str, Words]

WeightedSum = Callable[[Key, Words, Words, NDArray[np.int32]], NDArray[np.int64]]

LARGEST_WEIGHT = 2**25  # 64 weights below it add up in 32 bits


@dataclass(frozen=True)
class Bernoulli:
    """Independent connections: theta_ij ~ Bernoulli(rho_ij), equation 8.

    Parameters
    ----------
    shapes : mapping of str to Shape
        The connection matrices by name, (pre, post), each packed along one axis.
    initial_probability : float
        rho at the start, everywhere.
    eps : float
        rho is kept in [eps, 1 - eps], so that every connection goes on being explored.
    weighted_sum : callable (keys, planes, flips, weights) -> sums
        What adds up a population: the kernel of the host, or that of :mod:`ecpolicy.kernels.device`, which gives the
        same integers.
    """

    shapes: Mapping[str, Shape]
    initial_probability: float = 0.5
    eps: float = 1e-3
    weighted_sum: WeightedSum = host.weighted_sum

    def init(self) -> dict[str, NDArray[np.float32]]:
        """The connection probabilities rho (pre, post) at the start, by name."""
        p = np.float32(self.initial_probability)
        return {name: np.full((shape.pre, shape.post), p) for name, shape in self.shapes.items()}

    def project(self, rho: Probabilities) -> dict[str, NDArray[np.float32]]:
        """Rho clipped to [eps, 1 - eps] (paper, section 4)."""
        low, high = np.float32(self.eps), np.float32(1 - self.eps)
        return {name: np.clip(p, low, high) for name, p in rho.items()}

    def sample(self, rho: Probabilities, keys: Key) -> Packed:
        """The connections of the members with these keys (members, 2), packed: (members, rows, words) by name."""
        drawn = {}
        for name, (planes, flips) in self.slices(rho).items():
            drawn[name] = np.empty((keys.shape[0], *flips.shape), dtype=np.uint64)
            out = drawn[name].reshape(keys.shape[0], -1)
            host.sample(self.stream(keys, name), planes.reshape(PLANES, -1), flips.reshape(-1), out)
        return drawn

    def mode(self, rho: Probabilities) -> Packed:
        """The most probable network theta* = (rho > 0.5), packed with a leading axis of one."""
        return {name: pack(self._rows(p > 0.5, name))[None] for name, p in rho.items()}

    def gradient(self, rho: Probabilities, keys: Key, utility: Utility) -> dict[str, NDArray[np.float32]]:
        """Natural gradient estimate ``1/N sum_i u_i (theta_i - rho)`` (equation 14 without its step size).

        The population is drawn again from its keys, a few members at a time, and the sum runs over integers.

        Parameters
        ----------
        rho : connection probabilities by name
        keys : (members, 2), those the population was drawn with
        utility : integer weights (members,) and their scale
        """
        members = keys.shape[0]
        if np.abs(utility.weights).max(initial=0) >= LARGEST_WEIGHT:
            raise OverflowError(f"Utility weights must stay below 2**25 in magnitude, got {utility.weights}.")
        surplus = float(utility.weights.sum(dtype=np.int64))
        gradient = {}
        for name, (planes, flips) in self.slices(rho).items():
            total = self.weighted_sum(
                self.stream(keys, name), planes.reshape(PLANES, -1), flips.reshape(-1), utility.weights
            )
            sums = self._matrix(total.reshape(flips.shape[0], -1), name)
            gradient[name] = ((sums - surplus * rho[name]) / (members * utility.scale)).astype(np.float32)
        return gradient

    def stream(self, keys: Key, name: str) -> Key:
        """The keys that draw the matrix ``name``: one per member, another for every matrix."""
        return fold_in(fold_in(keys, Stream.CONNECTIONS), list(self.shapes).index(name))

    def slices(self, rho: Probabilities) -> dict[str, tuple[Words, Words]]:
        """Bit-sliced thresholds by name, for the kernels: planes (24, rows, words) and flips (rows, words)."""
        sliced = {}
        for name in self.shapes:
            rows = self._rows(rho[name], name)
            words = words_per_row(rows.shape[1])
            padded = np.zeros((rows.shape[0], words * WORD), dtype=np.float32)
            padded[:, : rows.shape[1]] = rows
            planes = np.empty((PLANES, rows.shape[0] * words), np.uint64)
            flips = np.empty(rows.shape[0] * words, np.uint64)
            host.threshold_planes(padded.reshape(-1), planes, flips)
            sliced[name] = planes.reshape(PLANES, -1, words), flips.reshape(-1, words)
        return sliced

    def _rows(self, matrix: NDArray[Any], name: str) -> NDArray[Any]:
        """A (pre, post) matrix as the rows that are packed."""
        return matrix if self.shapes[name].packed_axis == 1 else np.ascontiguousarray(matrix.T)

    def _matrix(self, rows: NDArray[np.int64], name: str) -> NDArray[np.int64]:
        """The (pre, post) matrix of padded rows: the inverse of ``_rows``."""
        shape = self.shapes[name]
        return rows[:, : shape.post] if shape.packed_axis == 1 else rows[:, : shape.pre].T
