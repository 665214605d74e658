"""Compiled kernels on packed bits: sampling, the integer gradient sum, and the observations of a population.

Each has an obviously correct twin in :mod:`ecpolicy.networks.reference` and gives the same bits. They are compiled on
first use, cached on disk, release the GIL and use one thread. The networks are stepped by
:mod:`ecpolicy.networks.numba.spiking`.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks.layout import MEMBERS_AT_A_TIME, PLANES, WORD, Words
from ecpolicy.networks.numba import simd
from ecpolicy.networks.numba.compiling import compiled
from ecpolicy.networks.numba.spiking import rsnn_step as rsnn_step

SAMPLE_WORDS = 16  # words sampled at a time
NONE = np.uint64(0)
ONE = np.uint64(1)
LARGEST_OBSERVATION = 1e140  # squares of larger ones, summed up, would leave the range of float64


@compiled
def threshold_planes(rho: NDArray[np.float32], planes: Words, flips: Words) -> None:
    """Bit-slice probabilities for :func:`sample`.

    ``rho`` (n_words * 64,) becomes the 24-bit threshold ``t = round(2**24 min(rho, 1 - rho))``, most significant bit
    first in ``planes`` (24, n_words), with the lanes where rho > 0.5 marked in ``flips`` (n_words,). Folding at one
    half makes 0 and 1 exact.
    """
    threshold = np.empty(WORD, np.int32)
    for word in range(flips.size):
        flip = NONE
        for lane in range(WORD):
            p = np.float64(rho[word * WORD + lane])
            if p > 0.5:
                flip |= ONE << np.uint64(lane)
                p = 1.0 - p
            threshold[lane] = np.int32(np.rint(p * 2.0**PLANES)) << np.int32(32 - PLANES)
        flips[word] = flip
        for plane in range(PLANES):
            planes[plane, word] = simd.negative_lanes(threshold, 0)
            for lane in range(WORD):
                threshold[lane] <<= np.int32(1)


@compiled
def sample(keys: NDArray[np.uint32], planes: Words, flips: Words, out: Words) -> None:
    """Draw every member's connections: bit j of a member is 1 with probability ``rho[j]``.

    A connection is present where a 24-bit random number is below its threshold. The comparison runs on 64 connections
    at a time, most significant bit first, one random word per bit plane, and stops when every lane is decided: about
    ten of the 24 planes. Random word (w, plane) of a member is Threefry(key, (w, plane)), so how many planes are read
    never changes the outcome.

    Parameters
    ----------
    keys : (members, 2); planes : (24, n_words); flips : (n_words,); out : (members, n_words), written
    """
    n_words = flips.size
    tail = np.zeros(SAMPLE_WORDS, np.uint64)
    whole = n_words - n_words % SAMPLE_WORDS
    flat_planes, flat_out = planes.reshape(-1), out.reshape(-1)
    none = simd.no_bits(SAMPLE_WORDS)
    for member in range(keys.shape[0]):
        key0, key1 = np.uint64(keys[member, 0]), np.uint64(keys[member, 1])
        for word in range(0, n_words, SAMPLE_WORDS):
            bits = none
            undecided = simd.bit_not(none)
            for plane in range(PLANES):
                if word < whole:
                    threshold = simd.load(flat_planes, plane * n_words + word, SAMPLE_WORDS)
                else:
                    for k in range(n_words - whole):
                        tail[k] = planes[plane, whole + k]
                    threshold = simd.load(tail, 0, SAMPLE_WORDS)
                drawn = simd.random_words(key0, key1, np.uint64(word), np.uint64(plane), SAMPLE_WORDS)
                bits = simd.sum_bit(bits, simd.less_bit(undecided, drawn, threshold), none)
                undecided = simd.same_bit(undecided, drawn, threshold)
                if not simd.any_bit(undecided):
                    break
            if word < whole:
                bits = simd.sum_bit(bits, simd.load(flips, word, SAMPLE_WORDS), none)
                simd.store(flat_out, member * n_words + word, bits)
            else:
                simd.store(tail, 0, bits)
                for k in range(n_words - whole):
                    out[member, whole + k] = tail[k] ^ flips[whole + k]
                    tail[k] = NONE


@compiled
def add_weighted(bits: Words, weights: NDArray[np.int32], total: NDArray[np.int64]) -> None:
    """``total[j] += sum over members of weights[m] * bit j of member m``, exactly.

    ``bits`` (members, n_words), ``weights`` (members,) with sum of magnitudes below 2**31, ``total`` (n_words * 64,).
    """
    partial = np.empty(WORD, np.int32)
    flat = bits.reshape(-1)
    n_words = bits.shape[1]
    for word in range(n_words):
        sums = simd.no_sums(1, weights[0])
        for member in range(bits.shape[0]):
            sums = simd.plus_where(sums, flat, member * n_words + word, weights[member])
        simd.store_sums(partial, 0, sums)
        for lane in range(WORD):
            total[word * WORD + lane] += partial[lane]


def weighted_sum(
    keys: NDArray[np.uint32], planes: Words, flips: Words, weights: NDArray[np.int32], n_threads: int = 1
) -> NDArray[np.int64]:
    """``sum_m weights[m] theta_m`` (n_words * 64,) over the members with these keys, drawn again a few at a time.

    ``keys`` (members, 2), ``planes`` (24, n_words), ``flips`` (n_words,), ``weights`` (members,) within +-2**25. The
    members are shared among ``n_threads`` threads; integer sums are exact, so their number never changes the result.
    """
    members = keys.shape[0]
    parts = max(1, min(n_threads, members))
    bounds = [members * part // parts for part in range(parts + 1)]

    def partial_sum(part: int) -> NDArray[np.int64]:
        total = np.zeros(flips.size * WORD, dtype=np.int64)
        first, last = bounds[part], bounds[part + 1]
        bits = np.empty((min(last - first, MEMBERS_AT_A_TIME), flips.size), dtype=np.uint64)
        for start in range(first, last, MEMBERS_AT_A_TIME):
            batch = slice(start, min(start + MEMBERS_AT_A_TIME, last))
            drawn = bits[: batch.stop - start]
            sample(keys[batch], planes, flips, drawn)
            add_weighted(drawn, weights[batch], total)
        return total

    if parts == 1:
        return partial_sum(0)
    with ThreadPoolExecutor(parts) as pool:
        first_total, *others = pool.map(partial_sum, range(parts))
    for total in others:
        first_total += total
    return first_total


@compiled
def standardize(
    raw: NDArray[np.float64],
    rows: NDArray[np.int64],
    mean: NDArray[np.float64],
    inverse_std: NDArray[np.float64],
    clip: float,
    x: NDArray[np.float32],
) -> int:
    """Standardise the observations of ``rows``: ``x = clip((raw - mean) * inverse_std, -clip, clip)``.

    ``raw`` and ``x`` are (rows, obs_size). Returns the first row with a NaN or infinite observation, or -1.
    """
    for row in rows:
        for d in range(raw.shape[1]):
            value = raw[row, d]
            if not np.isfinite(value):
                return int(row)
            x[row, d] = np.float32(min(max((value - mean[d]) * inverse_std[d], -clip), clip))
    return -1


@compiled
def accumulate(
    raw: NDArray[np.float64],
    rows: NDArray[np.int64],
    shift: NDArray[np.float64],
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> int:
    """Add the observations of ``rows`` to each row's running sums of ``raw - shift`` and of its square.

    ``raw``, ``shift``, ``sums`` and ``squares`` are (rows, obs_size). Returns the first row with an observation that is
    no number or beyond ``LARGEST_OBSERVATION``, of which nothing is added, or -1.
    """
    for row in rows:
        for d in range(raw.shape[1]):
            if not abs(raw[row, d]) <= LARGEST_OBSERVATION:
                return int(row)
        for d in range(raw.shape[1]):
            deviation = raw[row, d] - shift[row, d]
            sums[row, d] += deviation
            squares[row, d] += deviation * deviation
    return -1
