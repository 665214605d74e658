"""The networks as pure functions in XLA, and behind the interface that host rollouts step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from ecpolicy.networks.gated import GRU, LSTM, NAMES
from ecpolicy.networks.integer import IntegerRSNN
from ecpolicy.networks.layout import FLUSH, halves, words_per_row
from ecpolicy.networks.network import Network, Shape
from ecpolicy.networks.spiking import RSNN, RealRSNN
from ecpolicy.networks.xla import bits as kernels
from ecpolicy.networks.xla.integers import integer_rsnn_step
from ecpolicy.random import Key

Drawn = Mapping[str, Array]  # matrices by name: uint32 words (networks, rows, words) or float32 (networks, pre, post)
Tree: TypeAlias = Any  # arrays within tuples, named tuples and dicts, to which JAX gives no type
Matrices: TypeAlias = tuple[Array, Array, Array]  # of the inputs, between neurons, of the outputs
Spiking: TypeAlias = tuple[Array, ...]  # potentials, currents, spikes, readout, and of CellConstants what is held
Pair: TypeAlias = tuple[Array, Array]  # what units show and what they keep


class Twin(Protocol):
    """A network on the device: pure functions over a batch of networks, one episode each."""

    def prepare(self, drawn: Drawn) -> Tree:
        """The matrices as ``step`` wants them."""

    def initial_state(self, keys: Array, n_outputs: int) -> Tree:
        """States at the start of episodes with these keys (episodes, 2): a tree of arrays (episodes, ...)."""

    def step(self, matrices: Tree, state: Tree, x: Array, zero: Array) -> tuple[Tree, Array]:
        """The next state and the outputs for x (episodes, obs_size); ``zero`` is that of ``bits.rounded``."""


@dataclass(frozen=True)
class RSNNTwin:
    """The spiking network on packed bits; equal to the host's kernel bit for bit."""

    network: RSNN

    def prepare(self, drawn: Drawn) -> Matrices:
        """The recurrent connections are packed along the presynaptic neurons instead."""
        return _along_presynaptic(drawn, self.network.n_neurons)

    def initial_state(self, keys: Array, n_outputs: int) -> kernels.State:
        """Random potentials, the host's."""
        n, episodes = self.network.n_neurons, keys.shape[0]
        return kernels.State(
            _potentials(self.network, keys),
            jnp.zeros((episodes, n), jnp.float32),
            jnp.zeros((episodes, 2 * words_per_row(n)), jnp.uint32),
            jnp.zeros((episodes, n_outputs), jnp.float32),
            None if self.network.are_alike else jnp.zeros((episodes, n), jnp.int32),
        )

    def step(self, matrices: Matrices, state: kernels.State, x: Array, zero: Array) -> tuple[kernels.State, Array]:
        """One environment step; see :func:`ecpolicy.networks.xla.bits.rsnn_step`."""
        return kernels.rsnn_step(
            matrices, state, x, zero, n_excitatory=self.network.n_excitatory, substeps=self.network.substeps,
            constants=self.network.constants(x.shape[1]),
        )  # fmt: skip


@dataclass(frozen=True)
class IntegerRSNNTwin:
    """The spiking network of integers on packed bits; equal to the host's kernel bit for bit."""

    network: IntegerRSNN

    def prepare(self, drawn: Drawn) -> Matrices:
        """The recurrent connections are packed along the presynaptic neurons instead."""
        return _along_presynaptic(drawn, self.network.n_neurons)

    def initial_state(self, keys: Array, n_outputs: int) -> kernels.State:
        """Random potentials, the host's."""
        n, episodes = self.network.n_neurons, keys.shape[0]
        threshold = jnp.float32(self.network.constants(1).threshold)
        return kernels.State(
            (kernels.uniform(keys, n) * threshold).astype(jnp.int32),
            jnp.zeros((episodes, n), jnp.int32),
            jnp.zeros((episodes, 2 * words_per_row(n)), jnp.uint32),
            jnp.zeros((episodes, n_outputs), jnp.int32),
        )

    def step(self, matrices: Matrices, state: kernels.State, x: Array, zero: Array) -> tuple[kernels.State, Array]:
        """One environment step; see :func:`ecpolicy.networks.xla.integers.integer_rsnn_step`."""
        return integer_rsnn_step(
            matrices, state, x, n_excitatory=self.network.n_excitatory, substeps=self.network.substeps,
            constants=self.network.constants(x.shape[1]),
        )  # fmt: skip


