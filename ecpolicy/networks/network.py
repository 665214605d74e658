"""What a network is: shapes, a state at the start of episodes, and a step. Any object with these can be evolved."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecpolicy.constraints import Table, check, meant
from ecpolicy.random import Key
from ecpolicy.untyped import Kwargs

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
else:
    DataclassInstance = object

State = TypeVar("State", bound=tuple[np.ndarray, ...])


class Shape(NamedTuple):
    """A matrix (pre, post) and, where its entries are bits, the axis along which they are packed."""

    pre: int
    post: int
    packed_axis: int = 1


class Network(Protocol):
    """A recurrent (or, with an empty state, a feed-forward) network, stepped for a batch of episodes.

    Implementations are frozen dataclasses: equal settings make equal networks. Connections are one of two kinds: packed
    bits (networks, rows, words) where the network is evolved by :class:`ecpolicy.EvolvingConnectivityPolicy`, see
    :mod:`ecpolicy.networks.layout`, and float32 (networks, pre, post) where it is evolved by
    :class:`ecpolicy.ESPolicy`.
    """

    def __hash__(self) -> int:
        """Equal settings are one network, also as a key."""

    def shapes(self, obs_size: int, n_outputs: int) -> dict[str, Shape]:
        """The matrices that are searched for, by name."""

    def initial_state(self, keys: Key, n_outputs: int) -> Any:
        """States at the start of episodes with these keys (episodes, 2): a tuple of arrays (episodes, ...)."""

    def step(
        self,
        connections: Mapping[str, np.ndarray],
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


class Settings(DataclassInstance):
    """Base of networks whose settings scikit-learn searches: frozen dataclasses, so that a change makes another one.

    ``policy.set_params(network__n_neurons=64)`` and searches over ``network__n_neurons`` work with networks that have
    this base, also with your own.
    """

    table: ClassVar[Table] = {}  # what the settings may be, where they are to be checked

    def __new__(cls, *values: object, **settings: object) -> Self:
        """Refuse settings that there are not, before Python does, which does not say which there are."""
        known = [field.name for field in fields(cls)]
        for name in sorted(set(settings).difference(known)):
            raise TypeError(f"{cls.__name__} has no setting {name!r}; it has {', '.join(known)}.{meant(name, known)}")
        return super().__new__(cls)

    def get_params(self, deep: bool = True) -> Kwargs:
        """The settings by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **settings: object) -> Self:
        """A network with these settings; this one stays as it is.

        Raises
        ------
        ValueError
            Where it has no such setting.
        """
        known = self.get_params()
        unknown = sorted(set(settings) - set(known))
        if unknown:
            said = f"{type(self).__name__} has no {', '.join(unknown)}; it has {', '.join(known)}."
            raise ValueError(said + meant(unknown[0], known))
        return replace(self, **settings)

    def checked(self) -> Self:
        """The network, its settings plain Python numbers.

        Raises
        ------
        TypeError, ValueError
            Naming the setting, what was given and what is wanted.
        """
        found = check(self.table.values(), self)
        return self if all(value is getattr(self, name) for name, value in found.items()) else replace(self, **found)

    def given(self) -> Kwargs:
        """The settings that are not the default, by name."""
        default = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in self.get_params().items() if value != default[name]}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_short(value)}' for name, value in self.given().items())})"


def _short(value: object) -> str:
    """A setting as Python writes it; of many numbers, the first three and the last."""
    if isinstance(value, tuple) and len(value) > 8:
        return f"({', '.join(map(repr, value[:3]))}, ..., {value[-1]!r})"
    return repr(value)


def copied(state: State) -> State:
    """An independent copy of a state."""
    parts = [part.copy() for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)


def overwrite(state: State, rows: NDArray[np.bool_], fresh: State) -> None:
    """Overwrite the chosen episodes with ``fresh`` states, one for all or one each."""
    for part, new in zip(state, fresh, strict=True):
        part[rows] = new
