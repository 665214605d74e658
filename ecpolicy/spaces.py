"""Gymnasium spaces as flat arrays: observations in, network outputs to actions out."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ecpolicy.untyped import Space

Encode = Callable[[object], NDArray[np.float64]]
Decode = Callable[[NDArray[np.float32]], np.ndarray]

NUMERIC = "fiubO"  # kinds of dtypes that observations have: objects are converted one by one
ACTION_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_spaces(observation_space: Space, action_space: Space) -> None:
    """Raise where an observation cannot be flattened or an action cannot be formed."""
    if not observation_space.is_np_flattenable:
        raise ValueError(
            f"The observation space {observation_space} cannot be flattened to a fixed-size array. "
            "Wrap the environment so that it returns what gymnasium.spaces.flatten accepts."
        )
    if _has_unsigned_choices(observation_space):
        raise ValueError(
            f"The observation space {observation_space} has a MultiDiscrete of 64-bit unsigned integers, which "
            "Gymnasium cannot flatten. Give it the dtype int64."
        )
    if spaces.flatdim(observation_space) == 0:
        raise ValueError(f"The observation space {observation_space} holds no number to observe.")
    if not isinstance(action_space, ACTION_SPACES) or action_outputs(action_space) == 0:
        raise ValueError(
            f"The action space {action_space} is not supported; wanted Box, Discrete, MultiDiscrete or MultiBinary, "
            "not empty. Wrap the environment to turn its actions into one of these."
        )


def interchangeable(one: Space, other: Space) -> bool:
    """Whether what is learnt on one space serves the other: they are equal, or boxes that differ in their dtype alone.

    The same task has float32 actions in Gymnasium and float64 ones in EnvPool.
    """
    if one == other or not isinstance(one, spaces.Box) or not isinstance(other, spaces.Box):
        return bool(one == other)
    if one.shape != other.shape or one.dtype.kind != "f" or other.dtype.kind != "f":
        return False
    with np.errstate(over="ignore"):  # the largest float64 is infinite as a float32
        bounds = [[part.astype(np.float32) for part in (box.low, box.high)] for box in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*bounds, strict=True))


def _has_unsigned_choices(space: Space) -> bool:
    if isinstance(space, spaces.Dict):
        return any(map(_has_unsigned_choices, space.spaces.values()))
    if isinstance(space, spaces.Tuple | spaces.OneOf):
        return any(map(_has_unsigned_choices, space.spaces))
    return isinstance(space, spaces.MultiDiscrete) and space.dtype == np.uint64


def observation_size(space: Space) -> int:
    """Numbers in a flattened observation."""
    return int(spaces.flatdim(space))


def observation_encoder(space: Space) -> Encode:
    """A function that flattens an observation like ``gymnasium.spaces.flatten``, checking the shape of every part."""
    if isinstance(space, spaces.Box):
        return partial(_encode_box, shape=space.shape)
    return partial(_encode, space=space)


def _encode_box(observation: object, *, shape: tuple[int, ...]) -> np.ndarray:
    array = observation if observation.__class__ is np.ndarray else np.asarray(observation)
    if array.shape != shape:
        raise ValueError(f"Got an observation {_describe(observation)}; wanted shape {shape}.")
    if array.dtype.kind not in NUMERIC:
        raise ValueError(f"Got an observation of dtype {array.dtype}; wanted numbers.")
    return array if len(shape) == 1 else array.reshape(-1)


def _encode(observation: object, *, space: Space) -> np.ndarray:
    _check_parts(space, observation)
    return np.asarray(spaces.flatten(space, observation), dtype=np.float64)


def _check_parts(space: Space, observation: object) -> None:
    """Raise unless every array has its shape and every choice its range; Box bounds are not enforced."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part, value in _parts(space, observation):
            _check_parts(part, value)
    elif isinstance(space, spaces.Box):
        _encode_box(observation, shape=space.shape)
    elif not space.contains(observation):
        raise ValueError(f"Got an observation {_describe(observation)} that {space} does not contain: {observation!r}.")


def _parts(space: Space, observation: object) -> list[tuple[Space, object]]:
    """The parts of a composite space with those of an observation or batch."""
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, Mapping) or set(observation) != set(space.spaces):
            given = f"with keys {list(observation)}" if isinstance(observation, Mapping) else _describe(observation)
            raise ValueError(f"Got an observation {given}; wanted a dict with keys {list(space.spaces)}.")
        return [(part, observation[name]) for name, part in space.spaces.items()]
    assert isinstance(space, spaces.Tuple)
    if not isinstance(observation, tuple | list) or len(observation) != len(space.spaces):
        raise ValueError(f"Got an observation {_describe(observation)}; wanted a tuple of {len(space.spaces)}.")
    return list(zip(space.spaces, observation, strict=True))


