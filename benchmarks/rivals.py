"""The two dense layouts that packed bits replace, in JAX: the paper's int8 and the float32 of Evolution Strategies."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecpolicy.networks import RSNN


def population_step(network: RSNN, obs_size: int, dtype: Any) -> Any:
    """A jitted step of a population: (connections, state, x) -> (state, outputs).

    Connections are ``dtype`` matrices (members, pre, post), spikes ``dtype`` vectors; counts are accumulated in int32
    (int8 layout) or float32. The equations are those of :class:`ecpolicy.networks.RSNN`.
    """
    decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt = (float(c) for c in network.constants(obs_size))
    accumulator = jnp.int32 if dtype == jnp.int8 else jnp.float32
    sign = jnp.where(jnp.arange(network.n_neurons) < network.n_excitatory, 1, -1).astype(dtype)

    def step(connections: Any, state: Any, x: Any) -> Any:
        k_in, k_h, k_out = connections
        i_in = r_in * jnp.concatenate([x, -x]) @ k_in.astype(jnp.float32)

        def substep(_: int, carry: Any) -> Any:
            v, i_syn, spikes, rate = carry
            count = jax.lax.dot_general(
                spikes, k_h, (((0,), (0,)), ((), ())), preferred_element_type=accumulator
            ).astype(jnp.float32)
            i_syn = decay_syn * i_syn + r_h * count
            u = i_syn + i_in
            v = u + decay_m * (v - u)
            fired = v > 1
            signed = jnp.where(fired, sign, 0).astype(dtype)
            target = signed.astype(jnp.float32) * per_dt
            return jnp.where(fired, 0, v), i_syn, signed, target + decay_out * (rate - target)

        state = jax.lax.fori_loop(0, network.substeps, substep, state)
        return state, r_out * (state[3] @ k_out.astype(jnp.float32))

    return jax.jit(jax.vmap(step))


def initial_state(v: np.ndarray, dtype: Any) -> Any:
    """The state that goes with potentials (members, neurons)."""
    zeros = jnp.zeros(v.shape, jnp.float32)
    return jnp.asarray(v), zeros, jnp.zeros(v.shape, dtype), zeros
