"""Gymnasium spaces as flat arrays: observations in, network outputs to actions out."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Encode = Callable[[Any], NDArray[np.float64]]
Decode = Callable[[NDArray[np.float32]], NDArray[Any]]

ACTION_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_spaces(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    """Raise where an observation cannot be flattened or an action cannot be formed."""
    if not observation_space.is_np_flattenable:
        raise ValueError(
            f"The observation space {observation_space} cannot be flattened to a fixed-size array. "
            "Wrap the environment so that it returns what gymnasium.spaces.flatten accepts."
        )
    if spaces.flatdim(observation_space) == 0:
        raise ValueError(f"The observation space {observation_space} holds no number to observe.")
    if not isinstance(action_space, ACTION_SPACES):
        raise ValueError(
            f"The action space {action_space} is not supported; wanted Box, Discrete, MultiDiscrete or MultiBinary. "
            "Wrap the environment to flatten its actions into one of these."
        )


def observation_size(space: gym.Space[Any]) -> int:
    """Numbers in a flattened observation."""
    return int(spaces.flatdim(space))


def observation_encoder(space: gym.Space[Any]) -> Encode:
    """A function that flattens one observation as ``gymnasium.spaces.flatten`` does, checking its shape."""
    if not isinstance(space, spaces.Box):
        return lambda observation: np.asarray(spaces.flatten(space, observation), dtype=np.float64)
    shape = space.shape

    def encode(observation: Any) -> NDArray[np.float64]:
        array: NDArray[np.float64] = np.asarray(observation)
        if array.shape != shape:
            raise ValueError(f"Got an observation of shape {array.shape}; the observation space says {shape}.")
        return array if len(shape) == 1 else array.reshape(-1)

    return encode


def is_batch(space: gym.Space[Any], observation: Any) -> bool:
    """Whether an observation has a leading batch axis, judged by the first array in it."""
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict) or set(observation) != set(space.spaces):
            raise ValueError(
                f"Got an observation {_describe(observation)}; wanted a dict with keys {list(space.spaces)}."
            )
        first = next(iter(space.spaces))
        return is_batch(space.spaces[first], observation[first])
    if isinstance(space, spaces.Tuple):
        if not isinstance(observation, tuple) or len(observation) != len(space.spaces):
            raise ValueError(f"Got an observation {_describe(observation)}; wanted a tuple of {len(space.spaces)}.")
        return is_batch(space.spaces[0], observation[0])
    if space.shape is None:
        return False
    shape = np.shape(observation)
    if shape == space.shape:
        return False
    if shape[1:] == space.shape and len(shape) == len(space.shape) + 1:
        return True
    raise ValueError(
        f"Got an observation {_describe(observation)}; wanted shape {space.shape}, or (n, *{space.shape}) for a batch."
    )


def encode_batch(space: gym.Space[Any], observations: Any) -> NDArray[np.float64]:
    """Flatten a batch of observations to (n, observation_size)."""
    if isinstance(space, spaces.Box):
        array = np.asarray(observations, dtype=np.float64)
        return array.reshape(array.shape[0], -1)
    n = _batch_length(space, observations)
    batched = gym.vector.utils.batch_space(space, n)
    encode = observation_encoder(space)
    return np.stack([encode(item) for item in gym.vector.utils.iterate(batched, observations)])


def _batch_length(space: gym.Space[Any], observations: Any) -> int:
    if isinstance(space, spaces.Dict):
        first = next(iter(space.spaces))
        return _batch_length(space.spaces[first], observations[first])
    if isinstance(space, spaces.Tuple):
        return _batch_length(space.spaces[0], observations[0])
    return len(observations)


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"of shape {shape}" if shape is not None else f"of type {type(value).__name__}"


def action_outputs(space: gym.Space[Any]) -> int:
    """Network outputs that an action space takes."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(np.prod(space.shape or ()))


def action_decoder(space: gym.Space[Any]) -> Decode:
    """A function from outputs (n, action_outputs) to a batch of actions (n, *space.shape).

    Box: outputs clipped to [-1, 1], mapped affinely to [low, high]; raw where a side is unbounded. Discrete: argmax.
    MultiDiscrete: argmax per component. MultiBinary: 1 where the output is positive.
    """
    if isinstance(space, spaces.Box):
        return _box_decoder(space)
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return lambda output: np.argmax(output, axis=1) + start
    if isinstance(space, spaces.MultiDiscrete):
        ends = np.cumsum(space.nvec.reshape(-1))[:-1]
        shape, dtype, first = space.shape, space.dtype, space.start

        def decode(output: NDArray[np.float32]) -> NDArray[Any]:
            choices = [np.argmax(part, axis=1) for part in np.split(output, ends, axis=1)]
            return (np.stack(choices, axis=1).reshape(-1, *shape) + first).astype(dtype)

        return decode
    binary_shape, binary = space.shape or (), np.dtype(space.dtype)
    return lambda output: (output > 0).astype(binary).reshape(-1, *binary_shape)


def _box_decoder(space: spaces.Box) -> Decode:
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high)
    raw = np.flatnonzero(~bounded)
    finite_low, finite_high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    middle, half = finite_low / 2 + finite_high / 2, finite_high / 2 - finite_low / 2
    shape, dtype = space.shape, space.dtype
    is_integer = np.issubdtype(dtype, np.integer)
    plain = raw.size == 0 and bool(np.all(middle == 0) and np.all(half == 1))

    def decode(output: NDArray[np.float32]) -> NDArray[Any]:
        action: NDArray[Any] = np.clip(output, np.float32(-1), np.float32(1))
        if not plain:
            action = middle + half * action.astype(np.float64)
            action[:, raw] = output[:, raw]
            action = np.clip(action, low, high)  # rounding, and sides that are bounded alone
        if is_integer:
            action = np.rint(action)
        return action.astype(dtype, copy=False).reshape(-1, *shape)

    return decode
