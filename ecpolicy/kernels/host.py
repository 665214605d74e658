"""Compiled kernels on packed bits: sampling, the integer gradient sum, and the spiking network of a population.

Each has an obviously correct twin in :mod:`ecpolicy.kernels.reference` and gives the same bits. They are compiled on
first use, cached on disk, release the GIL and use one thread.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ecpolicy.kernels import simd
from ecpolicy.kernels.compiling import compiled
from ecpolicy.kernels.layout import WORD, Words, block_words

PLANES = 24  # bits of a connection probability: float32 resolves 2**-24 next to one
SAMPLE_WORDS = 8  # words sampled at a time
FLUSH = np.float32(1e-12)  # smaller state variables are zero: denormal arithmetic is slow, and differs between devices
MEMBERS_AT_A_TIME = 64  # members whose connections exist at once while they are summed
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
NONE = np.uint64(0)
ONE = np.uint64(1)
LARGEST_OBSERVATION = 1e140  # squares of larger ones, summed up, would leave the range of float64
GROUPS = 127  # groups of eight rows whose carries an int8 can count


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
        partial[:] = 0
        for member in range(bits.shape[0]):
            simd.add_where(partial, 0, simd.load(flat, member * n_words + word, 1), weights[member])
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


@njit(inline="always")
def _add(partial: Any, a: Any, b: Any) -> Any:
    """Carry-save adder: the carry and the sum of three bits, in every lane."""
    return simd.carry_bit(partial, a, b), simd.sum_bit(partial, a, b)


@njit(inline="always")
def _add_two(ones: Any, i: int, at: Any) -> Any:
    """Add the rows of the i-th and the next firing neuron to ``ones``; the carry, and the new ``ones``."""
    rows, offsets, word, masks, keep, excite = at
    a = simd.load_signed(rows, offsets[i] + word, masks, keep + i, excite + i, ones)
    b = simd.load_signed(rows, offsets[i + 1] + word, masks, keep + i + 1, excite + i + 1, ones)
    return _add(ones, a, b)


@cache
def rsnn_step(words: int) -> Callable[..., None]:
    """The compiled network step for rows of ``words`` words; see :func:`_make_rsnn_step`."""
    return _make_rsnn_step(block_words(words))


def _make_rsnn_step(block: int) -> Callable[..., None]:
    current_words = min(block, 2)  # at most 128 sums: 8 registers of AVX-512, 16 of AVX2

    @compiled
    def step(
        k_in: Words,
        k_h: Words,
        k_out: Words,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
        v: NDArray[np.float32],
        i_syn: NDArray[np.float32],
        spikes: Words,
        readout: NDArray[np.float32],
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        n_excitatory: int,
        substeps: int,
        constants: NDArray[np.float32],
    ) -> None:
        """Advance the networks of ``rows`` by one environment step: all substeps, in place.

        The recurrent input is event-driven. Of a substep's spikes (about 5 % of the neurons) the packed rows of the
        firing neurons are added with carry-save adders, eight rows at a time, 256 postsynaptic neurons to a vector;
        only every eighth carry is widened to bytes. Inhibitory rows are complemented first, which adds their number
        to every lane: ``E - I = E + (n_I - I) - n_I``. Counts are exact integers, so the order of spikes is free.

        Parameters
        ----------
        k_in : (networks, 2 obs_size, words); k_h : (networks, neurons, words); k_out : (networks, outputs, words)
        owners : (episodes,) the network of each episode
        rows : (live,) the episodes to advance
        v, i_syn : (episodes, words * 64); spikes : (episodes, words); readout : (episodes, outputs)
        x : (episodes, obs_size); output : (episodes, outputs), written
        constants : decay_syn, decay_m, decay_out, r_in, r_h, r_out, 1/dt
        """
        decay_syn, decay_m, decay_out, r_in, r_h, r_out, rate = constants
        words, obs_size = k_h.shape[2], x.shape[1]
        lanes = words * WORD
        i_in = np.empty(lanes, np.float32)
        offsets = np.zeros(lanes + 16, np.int64)
        ramp = np.zeros(2 * lanes + 16, np.uint64)  # all ones, then zeros: masks[i] = ramp[lanes - n + i] is i < n
        ramp[:lanes] = ALL
        surplus = np.zeros(block * WORD, np.int32)
        excitatory = np.zeros(words, np.uint64)
        for neuron in range(n_excitatory):
            excitatory[neuron // WORD] |= ONE << np.uint64(neuron % WORD)

        for row in rows:
            network = owners[row]
            row_v, row_syn, row_spikes = v[row], i_syn[row], spikes[row]
            inputs, recurrent = k_in[network].reshape(-1), k_h[network].reshape(-1)
            outgoing = k_out[network].reshape(-1)

            # A lane starts at +0 and so is never -0, which adding 0 of either sign would change: zeros are skipped.
            for w in range(0, words, current_words):
                current = simd.no_floats(current_words)
                for d in range(obs_size):
                    value = x[row, d]
                    if value != 0:
                        current = simd.plus_where(current, inputs, d * words + w, value)
                        current = simd.plus_where(current, inputs, (obs_size + d) * words + w, -value)
                simd.store_floats(i_in, w * WORD, current)
            for lane in range(lanes):
                i_in[lane] *= r_in
                row_syn[lane] = np.float32(0) if abs(row_syn[lane]) < FLUSH else row_syn[lane]
                row_v[lane] = np.float32(0) if abs(row_v[lane]) < FLUSH else row_v[lane]

            for a in range(readout.shape[1]):
                readout[row, a] = np.float32(0) if abs(readout[row, a]) < FLUSH else readout[row, a]

            for _ in range(substeps):
                # Row offsets of the firing neurons, excitatory first; eight are written at a time to spare branches.
                n, n_inhibitory = 0, 0
                for w in range(words):
                    word = row_spikes[w]
                    found = simd.popcount(word)
                    n_inhibitory += simd.popcount(word & ~excitatory[w])
                    for start in range(n, n + max(found, 1), 8):
                        for k in range(8):
                            offsets[start + k] = (w * WORD + simd.lowest_bit(word)) * words
                            word &= word - ONE
                    n += found
                offsets[n : n + 8] = 0
                keep, excite = lanes - n, lanes - n + n_inhibitory

                for w in range(0, words, block):
                    ones, twos, fours = simd.no_bits(block), simd.no_bits(block), simd.no_bits(block)
                    eights = simd.no_counts(block)
                    for first in range(0, n, 8 * GROUPS):
                        if first > 0:  # more spikes than int8 counters hold: move them to int32
                            simd.add_counts(surplus, eights, np.int32(8))
                            eights = simd.no_counts(block)
                        for i in range(first, min(first + 8 * GROUPS, n), 8):
                            at = recurrent, offsets, w, ramp, keep, excite
                            two_a, ones = _add_two(ones, i, at)
                            two_b, ones = _add_two(ones, i + 2, at)
                            four_a, twos = _add(twos, two_a, two_b)
                            two_a, ones = _add_two(ones, i + 4, at)
                            two_b, ones = _add_two(ones, i + 6, at)
                            four_b, twos = _add(twos, two_a, two_b)
                            eight, fours = _add(fours, four_a, four_b)
                            eights = simd.tally(eights, eight)
                    rest = simd.double(simd.tally(simd.no_counts(block), fours))
                    rest = simd.tally(simd.double(simd.tally(rest, twos)), ones)
                    simd.fire(
                        row_v, row_syn, i_in, row_spikes, w, eights, rest, surplus, np.int32(n_inhibitory),
                        decay_syn, decay_m, r_h,
                    )  # fmt: skip
                    if n > 8 * GROUPS:
                        surplus[:] = 0

                for a in range(readout.shape[1]):
                    count = 0
                    for w in range(0, words, block):
                        fired, signs = simd.load(row_spikes, w, block), simd.load(excitatory, w, block)
                        count += simd.excess(fired, simd.load(outgoing, a * words + w, block), signs)
                    target = np.float32(count) * rate
                    readout[row, a] = target + decay_out * (readout[row, a] - target)

            for a in range(readout.shape[1]):
                output[row, a] = r_out * readout[row, a]

    return step
