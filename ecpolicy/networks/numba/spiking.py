"""The compiled step of the spiking networks of a population, on packed bits.

One kernel is compiled twice, for floats and for integers. Its obviously correct twins are
:func:`ecpolicy.networks.reference.rsnn_step` and ``integer_rsnn_step`` beside it, which give the same bits.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ecpolicy.networks.layout import FLUSH, LARGEST_CURRENT, WORD, Words, block_words
from ecpolicy.networks.numba import simd
from ecpolicy.networks.numba.compiling import compiled
from ecpolicy.networks.numba.simd import Bits

Rows: TypeAlias = tuple[Words, NDArray[np.int32], int, Words, int, int]  # where the rows of the firing neurons are
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
ONE = np.uint64(1)
GROUP = 16  # rows that are added at a time
GROUPS = 127  # groups whose carries an int8 can count
OUTPUTS = 8  # outputs that are read at a time
SHORT_TERMS = 3  # numbers of at most 2**13 whose sum an int16 holds
_BITS = np.arange(256)[:, None] >> np.arange(8) & 1
PLACES = np.argsort(-_BITS, axis=1, kind="stable").astype(np.int32).reshape(-1)  # of each byte, its set bits come first


@njit(inline="always")
def _add(partial: Bits, a: Bits, b: Bits) -> tuple[Bits, Bits]:
    """Carry-save adder: the carry and the sum of three bits, in every lane."""
    return simd.carry_bit(partial, a, b), simd.sum_bit(partial, a, b)


@njit(inline="always")
def _add_two(ones: Bits, i: int, at: Rows) -> tuple[Bits, Bits]:
    """Add the rows of the i-th and the next firing neuron to ``ones``; the carry, and the new ``ones``."""
    rows, offsets, word, masks, keep, invert = at
    a = simd.load_signed(rows, offsets, i, word, masks, keep, invert, ones)
    b = simd.load_signed(rows, offsets, i + 1, word, masks, keep, invert, ones)
    return _add(ones, a, b)


@njit(inline="always")
def _add_eight(ones: Bits, twos: Bits, fours: Bits, i: int, at: Rows) -> tuple[Bits, Bits, Bits, Bits]:
    """Add the rows of eight firing neurons to a number in three planes of bits; the carry, and the new planes."""
    two_a, ones = _add_two(ones, i, at)
    two_b, ones = _add_two(ones, i + 2, at)
    four_a, twos = _add(twos, two_a, two_b)
    two_a, ones = _add_two(ones, i + 4, at)
    two_b, ones = _add_two(ones, i + 6, at)
    four_b, twos = _add(twos, two_a, two_b)
    eight, fours = _add(fours, four_a, four_b)
    return eight, ones, twos, fours


@cache
def rsnn_step(words: int) -> Callable[..., None]:
    """The compiled step of an RSNN for rows of ``words`` words; see :func:`_make_rsnn_step`."""
    return _make_rsnn_step(block_words(words))


@cache
def cells_step(words: int) -> Callable[..., None]:
    """The compiled step of an RSNN whose neurons have constants of their own; see :func:`_make_rsnn_step`."""
    return _make_rsnn_step(block_words(words), varied=True)


@cache
def integer_rsnn_step(words: int) -> Callable[..., None]:
    """The compiled step of an IntegerRSNN for rows of ``words`` words; see :func:`_make_rsnn_step`."""
    return _make_rsnn_step(block_words(words), integer=True)


@njit(inline="always")
def _clamped(number: float | np.number, limit: float | np.number) -> float | np.number:
    """The nearest number in [-limit, limit - 1]."""
    return min(max(number, -limit), limit - 1)


@njit
def _padded(numbers: np.ndarray, lanes: int) -> np.ndarray:
    """Numbers of the neurons, and ones for the lanes beyond them."""
    padded = np.ones(lanes, numbers.dtype)
    padded[: numbers.size] = numbers
    return padded


def _make_rsnn_step(block: int, integer: bool = False, varied: bool = False) -> Callable[..., None]:
    @compiled
    def step(
        k_in: Words,
        k_h: Words,
        k_out: Words,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
        v: np.ndarray,
        i_syn: np.ndarray,
        spikes: Words,
        readout: np.ndarray,
        held: np.ndarray,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        n_excitatory: int,
        substeps: int,
        constants: Iterable[Any],
    ) -> None:
        """Advance the networks of ``rows`` by one environment step: all substeps, in place.

        The input current stays in registers over all observations. The recurrent input is event-driven: of a substep's
        spikes (5 to 30 % of the neurons) the packed rows of the firing neurons are added with carry-save adders,
        sixteen rows at a time, 256 postsynaptic neurons to a vector; only every sixteenth carry is widened to bytes.
        Inhibitory rows are complemented first, which adds their number to every lane: ``E - I = E + (n_I - I) - n_I``.
        Counts are exact integers, so the order of spikes is free. Networks without recurrent connections skip all this.

        Parameters
        ----------
        k_in : (networks, 2 obs_size, words); k_h : (networks, neurons, words); k_out : (networks, outputs, words)
        owners : (episodes,) the network of each episode
        rows : (live,) the episodes to advance
        v, i_syn : (episodes, words * 64); spikes : (episodes, words); readout : (episodes, outputs)
        held : (episodes, words * 64) where neurons have constants of their own; elsewhere it is not read
        x : (episodes, obs_size); output : (episodes, outputs), written
        constants : decay_syn, decay_m, decay_out, r_in, r_h, r_out, 1/dt; or CellConstants, or IntegerConstants
        """
        if varied:
            decay_syn, decay_m, decay_out, r_in, r_h, r_out, rate, threshold, refractory = constants
            decay_syn, decay_m = _padded(decay_syn, v.shape[1]), _padded(decay_m, v.shape[1])
            r_in, r_h = _padded(r_in, v.shape[1]), _padded(r_h, v.shape[1])
            threshold, refractory = _padded(threshold, v.shape[1]), _padded(refractory, v.shape[1])
        elif integer:
            shift_syn, shift_m, shift_out, threshold, scale_in, scale_out = constants
        else:
            decay_syn, decay_m, decay_out, r_in, r_h, r_out, rate = constants
        words, obs_size, n_outputs = k_h.shape[2], x.shape[1], readout.shape[1]
        lanes, width = words * WORD, -(-n_outputs // OUTPUTS) * OUTPUTS
        values, nothing = np.empty(obs_size, v.dtype), readout.dtype.type(0)
        i_in, sums = np.empty(lanes, v.dtype), np.empty(lanes, readout.dtype)
        masks = np.zeros(3 * lanes + GROUP, np.uint64)  # ones in the middle: masks[2 * lanes - n + i] is i < n,
        masks[lanes : 2 * lanes] = ALL  # and masks[lanes - n + i] is n <= i
        outgoing = np.zeros(words * width, np.uint64)
        counts, filtered = np.zeros(width, np.int64), np.zeros(width, readout.dtype)
        offsets = np.empty(lanes + GROUP, np.int32)
        table = PLACES * np.int32(words)  # where the rows of a byte's neurons begin, from the row of its first
        starts = np.arange(0, lanes, 8).astype(np.int32) * np.int32(words)
        surplus = np.zeros(block * WORD, np.int32)
        excitatory = np.zeros(words, np.uint64)
        for neuron in range(n_excitatory):
            excitatory[neuron // WORD] |= ONE << np.uint64(neuron % WORD)
        inhibitory = ~excitatory
        last_excitatory, first_inhibitory = -(-n_excitatory // WORD), n_excitatory // WORD

        for row in rows:
            network = owners[row]
            row_v, row_syn, row_spikes = v[row], i_syn[row], spikes[row]
            row_bytes = row_spikes.view(np.uint8)
            inputs, recurrent = k_in[network].reshape(-1), k_h[network].reshape(-1)
            connected = False  # without recurrent connections, spikes reach no neuron
            for w in range(0, recurrent.size, block):
                if simd.any_bit(simd.load(recurrent, w, block)):
                    connected = True
                    break

            for a in range(n_outputs):
                for w in range(words):
                    outgoing[w * width + a] = k_out[network, a, w]
                filtered[a] = readout[row, a]
                if not integer and abs(filtered[a]) < FLUSH:
                    filtered[a] = 0
            for d in range(obs_size):
                if integer:
                    values[d] = _clamped(np.rint(x[row, d] * scale_in), np.float64(LARGEST_CURRENT))
                else:
                    values[d] = x[row, d]

            # A lane starts at +0 and so is never -0, which adding 0 of either sign would change: zeros are skipped.
            for w in range(words):
                current = simd.no_sums(1, nothing)
                if integer:
                    for first in range(0, obs_size, SHORT_TERMS):
                        few = simd.no_sums(1, v.dtype.type(0))
                        for d in range(first, min(first + SHORT_TERMS, obs_size)):
                            few = simd.plus_where(few, inputs, d * words + w, values[d])
                            few = simd.minus_where(few, inputs, (obs_size + d) * words + w, values[d])
                        current = simd.plus_short(current, few)
                else:
                    for d in range(obs_size):
                        if values[d] != 0:
                            current = simd.plus_where(current, inputs, d * words + w, values[d])
                            current = simd.minus_where(current, inputs, (obs_size + d) * words + w, values[d])
                simd.store_sums(sums, w * WORD, current)
            for lane in range(lanes):
                if integer:
                    i_in[lane] = _clamped(sums[lane], np.int32(LARGEST_CURRENT))
                else:
                    i_in[lane] = sums[lane] * (r_in[lane] if varied else r_in)
                    row_syn[lane] = np.float32(0) if abs(row_syn[lane]) < FLUSH else row_syn[lane]
                    row_v[lane] = np.float32(0) if abs(row_v[lane]) < FLUSH else row_v[lane]

            for _ in range(substeps):
                n, n_inhibitory = 0, 0
                if connected:
                    for byte in range(8 * words):
                        n = simd.append_bits(offsets, n, row_bytes, byte, starts, table)
                    simd.append_copies(offsets, n, 0)
                    for w in range(first_inhibitory, words):
                        n_inhibitory += simd.count_common(row_spikes, inhibitory, w)
                many = max(n_inhibitory, n - n_inhibitory) > 127  # more of one kind than an int8 counts

                for w in range(0, words, block):
                    at = recurrent, offsets, w, masks, 2 * lanes - n, lanes - n + n_inhibitory
                    none = simd.no_bits(block)
                    ones, twos, fours, eights, sixteens = none, none, none, none, simd.no_counts(block)
                    for i in range(0, n, GROUP):
                        if i > 0 and i % (GROUP * GROUPS) == 0:
                            simd.add_counts(surplus, sixteens, np.int32(GROUP))
                            sixteens = simd.no_counts(block)
                        eight_a, ones, twos, fours = _add_eight(ones, twos, fours, i, at)
                        eight_b, ones, twos, fours = _add_eight(ones, twos, fours, i + 8, at)
                        sixteen, eights = _add(eights, eight_a, eight_b)
                        sixteens = simd.tally(sixteens, sixteen)
                    if many:
                        simd.add_counts(surplus, sixteens, np.int32(GROUP))
                        sixteens = simd.no_counts(block)
                    count = simd.sixteen_fold(sixteens, eights, fours, twos, ones)
                    if many:  # in int32 from here on
                        simd.add_counts(surplus, count, np.int32(1))
                        surplus -= np.int32(n_inhibitory)
                        if varied:
                            simd.fire_cells(
                                row_v, row_syn, i_in, row_spikes, w, surplus, ones, decay_syn, decay_m, r_h,
                                threshold, refractory, held[row],
                            )  # fmt: skip
                        elif integer:
                            simd.fire_integers(
                                row_v, row_syn, i_in, row_spikes, w, surplus, ones, shift_syn, shift_m, threshold
                            )
                        else:
                            simd.fire(row_v, row_syn, i_in, row_spikes, w, surplus, ones, decay_syn, decay_m, r_h)
                        surplus[:] = 0
                    else:
                        count = simd.less(count, n_inhibitory)
                        if varied:
                            simd.fire_cells(
                                row_v, row_syn, i_in, row_spikes, w, count, ones, decay_syn, decay_m, r_h,
                                threshold, refractory, held[row],
                            )  # fmt: skip
                        elif integer:
                            simd.fire_integers(
                                row_v, row_syn, i_in, row_spikes, w, count, ones, shift_syn, shift_m, threshold
                            )
                        else:
                            simd.fire(row_v, row_syn, i_in, row_spikes, w, count, ones, decay_syn, decay_m, r_h)

                for a in range(0, width, OUTPUTS):
                    total = simd.no_bits(OUTPUTS)
                    for w in range(last_excitatory):
                        total = simd.plus_common(total, outgoing, w * width + a, row_spikes, excitatory, w)
                    for w in range(first_inhibitory, words):
                        total = simd.minus_common(total, outgoing, w * width + a, row_spikes, inhibitory, w)
                    if integer:
                        simd.filter_integers(filtered, a, total, shift_out)
                    else:
                        simd.store(counts, a, total)
                if not integer:
                    for a in range(width):
                        target = np.float32(counts[a]) * rate
                        filtered[a] = target + decay_out * (filtered[a] - target)

            for a in range(n_outputs):
                readout[row, a] = filtered[a]
                output[row, a] = (np.float32(scale_out) if integer else r_out) * np.float32(filtered[a])

    return step
