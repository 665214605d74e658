"""What a network is: shapes, a state at the start of episodes, and a step. Any object with these can be evolved."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecpolicy.random import Key

State = TypeVar("State", bound=tuple[NDArray[Any], ...])


class Shape(NamedTuple):
    """A matrix (pre, post) and, where its entries are bits, the axis along which they are packed."""

    pre: int
    post: int
    packed_axis: int = 1


class Network(Protocol):
    """A recurrent (or, with an empty state, a feed-forward) network, stepped for a batch of episodes.

    Implementations are frozen dataclasses: equal settings make equal networks. Connections are one of two kinds: packed
    bits (networks, rows, words) where the network is evolved by :class:`ecpolicy.EvolvingConnectivityPolicy`, see
    :mod:`ecpolicy.kernels.layout`, and float32 (networks, pre, post) where it is evolved by :class:`ecpolicy.ESPolicy`.
    """

    def __hash__(self) -> int:
        """Equal settings are one network, also as a key."""

    def shapes(self, obs_size: int, n_outputs: int) -> dict[str, Shape]:
        """The matrices that are searched for, by name."""

    def initial_state(self, keys: Key, n_outputs: int) -> Any:
        """States at the start of episodes with these keys (episodes, 2): a tuple of arrays (episodes, ...)."""

    def step(
        self,
        connections: Mapping[str, NDArray[Any]],
        state: Any,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        *,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        """Advance the episodes ``rows`` by one environment step, in place; the others are left alone.

        Parameters
        ----------
        connections : matrices by name, leading axis networks
        state : tuple of arrays (episodes, ...), updated in place
        x : ndarray of float32, shape (episodes, obs_size)
        output : ndarray of float32, shape (episodes, outputs), written
        owners : ndarray of int64, shape (episodes,)
            The network that drives each episode.
        rows : ndarray of int64
        """


def copied(state: State) -> State:
    """An independent copy of a state."""
    parts = [part.copy() for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)


def overwrite(state: State, rows: NDArray[np.bool_], fresh: State) -> None:
    """Overwrite the chosen episodes with ``fresh`` states, one for all or one each."""
    for part, new in zip(state, fresh, strict=True):
        part[rows] = new