def _potentials(network: RSNN | RealRSNN, keys: Array) -> Array:
    """The host's: uniform from 0 to the threshold."""
    drawn = kernels.uniform(keys, network.n_neurons)
    return drawn if network.are_alike else drawn * kernels.on_device(network.constants(1))[1]


def _along_presynaptic(drawn: Drawn, n_neurons: int) -> Matrices:
    return drawn["input"], kernels.transpose_bits(drawn["recurrent"], n_neurons), drawn["output"]


@dataclass(frozen=True)
class RealRSNNTwin:
    """The spiking network with real weights, as dense products."""

    network: RealRSNN

    def prepare(self, drawn: Drawn) -> Matrices:
        """The weights as they are."""
        return drawn["input"], drawn["recurrent"], drawn["output"]

    def initial_state(self, keys: Array, n_outputs: int) -> Spiking:
        """Random potentials, the host's, or zero."""
        shape = keys.shape[0], self.network.n_neurons
        zeros = jnp.zeros(shape, jnp.float32)
        v = _potentials(self.network, keys) if self.network.random_start else zeros
        start = v, zeros, zeros, jnp.zeros((keys.shape[0], n_outputs), jnp.float32)
        return start if self.network.are_alike else (*start, jnp.zeros(shape, jnp.int32))

    def step(self, matrices: tuple[Array, ...], state: Spiking, x: Array, zero: Array) -> tuple[Spiking, Array]:
        """One environment step: the equations of :class:`ecpolicy.networks.RealRSNN`."""
        w_in, w_h, w_out = matrices
        constants, *cells = kernels.on_device(self.network.constants(x.shape[1]))
        decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt = constants
        i_in = kernels.rounded(r_in * _product(x, w_in), zero)
        v, i_syn, spikes, readout = (jnp.where(jnp.abs(part) < FLUSH, 0, part) for part in state[:4])

        def substep(_: Array, carry: Spiking) -> Spiking:
            v, i_syn, spikes, readout, *held = carry
            i_syn = kernels.rounded(decay_syn * i_syn, zero) + kernels.rounded(r_h * _product(spikes, w_h), zero)
            u = i_syn + i_in
            v, fired, *held = kernels.fire(u + kernels.rounded(decay_m * (v - u), zero), *held, *cells)
            spikes = fired.astype(jnp.float32)
            target = kernels.rounded(_product(spikes, w_out) * per_dt, zero)
            readout = target + kernels.rounded(decay_out * (readout - target), zero)
            return v, i_syn, spikes, readout, *held

        state = lax.fori_loop(0, self.network.substeps, substep, (v, i_syn, spikes, readout, *state[4:]))
        return state, r_out * state[3]


@dataclass(frozen=True)
class GRUTwin:
    """The gated recurrent unit."""

    network: GRU

    def prepare(self, drawn: Drawn) -> tuple[Array, ...]:
        """The weights as they are."""
        return tuple(drawn[name] for name in NAMES)

    def initial_state(self, keys: Array, n_outputs: int) -> Array:
        """Zeros."""
        return jnp.zeros((keys.shape[0], self.network.n_neurons), jnp.float32)

    def step(self, matrices: tuple[Array, ...], state: Array, x: Array, zero: Array) -> tuple[Array, Array]:
        """One step: the equations of :class:`ecpolicy.networks.GRU`."""
        w_in, w_h, bias, w_out, bias_out = matrices
        ours = jnp.split(_product(x, w_in) + bias[:, 0], 3, axis=1)
        theirs = jnp.split(_product(state, w_h) + bias[:, 1], 3, axis=1)
        reset, update = jax.nn.sigmoid(ours[0] + theirs[0]), jax.nn.sigmoid(ours[1] + theirs[1])
        h = (1 - update) * jnp.tanh(ours[2] + reset * theirs[2]) + update * state
        return h, _product(h, w_out) + bias_out[:, 0]


