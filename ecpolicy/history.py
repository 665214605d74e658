"""The history of a training: a sequence of records, kept as columns that grow."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from operator import index
from typing import Any, overload

import numpy as np

Record = dict[str, Any]
Columns = dict[str, np.ndarray]  # name -> (records,) int64, or float64 where NaN is None

INTEGERS = range(-(2**63), 2**63)
ROOM = 16  # rows that are added at least


class History(Sequence[Record]):
    """Records of numbers as a read-only sequence of dict, one a generation.

    ``history[-1]`` is a dict, made anew each time; ``history[-5:]`` is a list of them. Names that a record lacks are
    None in it. Whole numbers stay whole in a column of nothing else; next to None or to other numbers they are floats.
    NaN is None.

    Parameters
    ----------
    records : iterable of mapping of str to number or None

    Raises
    ------
    ValueError
        Where an entry is no number or None, or a whole number that a column cannot hold exactly; it names the entry.

    Examples
    --------
    >>> from ecpolicy.history import History
    >>> history = History([{"generation": 1, "return_mean": 9.5}, {"generation": 2, "return_mean": None}])
    >>> history[-1], len(history)
    ({'generation': 2, 'return_mean': None}, 2)
    """

    __slots__ = ("_n", "_shared")

    def __init__(self, records: Iterable[Mapping[str, object]] = ()) -> None:
        if not isinstance(records, Iterable):
            raise ValueError(f"history_ must be a sequence of dict; got {records!r}.")
        rows = list(records)
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping) or not row:
                raise ValueError(f"history_[{number}] must be a dict of numbers; got {row!r}.")
        names = dict.fromkeys(name for row in rows for name in row)
        self._n = len(rows)
        self._shared = _Shared({name: _column(name, [row.get(name) for row in rows]) for name in names}, self._n)

    @classmethod
    def of_columns(cls, columns: Mapping[str, np.ndarray]) -> "History":
        """The history with these columns, int64 or float64, all of one length."""
        made = cls()
        made._n = next((column.size for column in columns.values()), 0)
        made._shared = _Shared(dict(columns), made._n)
        return made

    @property
    def columns(self) -> Columns:
        """The columns by name, (records,): to look at, not to change."""
        seen = {name: column[: self._n] for name, column in self._shared.columns.items()}
        for column in seen.values():
            column.flags.writeable = False
        return seen

    def appended(self, record: Mapping[str, object]) -> "History":
        """A history with one record more, in constant time on average; this one stays as it is."""
        values = {name: _number(name, value) for name, value in record.items()}
        shared = self._shared
        with shared.lock:
            if shared.n != self._n or not _takes(shared.columns, values):  # another one has gone on from here
                return _with_room(History([*self, record]))
            if all(column.size > self._n for column in shared.columns.values()):
                return self._write(shared, values)
        return _with_room(self).appended(record)

    def _write(self, shared: "_Shared", values: Mapping[str, int | float]) -> "History":
        for name, value in values.items():
            shared.columns[name][self._n] = value
        made = History()
        made._shared, made._n = shared, self._n + 1
        shared.n = made._n
        return made

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, where: int) -> Record: ...
    @overload
    def __getitem__(self, where: slice) -> list[Record]: ...
    def __getitem__(self, where: int | slice) -> Record | list[Record]:
        if isinstance(where, slice):
            return [self[i] for i in range(*where.indices(self._n))]
        i = index(where)
        if not -self._n <= i < self._n:
            raise IndexError(f"history_ has {self._n} records; got the index {i}.")
        return {name: _shown(column[i]) for name, column in self.columns.items()}

    def __iter__(self) -> Iterator[Record]:
        columns = self.columns
        for i in range(self._n):
            yield {name: _shown(column[i]) for name, column in columns.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if self._n <= 4:
            return f"History({list(self)!r})"
        return f"History([{self[0]!r}, ..., {self[-1]!r}], of {self._n} records)"

    def __reduce__(self) -> tuple[object, ...]:
        return History.of_columns, ({name: column.copy() for name, column in self.columns.items()},)


class _Shared:
    """Columns with room for more, which the histories of a training share: each sees as many rows as it has."""

    __slots__ = ("columns", "lock", "n")

    def __init__(self, columns: Columns, n: int) -> None:
        self.columns, self.n, self.lock = columns, n, threading.Lock()


def appended(history: Sequence[Record], record: Record) -> Sequence[Record]:
    """A history with one record more; a list where somebody has given it what columns cannot hold."""
    try:
        return (history if isinstance(history, History) else History(history)).appended(record)
    except ValueError:
        return [*history, record]


def _with_room(history: History) -> History:
    """An equal history that shares nothing and has room for as many records again."""
    columns = {
        name: np.concatenate([column, np.empty(column.size + ROOM, column.dtype)])
        for name, column in history.columns.items()
    }
    made = History.of_columns(columns)
    made._n = made._shared.n = len(history)
    return made


def _number(name: str, value: object) -> int | float:
    if value is None:
        return np.nan
    if isinstance(value, Integral | np.bool_):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise ValueError(f"history_ may hold numbers and None; got {value!r} as {name!r}.")


def _column(name: str, values: Sequence[object]) -> np.ndarray:
    """The column of these values: int64 where all are whole numbers that fit, else float64."""
    if not isinstance(name, str):
        raise ValueError(f"history_ must have names that are strings; got {name!r}.")
    numbers = [_number(name, value) for value in values]
    if all(isinstance(number, int) and number in INTEGERS for number in numbers):
        return np.array(numbers, np.int64)
    for number in numbers:
        if isinstance(number, int) and not _exact(number):
            raise ValueError(f"history_ cannot hold {name!r} exactly, a whole number of {number.bit_length()} bits.")
    return np.array(numbers, np.float64)


def _exact(number: int) -> bool:
    """Whether a float has the value of a whole number."""
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


def _takes(columns: Columns, values: Mapping[str, int | float]) -> bool:
    """Whether a row of these values fits into the columns as they are."""
    return columns.keys() == values.keys() and all(
        (isinstance(value, int) and value in INTEGERS)
        if columns[name].dtype == np.int64
        else (isinstance(value, float) or _exact(value))
        for name, value in values.items()
    )


def _shown(value: np.generic) -> int | float | None:
    number: int | float = value.item()
    return None if number != number else number
