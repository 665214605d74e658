"""One codec for all that a file holds: trees of named tuples and dicts, to JSON and arrays and back, each part checked.

A *schema* is a tree of the same tuples and dicts with leaves in the places of values, which say what may stand there.
The functions that make leaves claim to return Any, so that a schema of a tuple has the type of that tuple.

>>> from ecpolicy.normalization import Moments
>>> schema = Moments(count(), array("<f8", (2,)), array("<f8", (2,), low=0))
>>> encode(schema, Moments(3, np.zeros(2), np.ones(2)))
({'n': 3}, {'mean': array([0., 0.]), 'squares': array([1., 1.])})
>>> decode(schema, {'n': 3}, {'mean': np.zeros(2), 'squares': -np.ones(2)})
Traceback (most recent call last):
    ...
ecpolicy.files.archive.ModelFileError: array 'squares' has values outside [0, 1.7976931348623157e+308].
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ecpolicy.files.archive import Arrays, ModelFileError
from ecpolicy.trees import joined, parts, rebuilt

T = TypeVar("T")

LARGEST_COUNT = 2**63
TINY = 5e-324  # the smallest number above zero
SCALARS = (bool, int, float, np.bool_, np.integer, np.float16, np.float32, np.float64)


@dataclass(frozen=True)
class _Leaf:
    """A value in JSON: ``write`` gives what JSON has, ``read`` the value, or raises."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


@dataclass(frozen=True)
class _Array:
    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True)
class _Optional:
    schema: object


@dataclass(frozen=True)
class _Known:
    value: object


@dataclass(frozen=True)
class _Following:
    schema_after: Callable[[Mapping[str, Any]], Any]


def leaf(write: Callable[[Any], Any], read: Callable[[Any], Any]) -> Any:
    """A value that is written as JSON has it, and read again; ``read`` raises where it makes no sense."""
    return _Leaf(write, read)


def array(dtype: str, shape: Iterable[int], low: float | None = None, high: float | None = None) -> Any:
    """An array of this dtype and shape within bounds; without them, of finite numbers."""
    finite: Any = np.finfo(dtype).max if np.dtype(dtype).kind == "f" else np.inf
    return _Array(dtype, tuple(shape), -finite if low is None else low, finite if high is None else high)


def number(low: float = -np.inf, high: float = np.inf, *, integer: bool = False) -> Any:
    """A finite number in [low, high]."""
    kind: Any = int if integer else float

    def read(value: object) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | kind):
            raise TypeError
        if not low <= value <= high or not np.isfinite(float(value)):
            raise ValueError
        return kind(value)

    return _Leaf(kind, read)


def count(high: float = LARGEST_COUNT) -> Any:
    """A whole number from 0."""
    return number(0, high, integer=True)


def only(kind: type) -> Any:
    """A value of exactly this type, which JSON has."""

    def read(found: object) -> Any:
        if type(found) is not kind:
            raise TypeError
        return found

    return _Leaf(kind, read)


def texts() -> Any:
    """A tuple of strings."""
    return _Leaf(list, lambda found: tuple(map(only(str).read, only(list).read(found))))


def choice(*names: str) -> Any:
    """One of these strings."""
    return _Leaf(str, lambda found: names[names.index(found)])


def optional(schema: object) -> Any:
    """What the schema says, or None."""
    return _Optional(schema)


def known(value: object) -> Any:
    """What is known without the file, and does not stand in it."""
    return _Known(value)


def following(schema_after: Callable[[Mapping[str, Any]], Any]) -> Any:
    """What depends on what stands before it in its tuple: ``schema_after`` gets that by name."""
    return _Following(schema_after)


def like(tree: object, where: str = "") -> Any:
    """The schema of trees with the names, types, dtypes and shapes of this one, and finite numbers.

    Whole numbers are counts, from 0.

    Raises
    ------
    TypeError
        Where a part is no array, number, dict or tuple of these; it names the part.
    """
    if isinstance(tree, np.ndarray):
        return array(tree.dtype.str, tree.shape)
    if isinstance(tree, SCALARS):
        return _scalar(type(tree))
    inner = parts(tree)
    if inner is None:
        raise TypeError(f"{where or 'A state'} may hold arrays, numbers, dicts and tuples; got {tree!r:.80}.")
    return rebuilt(tree, [like(part, joined(where, name)) for name, part in inner.items()])