def batch_length(space: Space, observation: Any) -> int | None:
    """Length of the leading batch axis that all arrays of an observation share; None for a single observation."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        lengths = {batch_length(part, value) for part, value in _parts(space, observation)}
        if len(lengths) != 1:
            raise ValueError(f"The parts of an observation must share one batch length or have none; got {lengths}.")
        return lengths.pop()
    if space.shape is None:  # Text and OneOf, whose batches are tuples
        if space.contains(observation) or not isinstance(observation, tuple | list) or not observation:
            return None
        return len(observation) if all(map(space.contains, observation)) else None
    shape = np.shape(observation)
    if shape == space.shape:
        return None
    if shape[1:] == space.shape and len(shape) == len(space.shape) + 1 and shape[0] > 0:
        return int(shape[0])
    raise ValueError(
        f"Got an observation {_describe(observation)}; wanted shape {space.shape}, or (n, *{space.shape}) for a batch."
    )


def encode_batch(space: Space, observations: object) -> NDArray[np.float64]:
    """Flatten a batch of observations to (n, observation_size)."""
    n = batch_length(space, observations)
    assert n is not None
    if isinstance(space, spaces.Box):
        return np.asarray(observations, dtype=np.float64).reshape(n, -1)
    batched = gym.vector.utils.batch_space(space, n)
    encode = observation_encoder(space)
    return np.stack([encode(item) for item in gym.vector.utils.iterate(batched, observations)])


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"of shape {shape}" if shape is not None else f"of type {type(value).__name__}"


def action_outputs(space: Space) -> int:
    """Network outputs that an action space takes."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(np.prod(space.shape or ()))


def action_decoder(space: Space) -> Decode:
    """A function from outputs (n, action_outputs) to a batch of actions (n, *space.shape).

    Box: outputs clipped to [-1, 1], mapped affinely to [low, high]; raw where a side is unbounded. Discrete: argmax.
    MultiDiscrete: argmax per component. MultiBinary: 1 where the output is positive.
    """
    if isinstance(space, spaces.Box):
        return _box_decoder(space)
    if isinstance(space, spaces.Discrete):
        return partial(_largest, start=int(space.start), dtype=np.dtype(space.dtype))
    if isinstance(space, spaces.MultiDiscrete):
        ends = np.cumsum(space.nvec.reshape(-1))[:-1]
        return partial(_largest_of_each, ends=ends, start=space.start, dtype=np.dtype(space.dtype))
    return partial(_positive, shape=space.shape or (), dtype=np.dtype(space.dtype))


def _largest(output: NDArray[np.float32], *, start: int, dtype: np.dtype) -> np.ndarray:
    return np.asarray(np.argmax(output, axis=1) + start, dtype=dtype)


def _largest_of_each(
    output: NDArray[np.float32], *, ends: np.ndarray, start: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    choices = [np.argmax(part, axis=1) for part in np.split(output, ends, axis=1)]
    return np.asarray(np.stack(choices, axis=1).reshape(-1, *start.shape) + start, dtype=dtype)


def _positive(output: NDArray[np.float32], *, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.asarray(output > 0, dtype=dtype).reshape(-1, *shape)


class BoxBounds(NamedTuple):
    """How outputs become actions of a Box: ``clip(middle + half clip(output, -1, 1), low, high)``, flattened."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    middle: NDArray[np.float64]
    half: NDArray[np.float64]
    bounded: NDArray[np.bool_]  # where False, the output itself is the action


def box_bounds(space: spaces.Box) -> BoxBounds:
    """The numbers that :func:`action_decoder` uses for a Box."""
    dtype: np.dtype = np.dtype(space.dtype)
    bounded = (space.bounded_below & space.bounded_above).reshape(-1)
    low = np.where(space.bounded_below, space.low, -np.inf).reshape(-1).astype(np.float64)
    high = np.where(space.bounded_above, space.high, np.inf).reshape(-1).astype(np.float64)
    if np.issubdtype(dtype, np.integer):  # the largest float64 that the integer type still holds
        signed = np.issubdtype(dtype, np.signedinteger)
        bits = 8 * dtype.itemsize - signed
        low = np.maximum(low, -(2.0**bits) if signed else 0.0)
        high = np.minimum(high, np.nextafter(2.0**bits, 0) if bits > 53 else 2.0**bits - 1)
    finite_low, finite_high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    return BoxBounds(low, high, finite_low / 2 + finite_high / 2, finite_high / 2 - finite_low / 2, bounded)


def _box_decoder(space: spaces.Box) -> Decode:
    low, high, middle, half, bounded = box_bounds(space)
    if space.dtype == np.float32 and bounded.all() and np.all(middle == 0) and np.all(half == 1):
        return partial(_clip, shape=space.shape)
    return partial(
        _clip_and_scale, low=low, high=high, middle=middle, half=half, raw=np.flatnonzero(~bounded),
        shape=space.shape, dtype=np.dtype(space.dtype),
    )  # fmt: skip


def _clip(output: NDArray[np.float32], *, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.minimum(np.maximum(output, np.float32(-1)), np.float32(1)).reshape(-1, *shape)


def _clip_and_scale(
    output: NDArray[np.float32],
    *,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    middle: NDArray[np.float64],
    half: NDArray[np.float64],
    raw: NDArray[np.intp],
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> np.ndarray:
    action = middle + half * np.minimum(np.maximum(output, np.float32(-1)), np.float32(1)).astype(np.float64)
    action[:, raw] = output[:, raw]
    if dtype.kind in "iub":
        action = np.rint(action)
    return np.minimum(np.maximum(action, low), high).astype(dtype).reshape(-1, *shape)
