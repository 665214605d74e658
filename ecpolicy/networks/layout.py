"""Packed connection matrices: one bit per connection, 64 to a word, rows padded to whole SIMD blocks.

A matrix is packed along its neuron axis: row ``r`` holds bit ``j`` of lane ``j`` in word ``j // 64``, least
significant bit first. Padding bits are zero everywhere, from sampling to disk.
"""

import numpy as np
from numpy.typing import NDArray

WORD = 64
PLANES = 24  # bits of a connection probability: float32 resolves 2**-24 next to one
MEMBERS_AT_A_TIME = 64  # members whose connections exist at once while they are summed
FLUSH = np.float32(1e-12)  # smaller state variables are zero: denormal arithmetic is slow, and differs between devices
WEIGHT_SHIFT = 7  # networks of integers: a spike adds 2**7 to a current,
READOUT_SHIFT = 8  # and 2**8 to a readout;
LARGEST_CURRENT = 1 << 13  # currents are in [-2**13, 2**13),
LARGEST_COUNT = 1 << 7  # counts of spikes in [-2**7, 2**7),
LARGEST_READOUT = 1 << 23  # readouts in [-2**23, 2**23)

Words = NDArray[np.uint64]


def words_per_row(lanes: int) -> int:
    """Words that hold ``lanes`` bits, rounded up to a SIMD block of one, two or four words."""
    words = -(-lanes // WORD)
    block = block_words(words)
    return -(-words // block) * block


def block_words(words: int) -> int:
    """Words that the kernel handles at a time: 1, 2 or 4 (64, 128 or 256 lanes)."""
    return 1 if words == 1 else 2 if words == 2 else 4


def pack(bits: NDArray[np.bool_]) -> Words:
    """Pack booleans (..., lanes) into words (..., words_per_row(lanes))."""
    lanes = bits.shape[-1]
    padded = np.zeros((*bits.shape[:-1], words_per_row(lanes) * WORD), dtype=np.bool_)
    padded[..., :lanes] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def unpack(words: Words, lanes: int) -> NDArray[np.bool_]:
    """Booleans (..., lanes) of packed words (..., n_words): for inspection and tests, never in a rollout."""
    as_bytes = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(as_bytes, axis=-1, count=lanes, bitorder="little").astype(np.bool_)


def halves(words: Words) -> NDArray[np.uint32]:
    """uint64 words (..., n) of the host as uint32 words (..., 2n), low half first: what accelerators count."""
    return np.ascontiguousarray(words).astype("<u8", copy=False).view("<u4").astype(np.uint32, copy=False)
