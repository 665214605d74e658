"""Plain NumPy twins of the compiled kernels: unpacked, one member at a time, obviously right. The oracle of the tests.

The floating-point operations are those of the kernels, in the same order and precision, so spikes agree bit for bit.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks.cells import Constants
from ecpolicy.networks.layout import WORD, words_per_row
from ecpolicy.random import Key, threefry2x32

if TYPE_CHECKING:
    from ecpolicy.networks.integer import IntegerConstants


def sample(key: Key, rho: NDArray[np.float32], planes: int = 24) -> NDArray[np.bool_]:
    """Connections (rows, lanes) of one member: theta ~ Bernoulli(rho), equation 8, to ``planes`` bits of precision."""
    rows, lanes = rho.shape
    words = words_per_row(lanes)
    counter = np.arange(rows * words, dtype=np.uint32).reshape(rows, words)
    random = np.zeros((rows, words * WORD), dtype=np.int64)
    for plane in range(planes):
        low, high = threefry2x32(key, (counter, np.uint32(plane)))
        word = low.astype("<u8") | (high.astype("<u8") << np.uint64(32))
        random = 2 * random + np.unpackbits(word.view(np.uint8), axis=-1, bitorder="little")
    p = rho.astype(np.float64)
    threshold = np.rint(np.minimum(p, 1 - p) * 2**planes).astype(np.int64)
    below: NDArray[np.bool_] = random[:, :lanes] < threshold
    return below ^ (p > 0.5)


def weighted_sum(theta: NDArray[np.bool_], weights: NDArray[np.int32]) -> NDArray[np.int64]:
    """sum_i weights[i] theta[i] over the leading axis, in integers."""
    return np.tensordot(weights.astype(np.int64), theta.astype(np.int64), axes=1)


class State(NamedTuple):
    """One network: membrane potentials, synaptic currents, spikes of the last substep and firing rates (neurons,)."""

    v: np.ndarray
    i_syn: np.ndarray
    spike: NDArray[np.bool_]
    rate: NDArray[np.float32]
    readout: np.ndarray
    held: NDArray[np.int32] | int = 0  # substeps that are left of the refractory period


ALIKE = np.float32(1), np.int32(0)  # threshold and refractory period of neurons without constants of their own


def rsnn_step(
    k_in: NDArray[np.bool_],
    k_h: NDArray[np.bool_],
    k_out: NDArray[np.bool_],
    state: State,
    x: NDArray[np.float32],
    *,
    n_excitatory: int,
    substeps: int,
    constants: Constants,
    raster: list[NDArray[np.bool_]] | None = None,
) -> tuple[State, NDArray[np.float32], NDArray[np.float32]]:
    """One environment step of one network (equations 3 to 7).

    Returns the new state, the output as the kernel forms it (the spike count of each output is filtered) and as the
    paper writes it (the rate of each neuron is filtered, then projected); filter and projection are linear, so they
    differ by rounding only. ``raster``, where given, collects the spikes of every substep.

    Parameters
    ----------
    k_in : (2 obs_size, neurons); k_h : (neurons, neurons) pre by post; k_out : (neurons, outputs); x : (obs_size,)
    constants : decay_syn, decay_m, decay_out, r_in, r_h, r_out, 1/dt; or CellConstants
    """
    decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt = constants[:7]
    threshold, refractory = constants[7:] if len(constants) > 7 else ALIKE
    v, i_syn, spike, rate, readout, held = state
    flush = np.float32(1e-12)
    v = np.where(np.abs(v) < flush, np.float32(0), v)
    i_syn = np.where(np.abs(i_syn) < flush, np.float32(0), i_syn)
    readout = np.where(np.abs(readout) < flush, np.float32(0), readout)

    i_in = np.zeros_like(v)
    for d in range(x.size):
        i_in = i_in + np.where(k_in[d], x[d], np.float32(0))
        i_in = i_in + np.where(k_in[x.size + d], -x[d], np.float32(0))
    i_in = i_in * r_in

    sign = np.where(np.arange(v.size) < n_excitatory, 1, -1)
    for _ in range(substeps):
        count = (sign * spike) @ k_h.astype(np.int64)
        i_syn = decay_syn * i_syn + r_h * count.astype(np.float32)
        u = i_syn + i_in
        v = np.where(held > 0, np.float32(0), u + decay_m * (v - u))
        spike = v > threshold
        v = np.where(spike, np.float32(0), v)
        held = np.where(spike, refractory, np.maximum(held - 1, 0))
        signed = (sign * spike).astype(np.float32) * per_dt
        rate = signed + decay_out * (rate - signed)
        total = ((sign * spike) @ k_out.astype(np.int64)).astype(np.float32) * per_dt
        readout = total + decay_out * (readout - total)
        if raster is not None:
            raster.append(spike)
    return State(v, i_syn, spike, rate, readout, held), r_out * readout, r_out * (rate @ k_out.astype(np.float32))


def integer_rsnn_step(
    k_in: NDArray[np.bool_],
    k_h: NDArray[np.bool_],
    k_out: NDArray[np.bool_],
    state: State,
    x: NDArray[np.float32],
    *,
    n_excitatory: int,
    substeps: int,
    constants: "IntegerConstants",
    raster: list[NDArray[np.bool_]] | None = None,
) -> tuple[State, NDArray[np.float32]]:
    """One environment step of one network of integers, in int64: the new state (without rates) and the output.

    Parameters
    ----------
    k_in : (2 obs_size, neurons); k_h : (neurons, neurons) pre by post; k_out : (neurons, outputs); x : (obs_size,)
    constants : IntegerConstants
    raster : where given, collects the spikes of every substep
    """
    v, i_syn, readout = (part.astype(np.int64) for part in (state.v, state.i_syn, state.readout))
    spike = state.spike
    x_q = clamp(np.rint(x.astype(np.float64) * constants.scale_in), 1 << 13).astype(np.int64)
    i_in = clamp(np.concatenate([x_q, -x_q]) @ k_in, 1 << 13)
    sign = np.where(np.arange(v.size) < n_excitatory, 1, -1)
    for _ in range(substeps):
        count = clamp((sign * spike) @ k_h.astype(np.int64), 1 << 7)
        i_syn = clamp(i_syn - (i_syn >> constants.shift_syn) + (count << 7), 1 << 13)
        v = v + ((i_syn + i_in - v) >> constants.shift_m)
        spike = v > constants.threshold
        v = np.where(spike, 0, v)
        total = (sign * spike) @ k_out.astype(np.int64)
        readout = clamp(readout - (readout >> constants.shift_out) + (total << 8), 1 << 23)
        if raster is not None:
            raster.append(spike)
    return State(v, i_syn, spike, state.rate, readout), np.float32(constants.scale_out) * readout.astype(np.float32)


def clamp(numbers: np.ndarray, limit: int) -> np.ndarray:
    """The nearest numbers in [-limit, limit - 1]."""
    clamped: np.ndarray = np.clip(numbers, -limit, limit - 1)
    return clamped


def real_rsnn_step(
    w_in: NDArray[np.float32],
    w_h: NDArray[np.float32],
    w_out: NDArray[np.float32],
    state: State,
    x: NDArray[np.float32],
    *,
    substeps: int,
    constants: Constants,
) -> tuple[State, NDArray[np.float32]]:
    """One environment step of one network with real weights: the new state (without rates) and the output.

    Sums run over presynaptic neurons in an order of NumPy's own; they are exact, and so equal the kernels', where
    weights and observations are multiples of a power of two.

    Parameters
    ----------
    w_in : (obs_size, neurons); w_h : (neurons, neurons) pre by post; w_out : (neurons, outputs); x : (obs_size,)
    constants : decay_syn, decay_m, decay_out, r_in, r_h, r_out, 1/dt; or CellConstants
    """
    decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt = constants[:7]
    threshold, refractory = constants[7:] if len(constants) > 7 else ALIKE
    flush = np.float32(1e-12)
    v, i_syn, readout = (np.where(np.abs(a) < flush, np.float32(0), a) for a in (state.v, state.i_syn, state.readout))
    spike, held = state.spike, state.held
    i_in = (x @ w_in) * r_in
    for _ in range(substeps):
        i_syn = decay_syn * i_syn + r_h * (spike.astype(np.float32) @ w_h)
        u = i_syn + i_in
        v = np.where(held > 0, np.float32(0), u + decay_m * (v - u))
        spike = v > threshold
        v = np.where(spike, np.float32(0), v)
        held = np.where(spike, refractory, np.maximum(held - 1, 0))
        total = (spike.astype(np.float32) @ w_out) * per_dt
        readout = total + decay_out * (readout - total)
    return State(v, i_syn, spike, state.rate, readout, held), r_out * readout
