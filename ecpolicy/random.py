"""Counter-based random numbers: every draw is a pure function of (key, counter).

Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) maps a 64-bit
key and a 64-bit counter to 64 random bits. Nothing is stored and nothing advances, so a member's connections can be
rebuilt anywhere, in any order, on any backend, from its key alone.

A key is used either to draw or to derive further keys with :func:`fold_in`; the two never share a counter. Below a
run's key come the generations by number, below a generation its members by number, below a member its streams. What
belongs to no member is derived by :func:`reserved_key`, under a number that no generation and no member has.
"""

from enum import IntEnum
from functools import cache
from typing import Any, SupportsInt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Key = NDArray[np.uint32]  # (..., 2)

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
DERIVE = 0xFFFFFFFF  # second counter word of every key derivation; draws stay below it
RESERVED = 0xFFFFFFFF  # number that no generation and no member has

NORMAL_BITS = 16  # random bits of a normal draw
NORMAL_UNIT = 2.0**-12  # of the table of normal quantiles


class Stream(IntEnum):
    """What a derived key is for: the last step of every key derivation."""

    CONNECTIONS = 0
    MEMBRANE = 1
    ENVIRONMENT = 2
    EVALUATION = 3
    CONFIRMATION = 4
    DEPLOYMENT = 5
    SCORE = 6
    START = 7


def threefry2x32(key: Key, counter: tuple[ArrayLike, ArrayLike]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Threefry-2x32-20 of a counter under a key; all operands broadcast.

    Parameters
    ----------
    key : ndarray of uint32, shape (..., 2)
    counter : pair of arrays of uint32

    Returns
    -------
    pair of ndarray of uint32
        64 random bits per element, as two words.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2**32 is meant
        return threefry_rounds(
            key[..., 0], key[..., 1], np.asarray(counter[0], np.uint32), np.asarray(counter[1], np.uint32)
        )


def threefry_rounds(key0: Any, key1: Any, counter0: Any, counter1: Any) -> tuple[Any, Any]:
    """The 20 rounds on uint32 arrays of any library whose operators broadcast and wrap around: NumPy's and JAX's."""
    keys = [key0, key1, key0 ^ key1 ^ np.uint32(PARITY)]
    x0, x1 = counter0 + keys[0], counter1 + keys[1]
    for block in range(5):
        for rotation in ROTATIONS[block % 2]:
            x0 = x0 + x1
            x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
            x1 = x1 ^ x0
        x0 = x0 + keys[(block + 1) % 3]
        x1 = x1 + keys[(block + 2) % 3] + np.uint32(block + 1)
    return x0, x1


def key_from_seed(seed: int) -> Key:
    """The root key of a non-negative integer seed below 2**64."""
    return np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint32)


def fold_in(key: Key, data: ArrayLike) -> Key:
    """Derive the key numbered ``data`` (integers below 2**32); broadcasts over keys and data."""
    return np.stack(threefry2x32(key, (np.asarray(data, np.uint32), np.uint32(DERIVE))), axis=-1)


def reserved_key(seed: int, stream: Stream, generation: int | None = None) -> Key:
    """The key of a stream that belongs to no member: to one generation, or to the run as a whole."""
    root = key_from_seed(seed)
    if generation is not None:
        root = fold_in(root, generation)
    return fold_in(fold_in(root, RESERVED), stream)


def uniform(key: Key, size: int) -> NDArray[np.float32]:
    """``size`` floats per key, uniform on the 2**24 multiples of 2**-24 in [0, 1); shape (..., size)."""
    bits, _ = threefry2x32(key[..., None, :], (np.arange(size, dtype=np.uint32), np.uint32(0)))
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


@cache
def normal_table() -> NDArray[np.int16]:
    """Standard normal quantiles for 16 random bits, in units of ``NORMAL_UNIT``: (65536,).

    Entry k is the quantile (k + 1/2) / 2**16, which reaches 4.2 standard deviations, scaled to unit variance and
    rounded. A table of integers gives the same draws on every backend, and sums of them are exact in any order.
    """
    quantiles = ndtri((np.arange(2**NORMAL_BITS) + 0.5) / 2**NORMAL_BITS)
    table: NDArray[np.int16] = np.rint(quantiles / quantiles.std() / NORMAL_UNIT).astype(np.int16)
    return table


def environment_seed(key: Key) -> NDArray[np.int64]:
    """One seed in [0, 2**31) per key, for ``env.reset(seed=...)``."""
    bits, _ = threefry2x32(key, (np.uint32(0), np.uint32(0)))
    return (bits >> np.uint32(1)).astype(np.int64)


def seed_of(random_state: SupportsInt | np.random.Generator | np.random.RandomState | None) -> int:
    """A seed below 2**64 from an int, a NumPy generator or random state, or fresh entropy for None."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**64, dtype=np.uint64))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**63, dtype=np.int64))
    return int(random_state)
