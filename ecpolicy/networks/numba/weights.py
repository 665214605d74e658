"""Compiled kernels on real weights: Gaussian populations, the spiking network, GRU and LSTM.

Matrices are (networks, pre, post) in float32 and are read row by row, in the order of the presynaptic neurons: a row is
contiguous, so the additions are vectorised over postsynaptic neurons without being reordered.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks.layout import FLUSH, Words
from ecpolicy.networks.numba import simd
from ecpolicy.networks.numba.bits import SAMPLE_WORDS
from ecpolicy.networks.numba.compiling import compiled
from ecpolicy.random import NORMAL_UNIT

PER_WORD = 4  # draws of 16 bits in a word of 64


@compiled
def _draw(
    key0: np.uint64, key1: np.uint64, block: int, table: NDArray[np.int16], words: Words, out: NDArray[np.int16]
) -> None:
    """The integers ``out`` (8 * 4,) of a block of eight random words."""
    simd.store(words, 0, simd.random_words(key0, key1, np.uint64(block), np.uint64(0), SAMPLE_WORDS))
    for w in range(SAMPLE_WORDS):
        for k in range(PER_WORD):
            out[w * PER_WORD + k] = table[(words[w] >> np.uint64(16 * k)) & np.uint64(0xFFFF)]


@compiled
def perturb(
    keys: NDArray[np.uint32],
    signs: NDArray[np.float32],
    table: NDArray[np.int16],
    mean: NDArray[np.float32],
    sigma: float,
    out: NDArray[np.float32],
) -> None:
    """``out[m] = mean + signs[m] sigma z_m`` with z_m standard normal from the key of m.

    Parameters
    ----------
    keys : (members, 2); signs : (members,); table : (65536,); mean : (size,); out : (members, size), written
    """
    drawn, words = np.empty(SAMPLE_WORDS * PER_WORD, np.int16), np.empty(SAMPLE_WORDS, np.uint64)
    size, width = mean.size, SAMPLE_WORDS * PER_WORD
    for member in range(keys.shape[0]):
        key0, key1 = np.uint64(keys[member, 0]), np.uint64(keys[member, 1])
        step = np.float32(sigma * NORMAL_UNIT) * signs[member]
        for start in range(0, size, width):
            _draw(key0, key1, start // PER_WORD, table, words, drawn)
            for i in range(min(width, size - start)):
                out[member, start + i] = mean[start + i] + step * np.float32(drawn[i])


@compiled
def weighted_noise(
    keys: NDArray[np.uint32], table: NDArray[np.int16], weights: NDArray[np.int32], total: NDArray[np.int64]
) -> None:
    """``total += sum_m weights[m] z_m`` in units of the table, exactly; keys (members, 2), total (size,)."""
    drawn, words = np.empty(SAMPLE_WORDS * PER_WORD, np.int16), np.empty(SAMPLE_WORDS, np.uint64)
    size, width = total.size, SAMPLE_WORDS * PER_WORD
    for member in range(keys.shape[0]):
        key0, key1 = np.uint64(keys[member, 0]), np.uint64(keys[member, 1])
        weight = np.int64(weights[member])
        for start in range(0, size, width):
            _draw(key0, key1, start // PER_WORD, table, words, drawn)
            for i in range(min(width, size - start)):
                total[start + i] += weight * np.int64(drawn[i])


@compiled
def _add_row(total: NDArray[np.float32], row: NDArray[np.float32]) -> None:
    for j in range(total.size):
        total[j] += row[j]


@compiled
def _add_product(total: NDArray[np.float32], x: NDArray[np.float32], matrix: NDArray[np.float32]) -> None:
    """``total += x @ matrix`` for x (pre,), matrix (pre, post)."""
    for i in range(x.size):
        value = x[i]
        for j in range(total.size):
            total[j] += value * matrix[i, j]


def _make_rsnn_step(varied: bool) -> Callable[..., None]:
    @compiled
    def step(
        w_in: NDArray[np.float32],
        w_h: NDArray[np.float32],
        w_out: NDArray[np.float32],
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
        v: NDArray[np.float32],
        i_syn: NDArray[np.float32],
        spikes: NDArray[np.bool_],
        readout: NDArray[np.float32],
        held: np.ndarray,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        substeps: int,
        constants: Iterable[Any],
        dense: bool,
    ) -> None:
        """Advance the networks of ``rows`` by one environment step: all substeps, in place.

        Event-driven: the rows of the neurons that fire, a few per cent, are added up, in the order of the neurons.
        ``dense`` multiplies every row by its spike instead, which gives the same sums at the cost of a matrix product.

        Parameters
        ----------
        w_in : (networks, obs_size, neurons); w_h : (networks, neurons, neurons); w_out : (networks, neurons, outputs)
        owners : (episodes,) the network of each episode
        rows : (live,) the episodes to advance
        v, i_syn, spikes : (episodes, neurons); readout : (episodes, outputs)
        held : (episodes, neurons) where neurons have constants of their own; elsewhere it is not read
        x : (episodes, obs_size); output : (episodes, outputs), written
        constants : decay_syn, decay_m, decay_out, r_in, r_h, r_out, 1/dt; or CellConstants
        """
        if varied:
            decay_syn, decay_m, decay_out, r_in, r_h, r_out, rate, threshold, refractory = constants
        else:
            decay_syn, decay_m, decay_out, r_in, r_h, r_out, rate = constants
        neurons, outputs = v.shape[1], readout.shape[1]
        i_in, current = np.empty(neurons, np.float32), np.empty(neurons, np.float32)
        total, fired = np.empty(outputs, np.float32), np.empty(neurons, np.int64)
        zero, one = np.float32(0), np.float32(1)
        for row in rows:
            network = owners[row]
            row_v, row_syn, row_spikes, row_readout = v[row], i_syn[row], spikes[row], readout[row]
            i_in[:] = zero
            _add_product(i_in, x[row], w_in[network])
            for j in range(neurons):
                i_in[j] *= r_in[j] if varied else r_in
                row_syn[j] = zero if abs(row_syn[j]) < FLUSH else row_syn[j]
                row_v[j] = zero if abs(row_v[j]) < FLUSH else row_v[j]
            for a in range(outputs):
                row_readout[a] = zero if abs(row_readout[a]) < FLUSH else row_readout[a]
            n = 0
            for i in range(neurons):
                if row_spikes[i]:
                    fired[n] = i
                    n += 1
            for _ in range(substeps):
                current[:] = zero
                if dense:
                    for i in range(neurons):
                        value = one if row_spikes[i] else zero
                        for j in range(neurons):
                            current[j] += value * w_h[network, i, j]
                else:
                    for k in range(n):
                        _add_row(current, w_h[network, fired[k]])
                for j in range(neurons):
                    if varied:
                        row_syn[j] = decay_syn[j] * row_syn[j] + r_h[j] * current[j]
                        u = row_syn[j] + i_in[j]
                        potential = u + decay_m[j] * (row_v[j] - u)
                        left = held[row, j]
                        potential = zero if left > 0 else potential
                        fires = potential > threshold[j]
                        held[row, j] = refractory[j] if fires else max(left - 1, 0)
                        row_spikes[j] = fires
                        row_v[j] = zero if fires else potential
                    else:
                        row_syn[j] = decay_syn * row_syn[j] + r_h * current[j]
                        u = row_syn[j] + i_in[j]
                        potential = u + decay_m * (row_v[j] - u)
                        row_spikes[j] = potential > one
                        row_v[j] = zero if potential > one else potential
                n = 0
                for i in range(neurons):
                    fired[n] = i
                    n += row_spikes[i]
                total[:] = zero
                for k in range(n):
                    _add_row(total, w_out[network, fired[k]])
                for a in range(outputs):
                    target = total[a] * rate
                    row_readout[a] = target + decay_out * (row_readout[a] - target)
            for a in range(outputs):
                output[row, a] = r_out * row_readout[a]

    return step


rsnn_step = _make_rsnn_step(False)
cells_step = _make_rsnn_step(True)  # of neurons with constants of their own


@compiled
def _sigmoid(x: np.float32) -> np.float32:
    return np.float32(1) / np.float32(np.float32(1) + np.exp(-x))


@compiled
def gru_step(
    w_in: NDArray[np.float32],
    w_h: NDArray[np.float32],
    bias: NDArray[np.float32],
    w_out: NDArray[np.float32],
    bias_out: NDArray[np.float32],
    owners: NDArray[np.int64],
    rows: NDArray[np.int64],
    h: NDArray[np.float32],
    x: NDArray[np.float32],
    output: NDArray[np.float32],
) -> None:
    """Advance gated recurrent units (Cho et al., 2014) by one step; gates in the order r, z, n, as in PyTorch.

    Parameters
    ----------
    w_in : (networks, obs_size, 3 units); w_h : (networks, units, 3 units); bias : (networks, 2, 3 units), of each
    w_out : (networks, units, outputs); bias_out : (networks, 1, outputs)
    h : (episodes, units), updated in place; x : (episodes, obs_size); output : (episodes, outputs), written
    """
    units = h.shape[1]
    ours, theirs = np.empty(3 * units, np.float32), np.empty(3 * units, np.float32)
    for row in rows:
        network = owners[row]
        ours[:], theirs[:] = bias[network, 0], bias[network, 1]
        _add_product(ours, x[row], w_in[network])
        _add_product(theirs, h[row], w_h[network])
        for j in range(units):
            reset = _sigmoid(ours[j] + theirs[j])
            update = _sigmoid(ours[units + j] + theirs[units + j])
            new = np.tanh(ours[2 * units + j] + reset * theirs[2 * units + j])
            h[row, j] = (np.float32(1) - update) * new + update * h[row, j]
        output[row] = bias_out[network, 0]
        _add_product(output[row], h[row], w_out[network])


@compiled
def lstm_step(
    w_in: NDArray[np.float32],
    w_h: NDArray[np.float32],
    bias: NDArray[np.float32],
    w_out: NDArray[np.float32],
    bias_out: NDArray[np.float32],
    owners: NDArray[np.int64],
    rows: NDArray[np.int64],
    h: NDArray[np.float32],
    c: NDArray[np.float32],
    x: NDArray[np.float32],
    output: NDArray[np.float32],
) -> None:
    """Advance long short-term memory (Hochreiter and Schmidhuber, 1997) by one step; gates i, f, g, o, as in PyTorch.

    Parameters
    ----------
    w_in : (networks, obs_size, 4 units); w_h : (networks, units, 4 units); bias : (networks, 1, 4 units)
    w_out : (networks, units, outputs); bias_out : (networks, 1, outputs)
    h, c : (episodes, units), updated in place; x : (episodes, obs_size); output : (episodes, outputs), written
    """
    units = h.shape[1]
    gates = np.empty(4 * units, np.float32)
    for row in rows:
        network = owners[row]
        gates[:] = bias[network, 0]
        _add_product(gates, x[row], w_in[network])
        _add_product(gates, h[row], w_h[network])
        for j in range(units):
            keep = _sigmoid(gates[units + j]) * c[row, j]
            c[row, j] = keep + _sigmoid(gates[j]) * np.tanh(gates[2 * units + j])
            h[row, j] = _sigmoid(gates[3 * units + j]) * np.tanh(c[row, j])
        output[row] = bias_out[network, 0]
        _add_product(output[row], h[row], w_out[network])
