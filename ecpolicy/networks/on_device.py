"""The spiking network on a JAX device, behind the interface that host rollouts step."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ecpolicy.kernels import device as kernels
from ecpolicy.kernels.layout import Words
from ecpolicy.networks.rsnn import RSNN
from ecpolicy.random import Key


class DeviceState:
    """State of a batch of networks on the device; the connections join it at the first step."""

    def __init__(self, network: kernels.State) -> None:
        self.network = network
        self.connections: tuple[Array, Array, Array] | None = None


@dataclass(frozen=True)
class OnDevice:
    """An RSNN whose episodes are stepped in XLA: spikes and outputs equal those of the host's kernel.

    Parameters
    ----------
    network : RSNN
    """

    network: RSNN

    def initial_state(self, keys: Key, n_outputs: int) -> DeviceState:
        """States at the start of episodes, from each episode's key (episodes, 2)."""
        host = self.network.initial_state(keys, n_outputs)
        n = self.network.n_neurons
        parts = host.v[:, :n], host.i_syn[:, :n], kernels.halves(host.spikes), host.readout
        return DeviceState(kernels.State(*(jax.device_put(part) for part in parts)))

    def step(
        self,
        connections: Mapping[str, Words],
        state: DeviceState,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        *,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        """Advance the episodes ``rows`` by one environment step; see :meth:`RSNN.step`.

        All episodes are computed, so that the program does not change with their number; the others keep their state.
        """
        if state.connections is None:
            state.connections = _unroll(self.network.n_neurons)(
                *(kernels.halves(connections[name]) for name in ("input", "recurrent", "output")), owners
            )
        live = np.zeros(owners.size, np.bool_)
        live[rows] = True
        state.network, out = _step(self.network, x.shape[1])(state.connections, state.network, x, live, np.uint32(0))
        output[rows] = np.asarray(out)[rows]


@lru_cache(maxsize=16)
def _unroll(neurons: int) -> Any:
    """Packed matrices of the host as the device wants them, one of each for every episode."""

    def unroll(k_in: Array, k_h: Array, k_out: Array, owners: Array) -> tuple[Array, Array, Array]:
        return k_in[owners], kernels.transpose_bits(k_h, neurons)[owners], k_out[owners]

    return jax.jit(unroll)


@lru_cache(maxsize=16)
def _step(network: RSNN, obs_size: int) -> Any:
    """The compiled step of a batch."""
    advance = partial(
        kernels.rsnn_step,
        n_excitatory=network.n_excitatory,
        substeps=network.substeps,
        constants=network.constants(obs_size),
    )

    def step(connections: Any, state: kernels.State, x: Array, live: Array, zero: Array) -> tuple[kernels.State, Array]:
        after, output = advance(connections, state, x, zero)
        kept = jax.tree.map(lambda new, old: jnp.where(live[:, None], new, old), after, state)
        return kept, output

    return jax.jit(step)
