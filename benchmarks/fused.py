"""A candidate for NVIDIA GPUs: the spiking network's substeps fused into one Pallas (Triton) program per member.

XLA's own program reads a member's connections once in every substep. Here a member's recurrent connections (8 KiB at
256 neurons) are loaded once, stay in registers, and all substeps run on them. Same inputs, outputs and roundings as
:func:`ecpolicy.networks.xla.bits.rsnn_step`. ``network_step.py`` measures the two side by side where there is a GPU.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from ecpolicy.networks.layout import FLUSH
from ecpolicy.networks.xla import bits as device
from ecpolicy.networks.xla.bits import BITS, counted, rounded


def _kernel(
    k_h_ref, k_out_ref, excitatory_ref, i_in_ref, zero_ref, v_ref, i_syn_ref, spikes_ref, readout_ref,
    new_v_ref, new_i_syn_ref, new_spikes_ref, new_readout_ref, *, substeps, constants,
):  # fmt: skip
    decay_syn, decay_m, decay_out, _, r_h, _, per_dt = (jnp.float32(c) for c in constants)
    k_h, k_out, excitatory = k_h_ref[0], k_out_ref[0], excitatory_ref[...]  # (words, neurons), (outputs, words)
    i_in, zero, words = i_in_ref[0], zero_ref[0], excitatory_ref.shape[0]
    flushed = [jnp.where(jnp.abs(ref[0]) < FLUSH, 0.0, ref[0]) for ref in (v_ref, i_syn_ref, readout_ref)]

    def signed(reaching, mine, axis):
        return jnp.sum(2 * counted(reaching & mine) - counted(reaching), axis=axis, dtype=jnp.int32)

    def substep(_, carry):
        v, i_syn, spikes, readout = carry
        count = signed(k_h & spikes[:, None], excitatory[:, None], 0)
        i_syn = rounded(decay_syn * i_syn, zero) + rounded(r_h * count.astype(jnp.float32), zero)
        u = i_syn + i_in
        v = u + rounded(decay_m * (v - u), zero)
        fired = v > 1
        placed = fired.astype(jnp.uint32).reshape(words, BITS) << lax.broadcasted_iota(jnp.uint32, (words, BITS), 1)
        spikes = jnp.sum(placed, axis=1, dtype=jnp.uint32)
        total = signed(k_out & spikes[None, :], excitatory[None, :], 1)
        target = rounded(total.astype(jnp.float32) * per_dt, zero)
        return jnp.where(fired, 0.0, v), i_syn, spikes, target + rounded(decay_out * (readout - target), zero)

    v, i_syn, readout = flushed
    v, i_syn, spikes, readout = lax.fori_loop(0, substeps, substep, (v, i_syn, spikes_ref[0], readout))
    new_v_ref[0], new_i_syn_ref[0], new_spikes_ref[0], new_readout_ref[0] = v, i_syn, spikes, readout


def rsnn_step(connections, state, x, zero, *, n_excitatory, substeps, constants, interpret=False):
    """As :func:`ecpolicy.networks.xla.bits.rsnn_step`, for powers of two of at least 64 neurons."""
    k_in, k_h, k_out = connections
    members, words, neurons = k_h.shape
    outputs = 1 << (k_out.shape[1] - 1).bit_length()  # Triton wants powers of two
    k_out = jnp.pad(k_out, ((0, 0), (0, outputs - k_out.shape[1]), (0, 0)))
    readout = jnp.pad(state.readout, ((0, 0), (0, outputs - state.readout.shape[1])))
    i_in = rounded(device.input_current(k_in, x, neurons) * jnp.float32(constants[3]), zero)

    def one(*shape):
        return pl.BlockSpec((1, *shape), lambda member: (member, *(0 for _ in shape)))

    per_member = [one(neurons), one(neurons), one(words), one(outputs)]
    arrays = (state.v, state.i_syn, state.spikes, readout)
    call = pl.pallas_call(
        partial(_kernel, substeps=substeps, constants=np.asarray(constants).tolist()),
        grid=(members,),
        in_specs=[
            one(words, neurons), one(outputs, words), pl.BlockSpec((words,), lambda member: (0,)), one(neurons),
            pl.BlockSpec((1,), lambda member: (0,)), *per_member,
        ],
        out_specs=per_member,
        out_shape=[jax.ShapeDtypeStruct(part.shape, part.dtype) for part in arrays],
        compiler_params=plgpu.CompilerParams(num_warps=4),
        interpret=interpret,
    )  # fmt: skip
    excitatory = jnp.asarray(device.excitatory_words(words, n_excitatory))
    v, i_syn, spikes, readout = call(k_h, k_out, excitatory, i_in, jnp.asarray(zero).reshape(1), *arrays)
    new = device.State(v, i_syn, spikes, readout[:, : state.readout.shape[1]])
    return new, jnp.float32(constants[5]) * new.readout