def _scalar(kind: type) -> _Leaf:
    """A number of exactly this type: another one of the same value could be rounded otherwise."""
    whole = issubclass(kind, int | np.integer)
    plain: Any = only(bool) if issubclass(kind, bool | np.bool_) else count() if whole else number()

    def write(value: object) -> Any:
        if type(value) is not kind:
            raise TypeError(f"is a {type(value).__name__}, where there was a {kind.__name__} at the start")
        return value.item() if isinstance(value, np.generic) else value

    def read(found: object) -> Any:
        with np.errstate(over="raise"):
            return kind(plain.read(found))

    return _Leaf(write, read)


def encode(schema: T, value: T, where: str = "") -> tuple[Any, Arrays]:
    """JSON and arrays of a tree, the arrays named by their paths in it.

    Raises
    ------
    TypeError
        Where the tree is not as the schema says; it names the part.
    """
    arrays: Arrays = {}

    def of(schema: object, value: object, where: str) -> Any:
        if isinstance(schema, _Optional):
            return None if value is None else of(schema.schema, value, where)
        if isinstance(schema, _Leaf):
            try:
                return schema.write(value)
            except TypeError as error:
                raise TypeError(f"{where} {error}") from None
        wanted, values = parts(schema), parts(value)
        if wanted is None or values is None or wanted.keys() != values.keys():
            raise TypeError(f"{where or 'it'} is {value!r:.80}; wanted {list(wanted or ())}")
        described = {}
        for name, part in wanted.items():
            part = part.schema_after(values) if isinstance(part, _Following) else part
            path = joined(where, name)
            if isinstance(part, _Array):
                if path in arrays:
                    raise TypeError(f"two arrays have the name {path!r}")
                arrays[path] = np.asarray(values[name])
            elif not isinstance(part, _Known):
                described[name] = of(part, values[name], path)
        return described

    return of(schema, value, where), arrays


def decode(schema: object, description: object, arrays: Mapping[str, np.ndarray], where: str = "") -> Any:
    """The tree of JSON and arrays.

    A named tuple with a method ``is_sound`` is asked whether its parts go together.

    Raises
    ------
    ModelFileError
        Naming the part that is missing, unknown, or not as the schema says.
    """
    match schema:
        case _Known():
            return schema.value
        case _Array():
            return take(arrays, where, schema.dtype, schema.shape, schema.low, schema.high)
        case _Optional():
            return None if description is None else decode(schema.schema, description, arrays, where)
        case _Leaf():
            try:
                return schema.read(description)
            except ModelFileError:
                raise
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                said = f": {error}" if str(error) else ""
                raise ModelFileError(f"its {where} is {description!r:.80}{said}") from None
    if not isinstance(description, dict):
        raise ModelFileError(f"its {where or 'content'} is {description!r:.80}")
    values: dict[str, Any] = {}
    unread = set(description)
    for name, part in (parts(schema) or {}).items():
        part = part.schema_after(values) if isinstance(part, _Following) else part
        if not isinstance(part, _Array | _Known):
            if name not in description:
                raise ModelFileError(f"its {joined(where, name)} is missing")
            unread.remove(name)
        values[name] = decode(part, description.get(name), arrays, joined(where, name))
    if unread:
        raise ModelFileError(f"its {where or 'content'} has the unknown entries {sorted(unread)}")
    made = rebuilt(schema, values.values())
    if not getattr(made, "is_sound", lambda: True)():
        raise ModelFileError(f"its {where or 'content'} has parts that do not go together")
    return made


def take(
    arrays: Mapping[str, np.ndarray], name: str, dtype: str, shape: tuple[int, ...], low: float, high: float
) -> np.ndarray:
    """The array ``name``, checked for dtype, shape and range."""
    if name not in arrays:
        raise ModelFileError(f"array {name!r} is missing; wanted {dtype} {shape}.")
    found = arrays[name]
    if found.dtype != np.dtype(dtype) or found.shape != shape:
        raise ModelFileError(f"array {name!r} is {found.dtype} {found.shape}; wanted {dtype} {shape}.")
    if not np.all((found >= low) & (found <= high)):  # also finds NaN
        raise ModelFileError(f"array {name!r} has values outside [{low}, {high}].")
    return found
