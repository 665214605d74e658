"""The network of integers in XLA: the bits of the host's kernel, with nothing to keep from being rounded otherwise."""

import jax.numpy as jnp
from jax import Array, lax

from ecpolicy.networks.integer import IntegerConstants
from ecpolicy.networks.layout import LARGEST_COUNT, LARGEST_CURRENT, LARGEST_READOUT, READOUT_SHIFT, WEIGHT_SHIFT
from ecpolicy.networks.xla.bits import State, counted, excitatory_words, input_current, pack, recurrent_count


def clamped(numbers: Array, limit: int) -> Array:
    """The nearest numbers in [-limit, limit - 1]."""
    return jnp.clip(numbers, -limit, limit - 1)


def integer_rsnn_step(
    connections: tuple[Array, Array, Array],
    state: State,
    x: Array,
    *,
    n_excitatory: int,
    substeps: int,
    constants: IntegerConstants,
) -> tuple[State, Array]:
    """One environment step of a population (equations of :class:`ecpolicy.networks.IntegerRSNN`), in int32.

    Parameters and results are those of :func:`ecpolicy.networks.xla.bits.rsnn_step`.
    """
    k_in, k_h, k_out = connections
    shift_syn, shift_m, shift_out, threshold, scale_in, scale_out = constants
    words = state.spikes.shape[1]
    excitatory = jnp.asarray(excitatory_words(words, n_excitatory))[None, None]
    x_q = clamped(jnp.round(x * jnp.float32(scale_in)), LARGEST_CURRENT).astype(jnp.int32)
    i_in = clamped(input_current(k_in, x_q, state.v.shape[1]), LARGEST_CURRENT)

    def substep(_: Array, carry: State) -> State:
        count = clamped(recurrent_count(k_h, carry.spikes, n_excitatory), LARGEST_COUNT)
        i_syn = clamped(carry.i_syn - (carry.i_syn >> shift_syn) + (count << WEIGHT_SHIFT), LARGEST_CURRENT)
        v = carry.v + ((i_syn + i_in - carry.v) >> shift_m)
        fired = v > threshold
        spikes = pack(fired, words)
        reaching = spikes[:, None, :] & k_out  # (members, outputs, words)
        signed = (2 * counted(reaching & excitatory) - counted(reaching)).sum(axis=-1, dtype=jnp.int32)
        reading = carry.readout - (carry.readout >> shift_out) + (signed << READOUT_SHIFT)
        return State(jnp.where(fired, 0, v), i_syn, spikes, clamped(reading, LARGEST_READOUT))

    state = lax.fori_loop(0, substeps, substep, state)
    return state, jnp.float32(scale_out) * state.readout.astype(jnp.float32)
