"""Connections that are there or not: the paper's search distribution."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions.budget import within_budget
from ecpolicy.distributions.distribution import LARGEST_WEIGHT, Limits, Parameters, WeightedSum, streams
from ecpolicy.fitness_shaping import Utility
from ecpolicy.networks import Shape
from ecpolicy.networks.layout import PLANES, WORD, Words, halves, pack, words_per_row
from ecpolicy.networks.numba import bits as host
from ecpolicy.random import Key


@dataclass(frozen=True)
class Bernoulli:
    """Independent connections: theta_ij ~ Bernoulli(rho_ij), equation 8.

    Parameters
    ----------
    shapes : mapping of str to Shape
        The connection matrices by name, (pre, post), each packed along one axis.
    initial_probability : float or mapping of str to ndarray, shape (pre, post)
        rho at the start, everywhere or by matrix. Entries of exactly 0 or 1 stay for good.
    eps : float
        Other rho are kept in [eps, 1 - eps], so that every connection goes on being explored.
    weighted_sum : callable (keys, planes, flips, weights) -> sums
        What adds up a population: the kernel of the host, or that of :mod:`ecpolicy.networks.xla.bits`, which gives the
        same integers.
    budgets : mapping of str to ndarray of int64, shape (pre, post), optional
        Matrices whose blocks keep the mean probability that they start from, see
        :func:`ecpolicy.distributions.budget.budget_blocks`.
    """

    shapes: Mapping[str, Shape]
    initial_probability: float | Mapping[str, NDArray[np.float32]] = 0.5
    eps: float = 1e-3
    weighted_sum: WeightedSum = host.weighted_sum
    budgets: Mapping[str, NDArray[np.int64]] | None = None
    packed: ClassVar[bool] = True

    @property
    def limits(self) -> dict[str, Limits]:
        """Probabilities (pre, post), by name."""
        return {name: Limits((shape.pre, shape.post), 0.0, 1.0) for name, shape in self.shapes.items()}

    def init(self, key: Key | None = None) -> dict[str, NDArray[np.float32]]:
        """The connection probabilities rho (pre, post) at the start, by name."""
        return {name: self._initial(name) for name in self.shapes}

    def project(self, rho: Parameters) -> dict[str, NDArray[np.float32]]:
        """Rho clipped to [eps, 1 - eps] (paper, section 4), apart from what is fixed at 0 or 1, and within budgets."""
        low, high = np.float32(self.eps), np.float32(1 - self.eps)
        clipped = {name: np.clip(p, low, high) for name, p in rho.items()}
        if isinstance(self.initial_probability, Mapping):
            for name, p in clipped.items():
                start = self._initial(name)
                np.copyto(p, start, where=(start == 0) | (start == 1))
        for name, blocks in (self.budgets or {}).items():
            clipped[name] = within_budget(rho[name], self._initial(name), blocks, self.eps)
        return clipped

    def _initial(self, name: str) -> NDArray[np.float32]:
        start, shape = self.initial_probability, self.shapes[name]
        p = start.get(name, np.float32(0.5)) if isinstance(start, Mapping) else np.float32(start)
        return np.array(np.broadcast_to(p, (shape.pre, shape.post)), dtype=np.float32)

    def sampler(self, rho: Parameters) -> "BernoulliSampler":
        """The distribution with these probabilities, sliced once."""
        return BernoulliSampler(self.slices(rho))

    def sample(self, rho: Parameters, keys: Key) -> dict[str, Words]:
        """The connections of the members with these keys (members, 2), packed: (members, rows, words) by name."""
        return self.sampler(rho).sample(keys)

    def sample_independent(self, rho: Parameters, keys: Key) -> dict[str, Words]:
        """The same as ``sample``: members do not depend on each other."""
        return self.sample(rho, keys)

    def mode(self, rho: Parameters) -> dict[str, Words]:
        """The most probable network theta* = (rho > 0.5), packed with a leading axis of one."""
        return {name: pack(self._rows(p > 0.5, name))[None] for name, p in rho.items()}

    def gradient(self, rho: Parameters, keys: Key, utility: Utility) -> dict[str, NDArray[np.float32]]:
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
                self.streams(keys, name), planes.reshape(PLANES, -1), flips.reshape(-1), utility.weights
            )
            sums = self._matrix(total.reshape(flips.shape[0], -1), name)
            gradient[name] = ((sums - surplus * rho[name]) / (members * utility.scale)).astype(np.float32)
        return gradient

    def streams(self, keys: Key, name: str) -> Key:
        """The keys that draw the matrix ``name``: one per member, another for every matrix."""
        return streams(keys, list(self.shapes).index(name))

    def slices(self, rho: Parameters) -> dict[str, tuple[Words, Words]]:
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

    def _rows(self, matrix: np.ndarray, name: str) -> np.ndarray:
        """A (pre, post) matrix as the rows that are packed."""
        return matrix if self.shapes[name].packed_axis == 1 else np.ascontiguousarray(matrix.T)

    def _matrix(self, rows: NDArray[np.int64], name: str) -> NDArray[np.int64]:
        """The (pre, post) matrix of padded rows: the inverse of ``_rows``."""
        shape = self.shapes[name]
        return rows[:, : shape.post] if shape.packed_axis == 1 else rows[:, : shape.pre].T


@dataclass(frozen=True)
class BernoulliSampler:
    """Bernoulli connections of given probabilities: 24 bit planes and the most probable network, by name."""

    slices: Mapping[str, tuple[Words, Words]]

    def sample(self, keys: Key) -> dict[str, Words]:
        """The connections of the members with these keys (members, 2), packed: (members, rows, words) by name."""
        drawn = {}
        each = self.streams(keys)
        for name, (planes, flips) in self.slices.items():
            drawn[name] = np.empty((keys.shape[0], *flips.shape), dtype=np.uint64)
            out = drawn[name].reshape(keys.shape[0], -1)
            host.sample(each[name], planes.reshape(PLANES, -1), flips.reshape(-1), out)
        return drawn

    def streams(self, keys: Key) -> dict[str, Key]:
        """The keys that draw each matrix, by name: one per member."""
        return {name: streams(keys, index) for index, name in enumerate(self.slices)}

    def mode(self) -> dict[str, Words]:
        """The most probable network, packed with a leading axis of one."""
        return {name: flips[None] for name, (_, flips) in self.slices.items()}

    def for_device(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Planes and flips in words of uint32, by name."""
        return {name: (halves(planes), halves(flips)) for name, (planes, flips) in self.slices.items()}
