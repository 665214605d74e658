"""Search distributions: how a population is drawn from theta, and how theta climbs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.fitness_shaping import Utility
from ecpolicy.kernels import host
from ecpolicy.kernels.layout import WORD, Words, pack, words_per_row
from ecpolicy.networks.rsnn import Shape
from ecpolicy.random import Key, Stream, fold_in

Probabilities = Mapping[str, NDArray[np.float32]]
Packed = dict[str, Words]

MEMBERS_AT_A_TIME = 64  # members whose connections exist at once while the gradient is summed


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
    """

    shapes: Mapping[str, Shape]
    initial_probability: float = 0.5
    eps: float = 1e-3

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
        for name, slices, out in self._slices(rho, keys.shape[0]):
            host.sample(self._stream(keys, name), *slices, out.reshape(keys.shape[0], -1))
            drawn[name] = out
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
        if np.abs(utility.weights).max(initial=0) > 2**31 // MEMBERS_AT_A_TIME - 1:
            raise OverflowError(f"Utility weights must stay below 2**25 in magnitude, got {utility.weights}.")
        surplus = float(utility.weights.sum(dtype=np.int64))
        gradient = {}
        for name, slices, out in self._slices(rho, min(members, MEMBERS_AT_A_TIME)):
            stream = self._stream(keys, name)
            total = np.zeros(out[0].size * WORD, dtype=np.int64)
            flat = out.reshape(out.shape[0], -1)
            for start in range(0, members, MEMBERS_AT_A_TIME):
                chunk = slice(start, min(start + MEMBERS_AT_A_TIME, members))
                bits = flat[: chunk.stop - start]
                host.sample(stream[chunk], *slices, bits)
                host.add_weighted(bits, utility.weights[chunk], total)
            sums = self._matrix(total.reshape(out.shape[1], -1), name)
            gradient[name] = ((sums - surplus * rho[name]) / (members * utility.scale)).astype(np.float32)
        return gradient

    def _stream(self, keys: Key, name: str) -> Key:
        """The keys that draw the matrix ``name``: one per member, another for every matrix."""
        return fold_in(fold_in(keys, Stream.CONNECTIONS), list(self.shapes).index(name))

    def _rows(self, matrix: NDArray[Any], name: str) -> NDArray[Any]:
        """A (pre, post) matrix as the rows that are packed."""
        return matrix if self.shapes[name].packed_axis == 1 else np.ascontiguousarray(matrix.T)

    def _matrix(self, rows: NDArray[np.int64], name: str) -> NDArray[np.int64]:
        """The (pre, post) matrix of padded rows: the inverse of ``_rows``."""
        shape = self.shapes[name]
        return rows[:, : shape.post] if shape.packed_axis == 1 else rows[:, : shape.pre].T

    def _slices(self, rho: Probabilities, members: int) -> Iterator[tuple[str, tuple[Words, Words], Words]]:
        """Per matrix: its name, its bit-sliced thresholds and an uninitialised buffer (members, rows, words)."""
        for name in self.shapes:
            rows = self._rows(rho[name], name)
            words = words_per_row(rows.shape[1])
            padded = np.zeros((rows.shape[0], words * WORD), dtype=np.float32)
            padded[:, : rows.shape[1]] = rows
            n_words = rows.shape[0] * words
            planes, flips = np.empty((host.PLANES, n_words), np.uint64), np.empty(n_words, np.uint64)
            host.threshold_planes(padded.reshape(-1), planes, flips)
            yield name, (planes, flips), np.empty((members, rows.shape[0], words), dtype=np.uint64)
