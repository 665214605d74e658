"""Search distributions: how a population is drawn from theta, and how theta climbs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ecpolicy.fitness_shaping import Utility
from ecpolicy.networks import Shape
from ecpolicy.networks.layout import PLANES, WORD, Words, halves, pack, words_per_row
from ecpolicy.networks.numba import bits as host
from ecpolicy.networks.numba import weights as kernels
from ecpolicy.random import NORMAL_UNIT, Key, Stream, fold_in, normal_table

Parameters = Mapping[str, NDArray[np.float32]]
Connections = Mapping[str, NDArray[Any]]

WeightedNoise = Callable[[Key, NDArray[np.int32], int], NDArray[np.int64]]
WeightedSum = Callable[[Key, Words, Words, NDArray[np.int32]], NDArray[np.int64]]

LARGE = float(np.finfo(np.float32).max)
LARGEST_WEIGHT = 2**25  # 64 weights below it add up in 32 bits


def host_noise(keys: Key, weights: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """``sum_m weights[m] z_m`` (size,) over the members with these keys, in units of the table of normal quantiles."""
    total = np.zeros(size, np.int64)
    kernels.weighted_noise(keys, normal_table(), weights, total)
    return total


class Sampler(Protocol):
    """A search distribution with its parameters, ready to be drawn from: what travels to whoever plays."""

    def sample(self, keys: Key) -> Connections:
        """The networks of the members with these keys (members, 2), leading axis members."""

    def mode(self) -> Connections:
        """The most probable network, with a leading axis of one."""

    def streams(self, keys: Key) -> Mapping[str, Key]:
        """The keys that draw each matrix, by name: one per member."""

    def for_device(self) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """What XLA draws each matrix from, by name.

        Of bits ``(planes, flips)`` in words of uint32; of weights the means and the standard deviation of the noise, in
        units of the table.
        """


class Limits(NamedTuple):
    """The shape of a parameter, and the numbers that it lies between."""

    shape: tuple[int, ...]
    low: float = -LARGE
    high: float = LARGE


class Distribution(Protocol):
    """A search distribution over the matrices of a network, by name."""

    packed: ClassVar[bool]  # connections are bits, packed, and not weights

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The matrices."""

    @property
    def limits(self) -> Mapping[str, Limits]:
        """Shape and range of the parameters, by name: what a file is held against, before memory is taken."""

    def init(self, key: Key) -> dict[str, NDArray[np.float32]]:
        """The parameters at the start (pre, post), by name."""

    def project(self, parameters: Parameters) -> dict[str, NDArray[np.float32]]:
        """The nearest parameters that are allowed."""

    def sampler(self, parameters: Parameters) -> Sampler:
        """The distribution with these parameters."""

    def sample(self, parameters: Parameters, keys: Key) -> Connections:
        """The networks of the members with these keys (members, 2), leading axis members."""

    def sample_independent(self, parameters: Parameters, keys: Key) -> Connections:
        """Networks that do not depend on each other, one from each key, as ``sample`` gives them."""

    def mode(self, parameters: Parameters) -> Connections:
        """The most probable network, with a leading axis of one."""

    def gradient(self, parameters: Parameters, keys: Key, utility: Utility) -> dict[str, NDArray[np.float32]]:
        """The estimated gradient of the expected utility, by name."""

    def streams(self, keys: Key, name: str) -> Key:
        """The keys that draw the matrix ``name``, one per member."""


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
    """

    shapes: Mapping[str, Shape]
    initial_probability: float | Mapping[str, NDArray[np.float32]] = 0.5
    eps: float = 1e-3
    weighted_sum: WeightedSum = host.weighted_sum
    packed: ClassVar[bool] = True

    @property
    def limits(self) -> dict[str, Limits]:
        """Probabilities (pre, post), by name."""
        return {name: Limits((shape.pre, shape.post), 0.0, 1.0) for name, shape in self.shapes.items()}

    def init(self, key: Key | None = None) -> dict[str, NDArray[np.float32]]:
        """The connection probabilities rho (pre, post) at the start, by name."""
        return {name: self._initial(name) for name in self.shapes}

    def project(self, rho: Parameters) -> dict[str, NDArray[np.float32]]:
        """Rho clipped to [eps, 1 - eps] (paper, section 4), apart from what is fixed at 0 or 1."""
        low, high = np.float32(self.eps), np.float32(1 - self.eps)
        clipped = {name: np.clip(p, low, high) for name, p in rho.items()}
        if isinstance(self.initial_probability, Mapping):
            for name, p in clipped.items():
                start = self._initial(name)
                np.copyto(p, start, where=(start == 0) | (start == 1))
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

    def _rows(self, matrix: NDArray[Any], name: str) -> NDArray[Any]:
        """A (pre, post) matrix as the rows that are packed."""
        return matrix if self.shapes[name].packed_axis == 1 else np.ascontiguousarray(matrix.T)

    def _matrix(self, rows: NDArray[np.int64], name: str) -> NDArray[np.int64]:
        """The (pre, post) matrix of padded rows: the inverse of ``_rows``."""
        shape = self.shapes[name]
        return rows[:, : shape.post] if shape.packed_axis == 1 else rows[:, : shape.pre].T


def streams(keys: Key, index: int) -> Key:
    """The keys that draw matrix number ``index``, one per member."""
    return fold_in(fold_in(keys, Stream.CONNECTIONS), index)


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

    def for_device(self) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """Planes and flips in words of uint32, by name."""
        return {name: (halves(planes), halves(flips)) for name, (planes, flips) in self.slices.items()}


@dataclass(frozen=True)
class Gaussian:
    """Independent normal weights of fixed standard deviation, in antithetic pairs (Salimans et al., 2017).

    Members 2i and 2i + 1 are ``mean + sigma z`` and ``mean - sigma z``, with z from the first one's key. Draws come
    from a table of integers, see :func:`ecpolicy.random.normal_table`, so that populations are the same on every
    backend and gradient sums exact in any order.

    Parameters
    ----------
    shapes : mapping of str to Shape
        The weight matrices by name, (pre, post).
    sigma : float
    initial_scales : mapping of str to float
        Standard deviations of the means at the start.
    weighted_noise : callable (keys, weights, size) -> sums
        What adds up the noise of a population, in units of the table.
    """

    shapes: Mapping[str, Shape]
    sigma: float
    initial_scales: Mapping[str, float]
    weighted_noise: WeightedNoise = host_noise
    packed: ClassVar[bool] = False

    @property
    def noise_unit(self) -> float:
        """The standard deviation in units of the table."""
        return self.sigma * NORMAL_UNIT

    @property
    def limits(self) -> dict[str, Limits]:
        """Means (pre, post), by name."""
        return {name: Limits((shape.pre, shape.post)) for name, shape in self.shapes.items()}

    def init(self, key: Key) -> dict[str, NDArray[np.float32]]:
        """Means (pre, post) at the start: normal, of the standard deviations ``initial_scales``."""
        zeros = {name: np.zeros((shape.pre, shape.post), np.float32) for name, shape in self.shapes.items()}
        return {name: self._draw(mean, self.initial_scales[name], key[None], name)[0] for name, mean in zeros.items()}

    def project(self, parameters: Parameters) -> dict[str, NDArray[np.float32]]:
        """Any mean is allowed."""
        return dict(parameters)

    def sampler(self, parameters: Parameters) -> "WeightSampler":
        """The distribution with these means."""
        return WeightSampler(self, parameters)

    def sample(self, parameters: Parameters, keys: Key) -> dict[str, NDArray[np.float32]]:
        """Weights (members, pre, post) by name; every second member is the mirror image of the one before it."""
        first, signs = self._first_of_pairs(keys), np.resize(np.array([1, -1], np.float32), keys.shape[0])
        return {name: self._draw(mean, self.sigma, first, name, signs) for name, mean in parameters.items()}

    def sample_independent(self, parameters: Parameters, keys: Key) -> dict[str, NDArray[np.float32]]:
        """Weights (networks, pre, post) by name, none the mirror image of another."""
        return {name: self._draw(mean, self.sigma, keys, name) for name, mean in parameters.items()}

    def mode(self, parameters: Parameters) -> dict[str, NDArray[np.float32]]:
        """The means, with a leading axis of one."""
        return {name: np.ascontiguousarray(mean)[None] for name, mean in parameters.items()}

    def gradient(self, parameters: Parameters, keys: Key, utility: Utility) -> dict[str, NDArray[np.float32]]:
        """Gradient estimate ``1/(N sigma) sum_i u_i z_i`` of the expected utility with respect to the means."""
        pairs = np.pad(utility.weights, (0, keys.shape[0] % 2)).reshape(-1, 2)
        each = pairs[:, 0] - pairs[:, 1]  # of a pair's z: its second member has -z
        scale = NORMAL_UNIT / (keys.shape[0] * self.sigma * utility.scale)
        gradient = {}
        for name, mean in parameters.items():
            total = self.weighted_noise(self.streams(keys, name)[::2], each, mean.size)
            gradient[name] = (total * scale).astype(np.float32).reshape(mean.shape)
        return gradient

    def streams(self, keys: Key, name: str) -> Key:
        """The keys that draw the matrix ``name``: those of each pair's first member, another for every matrix."""
        return self._own_streams(self._first_of_pairs(keys), name)

    def _first_of_pairs(self, keys: Key) -> Key:
        """Every pair's first key twice."""
        return np.repeat(keys[::2], 2, axis=0)[: keys.shape[0]]

    def _own_streams(self, keys: Key, name: str) -> Key:
        """The keys that draw the matrix ``name``, another for every matrix."""
        return streams(keys, list(self.shapes).index(name))

    def _draw(
        self, mean: NDArray[np.float32], scale: float, keys: Key, name: str, signs: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """``mean + sign scale z`` (keys, pre, post), with z from each key and signs of 1 unless given."""
        members = keys.shape[0]
        signs = np.ones(members, np.float32) if signs is None else signs
        drawn = np.empty((members, *mean.shape), np.float32)
        flat = np.ascontiguousarray(mean).reshape(-1)
        kernels.perturb(self._own_streams(keys, name), signs, normal_table(), flat, scale, drawn.reshape(members, -1))
        return drawn


@dataclass(frozen=True)
class Point:
    """One network for certain: what a policy that was trained by gradients deploys."""

    shapes: Mapping[str, Shape]
    packed: ClassVar[bool] = False
    noise_unit: ClassVar[float] = 0.0

    @property
    def limits(self) -> dict[str, Limits]:
        """Weights (pre, post), by name."""
        return {name: Limits((shape.pre, shape.post)) for name, shape in self.shapes.items()}

    def init(self, key: Key) -> dict[str, NDArray[np.float32]]:
        """Weights of zero (pre, post), by name."""
        return {name: np.zeros((shape.pre, shape.post), np.float32) for name, shape in self.shapes.items()}

    def project(self, parameters: Parameters) -> dict[str, NDArray[np.float32]]:
        """Any weights are allowed."""
        return dict(parameters)

    def sampler(self, parameters: Parameters) -> "WeightSampler":
        """The network with these weights."""
        return WeightSampler(self, parameters)

    def sample(self, parameters: Parameters, keys: Key) -> dict[str, NDArray[np.float32]]:
        """The same weights for every member: (members, pre, post) by name."""
        return {name: np.repeat(p[None], keys.shape[0], axis=0) for name, p in parameters.items()}

    def sample_independent(self, parameters: Parameters, keys: Key) -> dict[str, NDArray[np.float32]]:
        """The same as ``sample``: there is one network."""
        return self.sample(parameters, keys)

    def mode(self, parameters: Parameters) -> dict[str, NDArray[np.float32]]:
        """The weights, with a leading axis of one."""
        return {name: np.ascontiguousarray(p)[None] for name, p in parameters.items()}

    def gradient(self, parameters: Parameters, keys: Key, utility: Utility) -> dict[str, NDArray[np.float32]]:
        """Zeros: there is nothing to climb by."""
        return {name: np.zeros_like(p) for name, p in parameters.items()}

    def streams(self, keys: Key, name: str) -> Key:
        """The keys themselves: nothing is drawn from them."""
        return keys


@dataclass(frozen=True)
class WeightSampler:
    """A distribution of real weights with its parameters."""

    distribution: Gaussian | Point
    parameters: Parameters

    def sample(self, keys: Key) -> dict[str, NDArray[np.float32]]:
        """Weights (members, pre, post) by name of the members with these keys."""
        return self.distribution.sample(self.parameters, keys)

    def mode(self) -> dict[str, NDArray[np.float32]]:
        """The most probable network, with a leading axis of one."""
        return self.distribution.mode(self.parameters)

    def streams(self, keys: Key) -> dict[str, Key]:
        """The keys that draw each matrix, by name: one per member."""
        return {name: self.distribution.streams(keys, name) for name in self.parameters}

    def for_device(self) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """Means and the standard deviation of the noise in units of the table, by name."""
        unit = np.asarray(self.distribution.noise_unit, np.float32)
        return {name: (np.asarray(mean), unit) for name, mean in self.parameters.items()}
