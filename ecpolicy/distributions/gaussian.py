"""Real weights: normal ones, and one network for certain."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions.distribution import Limits, Parameters, WeightedNoise, streams
from ecpolicy.fitness_shaping import Utility
from ecpolicy.networks import Shape
from ecpolicy.networks.numba import weights as kernels
from ecpolicy.random import NORMAL_UNIT, Key, normal_table


def host_noise(keys: Key, weights: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """``sum_m weights[m] z_m`` (size,) over the members with these keys, in units of the table of normal quantiles."""
    total = np.zeros(size, np.int64)
    kernels.weighted_noise(keys, normal_table(), weights, total)
    return total


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
        """Every mean is allowed."""
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
        """All weights are allowed."""
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
        return {name: self.distribution.streams(keys, name) for name in self.distribution.shapes}

    def for_device(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Means and the standard deviation of the noise in units of the table, by name."""
        unit = np.asarray(self.distribution.noise_unit, np.float32)
        return {name: (np.asarray(self.parameters[name]), unit) for name in self.distribution.shapes}