@dataclass(frozen=True)
class LSTMTwin:
    """Long short-term memory."""

    network: LSTM

    def prepare(self, drawn: Drawn) -> tuple[Array, ...]:
        """The weights as they are."""
        return tuple(drawn[name] for name in NAMES)

    def initial_state(self, keys: Array, n_outputs: int) -> Pair:
        """Zeros."""
        zeros = jnp.zeros((keys.shape[0], self.network.n_neurons), jnp.float32)
        return zeros, zeros

    def step(self, matrices: tuple[Array, ...], state: Pair, x: Array, zero: Array) -> tuple[Pair, Array]:
        """One step: the equations of :class:`ecpolicy.networks.LSTM`."""
        w_in, w_h, bias, w_out, bias_out = matrices
        gates = jnp.split(_product(x, w_in) + _product(state[0], w_h) + bias[:, 0], 4, axis=1)
        write, keep, show = (jax.nn.sigmoid(gates[k]) for k in (0, 1, 3))
        c = keep * state[1] + write * jnp.tanh(gates[2])
        h = show * jnp.tanh(c)
        return (h, c), _product(h, w_out) + bias_out[:, 0]


def _product(x: Array, matrices: Array) -> Array:
    """Each row of x (members, pre) by its own matrix (members, pre, post)."""
    return jnp.einsum("mi,mij->mj", x, matrices, precision=lax.Precision.HIGHEST)


TWINS: dict[type, Callable[..., Twin]] = {
    RSNN: RSNNTwin, IntegerRSNN: IntegerRSNNTwin, RealRSNN: RealRSNNTwin, GRU: GRUTwin, LSTM: LSTMTwin
}  # fmt: skip


@lru_cache(maxsize=64)
def twin(network: Network) -> Twin:
    """The network on the device.

    Raises
    ------
    TypeError
        Where it has none: a network of one's own brings it along as the method ``on_device()``.
    """
    if type(network) in TWINS:
        return TWINS[type(network)](network)
    if not hasattr(network, "on_device"):
        raise TypeError(
            f'{network!r} is written for the host alone. Use Gymnasium environments with backend="numpy", or give it a '
            "method on_device() that returns what ecpolicy.networks.xla.twins.Twin describes."
        )
    own: Twin = network.on_device()
    return own


class DeviceState:
    """State of a batch of networks on the device; the connections join it at the first step."""

    def __init__(self, network: Tree) -> None:
        self.network = network
        self.matrices: Tree = None


@dataclass(frozen=True)
class OnDevice:
    """A network whose episodes are stepped in XLA, where the environments are stepped on the host.

    Parameters
    ----------
    network : Network
    """

    network: Network

    def shapes(self, obs_size: int, n_outputs: int) -> dict[str, Shape]:
        """The network's own."""
        return self.network.shapes(obs_size, n_outputs)

    def initial_state(self, keys: Key, n_outputs: int) -> DeviceState:
        """States at the start of episodes, from each episode's key (episodes, 2)."""
        start, _, _ = _compiled(self.network)
        return DeviceState(start(keys, n_outputs))

    def step(
        self,
        connections: Mapping[str, np.ndarray],
        state: DeviceState,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        *,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        """Advance the episodes ``rows`` by one environment step; see :class:`ecpolicy.networks.Network`.

        All episodes are computed, so that the program does not change with their number; the others keep their state.
        """
        _, prepare, step = _compiled(self.network)
        if state.matrices is None:
            words = {n: halves(m) if m.dtype == np.uint64 else m for n, m in connections.items()}
            state.matrices = prepare(words, owners)
        live = np.zeros(owners.size, np.bool_)
        live[rows] = True
        state.network, out = step(state.matrices, state.network, x, live, np.uint32(0))
        output[rows] = np.asarray(out)[rows]


def _beside(live: Array, part: Array) -> Array:
    """A flag per episode, to be broadcast over a part of the state (episodes, ...)."""
    return live.reshape(live.shape + (1,) * (part.ndim - 1))


@lru_cache(maxsize=16)
def _compiled(network: Network) -> tuple[Callable[..., Tree], Callable[..., Tree], Callable[..., tuple[Tree, Array]]]:
    """Compiled functions: states at the start, matrices for every episode from the networks', the step of a batch."""
    device = twin(network)

    def prepare(drawn: Drawn, owners: Array) -> Tree:
        return jax.tree.map(lambda part: part[owners], device.prepare(drawn))

    def step(matrices: Tree, state: Tree, x: Array, live: Array, zero: Array) -> tuple[Tree, Array]:
        after, output = device.step(matrices, state, x, zero)
        kept = jax.tree.map(lambda new, old: jnp.where(_beside(live, new), new, old), after, state)
        return kept, output

    return jax.jit(device.initial_state, static_argnums=1), jax.jit(prepare), jax.jit(step)
