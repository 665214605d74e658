"""Spaces of Gymnasium as JSON and back, for model files: a description is counted out before a space is made of it."""

from math import prod
from operator import index
from typing import Any

import numpy as np
from gymnasium import spaces

from ecpolicy.files.archive import DTYPES, Document, ModelFileError
from ecpolicy.untyped import Space

LARGEST_SPACE = 1 << 23  # numbers in an observation or action
LEAST_SPACE = 1 << 11  # numbers that every part of a space counts for: making one takes time
DEEPEST_SPACE = 16  # spaces within spaces


def space_to_json(space: Space) -> Document:
    """A description of a space that :func:`space_from_json` turns back into an equal one."""
    match space:
        case spaces.Box():
            return {
                "kind": "Box",
                "low": _bound_to_json(space.low),
                "high": _bound_to_json(space.high),
                "shape": list(space.shape),
                "dtype": space.dtype.str,
            }
        case spaces.Discrete():
            return {
                "kind": "Discrete",
                "n": int(space.n),
                "start": int(space.start),
                "dtype": np.dtype(space.dtype).str,
            }
        case spaces.MultiDiscrete():
            return {
                "kind": "MultiDiscrete",
                "nvec": space.nvec.tolist(),
                "start": space.start.tolist(),
                "dtype": np.dtype(space.dtype).str,
            }
        case spaces.MultiBinary():
            return {"kind": "MultiBinary", "n": list(space.shape)}
        case spaces.Tuple():
            return {"kind": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}
        case spaces.Dict():
            return {"kind": "Dict", "spaces": [[name, space_to_json(part)] for name, part in space.spaces.items()]}
        case spaces.Text():
            return {
                "kind": "Text",
                "min_length": space.min_length,
                "max_length": space.max_length,
                "charset": "".join(space.character_list),
            }
        case spaces.OneOf():
            return {"kind": "OneOf", "spaces": [space_to_json(part) for part in space.spaces]}
    raise TypeError(
        f"A policy for the space {space} cannot be saved: no description of {type(space).__name__} is known."
    )


def space_from_json(description: Document) -> Space:
    """The space of a description; raises ModelFileError where it makes no sense."""
    try:
        if _extent(description) > LARGEST_SPACE:
            raise ValueError("it has too many numbers or parts")
        return _space_from_json(description)
    except Exception as error:
        raise ModelFileError(f"it describes an impossible space: {error!r}.") from None


def _extent(d: Document, depth: int = 0) -> int:
    """Numbers in a flattened sample, counted in integers that do not overflow before anything is made of them."""
    if depth > DEEPEST_SPACE:
        raise ValueError("spaces within spaces")
    match d["kind"]:
        case "Box":
            numbers = prod(_integers(d["shape"]))
        case "Discrete":
            numbers = _choices([d["n"]], [d["start"]], d["dtype"])
        case "MultiDiscrete":
            numbers = _choices(d["nvec"], d["start"], d["dtype"])
        case "MultiBinary":
            numbers = prod(_integers(d["n"]))
        case "Text":
            numbers = index(d["max_length"]) + len(d["charset"])
        case "Tuple" | "OneOf":
            numbers = sum(_extent(part, depth + 1) for part in d["spaces"])
        case "Dict":
            numbers = sum(_extent(part, depth + 1) for _, part in d["spaces"])
        case kind:
            raise ValueError(f"unknown kind {kind!r}")
    return max(numbers, LEAST_SPACE)


def _choices(n: object, start: object, dtype: str) -> int:
    """How many choices there are in all; the first and the last of each must be numbers of the dtype, and of int64."""
    counts, firsts, limits = _integers(n), _integers(start), np.iinfo(DTYPES[dtype])
    low, high = int(limits.min), min(int(limits.max), 2**63 - 1)
    if any(first < low or first + count - 1 > high for count, first in zip(counts, firsts, strict=True)):
        raise ValueError(f"choices {n} from {start} in {dtype}")
    return sum(counts)


def _integers(values: object) -> list[int]:
    """Integers in nested lists, one after the other; raises TypeError where there is anything else."""
    return [index(value) for value in np.array(values, dtype=object).reshape(-1)]


def _space_from_json(d: Document) -> Space:
    match d["kind"]:
        case "Box":
            dtype, shape = DTYPES[d["dtype"]], tuple(d["shape"])
            low, high = (_bound_from_json(d[side], shape, dtype) for side in ("low", "high"))
            return spaces.Box(low, high, shape, dtype.type)
        case "Discrete":
            return spaces.Discrete(d["n"], start=d["start"], dtype=DTYPES[d["dtype"]].type)
        case "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(d["nvec"]), dtype=DTYPES[d["dtype"]].type, start=np.array(d["start"]))
        case "MultiBinary":
            return spaces.MultiBinary(d["n"] if len(d["n"]) > 1 else d["n"][0])
        case "Tuple":
            return spaces.Tuple([_space_from_json(part) for part in d["spaces"]])
        case "Dict":
            return spaces.Dict([(name, _space_from_json(part)) for name, part in d["spaces"]])
        case "Text":
            return spaces.Text(d["max_length"], min_length=d["min_length"], charset=d["charset"])
        case "OneOf":
            return spaces.OneOf([_space_from_json(part) for part in d["spaces"]])
    raise ValueError(f"unknown kind {d['kind']!r}")


def _bound_to_json(bound: np.ndarray) -> object:
    """One number where all are equal, else a list; infinities as strings, as JSON has none."""
    if bound.size and np.all(bound == bound.flat[0]):
        return _number_to_json(bound.flat[0].item())
    return [_number_to_json(value) for value in bound.reshape(-1).tolist()]


def _number_to_json(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)


def _bound_from_json(bound: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    convert = float if dtype.kind == "f" else index
    with np.errstate(over="raise"):
        if isinstance(bound, list):
            return np.array([convert(value) for value in bound], dtype=dtype).reshape(shape)
        return np.full(shape, convert(bound), dtype=dtype)
