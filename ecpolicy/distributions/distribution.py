"""What a search distribution is, and one with its parameters."""

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ecpolicy.fitness_shaping import Utility
from ecpolicy.networks import Shape
from ecpolicy.networks.layout import Words
from ecpolicy.random import Key, Stream, fold_in

Parameters = Mapping[str, NDArray[np.float32]]
Connections = Mapping[str, np.ndarray]

WeightedNoise = Callable[[Key, NDArray[np.int32], int], NDArray[np.int64]]
WeightedSum = Callable[[Key, Words, Words, NDArray[np.int32]], NDArray[np.int64]]

LARGE = float(np.finfo(np.float32).max)
LARGEST_WEIGHT = 2**25  # 64 weights below it add up in 32 bits


class Sampler(Protocol):
    """A search distribution with its parameters, ready to be drawn from: what travels to whoever plays."""

    def sample(self, keys: Key) -> Connections:
        """The networks of the members with these keys (members, 2), leading axis members."""

    def mode(self) -> Connections:
        """The most probable network, with a leading axis of one."""

    def streams(self, keys: Key) -> Mapping[str, Key]:
        """The keys that draw each matrix, by name: one per member."""

    def for_device(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
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


def streams(keys: Key, index: int) -> Key:
    """The keys that draw matrix number ``index``, one per member."""
    return fold_in(fold_in(keys, Stream.CONNECTIONS), index)
