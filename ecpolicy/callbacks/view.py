"""What a callback gets to see of a training."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ecpolicy.history import History

K = TypeVar("K")
V = TypeVar("V")

CHANGES = ("fit", "partial_fit", "set_params")  # methods that a view does not have


class TrainingView:
    """A policy in training, to look at: attributes, ``predict``, ``score`` and ``save``, but nothing that changes it.

    Arrays are read-only, lists are read-only sequences and dictionaries read-only mappings. Views show the state of the
    moment: copy what should last. ``copy.deepcopy(view)`` is a view of the policy as it is now, and stays so.
    """

    __slots__ = ("_drawn", "_policy", "continues")

    continues: bool  # whether this fit goes on from an earlier one, which ``history_`` already holds at its begin

    def __init__(self, policy: object, *, continues: bool = False) -> None:
        object.__setattr__(self, "_policy", policy)
        object.__setattr__(self, "continues", continues)
        object.__setattr__(self, "_drawn", 0)  # networks that predict has sampled here, which the policy does not count

    def __copy__(self) -> "TrainingView":
        return _view(copy.copy(self._policy), self.continues, self._drawn)  # a training replaces what it learns

    def __reduce__(self) -> tuple[object, ...]:
        return _view, (self._policy, self.continues, self._drawn)

    def predict(self, *args: object, **kwargs: object) -> tuple[np.ndarray, object]:
        """As the policy's, without counting the networks that it samples."""
        looked_at = copy.copy(self._policy)
        looked_at._n_sampled += self._drawn
        answer: tuple[np.ndarray, object] = looked_at.predict(*args, **kwargs)
        object.__setattr__(self, "_drawn", looked_at._n_sampled - self._policy._n_sampled)
        return answer

    def __getattr__(self, name: str) -> Any:
        """An attribute of the policy, read-only."""
        if name.startswith("_"):
            raise AttributeError(f"{name} is not part of what a callback sees.")
        if name in CHANGES:
            raise AttributeError(f"A callback cannot call {name}: it looks at a training that goes on.")
        return read_only(getattr(self._policy, name))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"A callback cannot set {name}: it looks at a training that goes on.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"A callback cannot delete {name}: it looks at a training that goes on.")

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._policy) if not name.startswith("_") and name not in CHANGES]

    def __repr__(self) -> str:
        return f"TrainingView({self._policy!r})"


def _view(policy: object, continues: bool, drawn: int) -> TrainingView:
    view = TrainingView(policy, continues=continues)
    object.__setattr__(view, "_drawn", drawn)
    return view


class Records(Sequence[V]):
    """A list that cannot be changed, and neither can what is in it."""

    def __init__(self, items: Sequence[V]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int | slice) -> Any:
        return Records(self._items[index]) if isinstance(index, slice) else read_only(self._items[index])

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, Sequence) else other)

    def __hash__(self) -> int:
        return hash(tuple(self._items))

    def __repr__(self) -> str:
        return f"Records({self._items!r})"


class Entries(Mapping[K, V]):
    """A dictionary that cannot be changed, and neither can what is in it."""

    def __init__(self, entries: Mapping[K, V]) -> None:
        self._entries = {name: read_only(value) for name, value in entries.items()}

    def __getitem__(self, name: K) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __or__(self, other: Mapping[K, V]) -> dict[K, V]:
        return {**self, **other}

    def __ror__(self, other: Mapping[K, V]) -> dict[K, V]:
        return {**other, **self}

    def copy(self) -> dict[K, V]:
        """A dictionary with the same entries, to be changed."""
        return dict(self._entries)

    def __repr__(self) -> str:
        return f"Entries({self._entries!r})"


def read_only(value: object) -> Any:
    """A value through which its owner's data cannot be changed."""
    if isinstance(value, np.ndarray):
        seen = value.view()
        seen.flags.writeable = False
        return seen
    if isinstance(value, list | History):
        return Records(value)
    if isinstance(value, Mapping):
        return Entries(value)
    return value
