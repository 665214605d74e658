"""One codec for all that a file holds: trees of named tuples and dicts, to JSON and arrays and back, each part checked.

A *schema* is a tree of the same tuples and dicts with leaves in the places of values, which say what may stand there.
The functions that make leaves claim to return what may stand there, so that a schema has the type of its trees.

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
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np

from ecpolicy.files.archive import Arrays, ModelFileError
from ecpolicy.trees import joined, parts, rebuilt
from ecpolicy.untyped import Kwargs

T = TypeVar("T")
N = TypeVar("N", int, float)

LARGEST_COUNT = 2**63
TINY = 5e-324  # the smallest number above zero
SCALARS = (bool, int, float, np.bool_, np.integer, np.float16, np.float32, np.float64)


@dataclass(frozen=True)
class _Leaf:
    """A value in JSON: ``write`` gives what JSON has, ``read`` the value, or raises."""

    write: Callable[[Any], object]
    read: Callable[[Any], object]


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
    schema_after: Callable[[Kwargs], object]


def leaf(write: Callable[[T], object], read: Callable[[Any], T]) -> T:
    """A value that is written as JSON has it, and read again; ``read`` raises where it makes no sense."""
    return cast(T, _Leaf(write, read))


def array(dtype: str, shape: Iterable[int], low: float | None = None, high: float | None = None) -> np.ndarray:
    """An array of this dtype and shape within bounds; without them, of finite numbers."""
    finite = float(np.finfo(dtype).max) if np.dtype(dtype).kind == "f" else np.inf
    bounds = -finite if low is None else low, finite if high is None else high
    return cast(np.ndarray, _Array(dtype, tuple(shape), *bounds))


def number(low: float = -np.inf, high: float = np.inf) -> float:
    """A finite number in [low, high]."""
    return leaf(float, partial(_number, float, low, high))


def count(high: float = LARGEST_COUNT) -> int:
    """A whole number from 0."""
    return leaf(int, partial(_number, int, 0, high))


def _number(kind: type[N], low: float, high: float, found: object) -> N:
    if isinstance(found, bool) or not isinstance(found, int | kind):
        raise TypeError
    if not low <= found <= high or not np.isfinite(float(found)):
        raise ValueError
    return kind(found)


def only(kind: type[T]) -> T:
    """A value of exactly this type, which JSON has."""
    return leaf(kind, partial(_only, kind))


def _only(kind: type[T], found: object) -> T:
    if type(found) is not kind:
        raise TypeError
    return found


def texts() -> tuple[str, ...]:
    """A tuple of strings."""
    return leaf(list, lambda found: tuple(_only(str, text) for text in _only(list, found)))


def choice(*names: str) -> str:
    """One of these strings."""
    return leaf(str, lambda found: names[names.index(found)])


def optional(schema: T) -> T | None:
    """What the schema says, or None."""
    return cast(T, _Optional(schema))


def known(value: T) -> T:
    """What is known without the file, and does not stand in it."""
    return cast(T, _Known(value))


def following(schema_after: Callable[[Mapping[str, Any]], T]) -> T:
    """What depends on what stands before it in its tuple: ``schema_after`` gets that by name."""
    return cast(T, _Following(schema_after))


def like(tree: T, where: str = "") -> T:
    """The schema of trees with the names, types, dtypes and shapes of this one, and finite numbers.

    Whole numbers are counts, from 0.

    Raises
    ------
    TypeError
        Where a part is no array, number, dict or tuple of these; it names the part.
    """
    if isinstance(tree, np.ndarray):
        return cast(T, array(tree.dtype.str, tree.shape))
    if isinstance(tree, SCALARS):
        return cast(T, _scalar(type(tree)))
    inner = parts(tree)
    if inner is None:
        raise TypeError(f"{where or 'A state'} may hold arrays, numbers, dicts and tuples; got {tree!r:.80}.")
    return rebuilt(tree, [like(part, joined(where, name)) for name, part in inner.items()])


def _scalar(kind: type) -> object:
    """A number of exactly this type: another one of the same value could be rounded otherwise."""
    whole = issubclass(kind, int | np.integer)
    plain: Any = only(bool) if issubclass(kind, bool | np.bool_) else count() if whole else number()

    def write(value: object) -> object:
        if type(value) is not kind:
            raise TypeError(f"is a {type(value).__name__}, where there was a {kind.__name__} at the start")
        return value.item() if isinstance(value, np.generic) else value

    def read(found: object) -> object:
        with np.errstate(over="raise"):
            return kind(plain.read(found))

    return leaf(write, read)


def encode(schema: T, value: T, where: str = "") -> tuple[Any, Arrays]:
    """JSON and arrays of a tree, the arrays named by their paths in it.

    Raises
    ------
    TypeError
        Where the tree is not as the schema says; it names the part.
    """
    arrays: Arrays = {}

    def of(schema: object, value: object, where: str) -> object:
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


def decode(schema: T, description: object, arrays: Mapping[str, np.ndarray], where: str = "") -> T:
    """The tree of JSON and arrays.

    A named tuple with a method ``is_sound`` is asked whether its parts go together.

    Raises
    ------
    ModelFileError
        Naming the part that is missing, unknown, or not as the schema says.
    """
    match schema:
        case _Known():
            return cast(T, schema.value)
        case _Array():
            return cast(T, take(arrays, where, schema.dtype, schema.shape, schema.low, schema.high))
        case _Optional():
            return cast(T, None if description is None else decode(schema.schema, description, arrays, where))
        case _Leaf():
            try:
                return cast(T, schema.read(description))
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
