"""Packed kernels in XLA: the same bits as :mod:`ecpolicy.networks.numba.bits`, on whatever device JAX has.

Words are uint32, which every accelerator counts in one instruction. All functions are pure, shapes are fixed, and the
members of a population are the leading axis.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import NDArray

from ecpolicy.networks.cells import Constants
from ecpolicy.networks.layout import FLUSH, MEMBERS_AT_A_TIME, PLANES, WORD, Words, halves
from ecpolicy.random import Key, normal_table, threefry_rounds

BITS = 32  # of a word on the device; a word of the host is two of them, low half first


class State(NamedTuple):
    """A population between environment steps."""

    v: Array  # (members, neurons) membrane potential
    i_syn: Array  # (members, neurons) synaptic current
    spikes: Array  # (members, words) spikes of the last substep
    readout: Array  # (members, outputs) filtered signed spike counts, per ms
    held: Array | None = None  # (members, neurons) substeps that are left of the refractory period


def uniform(keys: Array, size: int) -> Array:
    """``ecpolicy.random.uniform``: ``size`` floats in [0, 1) per key, (members, size)."""
    counter = lax.iota(jnp.uint32, size)[None]
    bits, _ = threefry_rounds(keys[:, :1], keys[:, 1:], counter, jnp.zeros_like(counter))
    drawn: Array = (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)
    return drawn


def sample(keys: Array, planes: Array, flips: Array) -> Array:
    """Draw one matrix of every member, the bits of the host's ``sample``: (members, rows, words).

    A connection is present where a 24-bit random number is below its threshold, compared from the most significant
    plane on. The host's word w draws Threefry(key, (w, plane)); here it is two words.

    Parameters
    ----------
    keys : (members, 2); planes : (24, rows, words); flips : (rows, words)
    """
    members, (rows, words) = keys.shape[0], flips.shape
    counter = lax.iota(jnp.uint32, rows * words // 2).reshape(1, rows, words // 2)
    key0, key1 = keys[:, 0, None, None], keys[:, 1, None, None]

    def compare(plane: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        below, undecided = carry
        low, high = threefry_rounds(key0, key1, counter, jnp.broadcast_to(plane.astype(jnp.uint32), counter.shape))
        drawn = jnp.stack([low, high], axis=-1).reshape(members, rows, words)
        threshold = planes[plane][None]
        return below | (undecided & ~drawn & threshold), undecided & ~(drawn ^ threshold)

    start = jnp.zeros((members, rows, words), jnp.uint32)
    drawn: Array = lax.fori_loop(0, PLANES, compare, (start, ~start))[0] ^ flips[None]
    return drawn


def perturb(keys: Array, signs: Array, mean: Array, step: Array, zero: Array) -> Array:
    """Weights of every member, those of the host's ``perturb``: ``mean + signs step z``, (members, pre, post).

    Parameters
    ----------
    keys : (members, 2); signs : (members,); mean : (pre, post)
    step : float32 scalar
        The standard deviation, in units of the table of normal quantiles.
    zero : see :func:`rounded`
    """
    drawn = normal_integers(keys, mean.size).reshape(-1, *mean.shape).astype(jnp.float32)
    return mean[None] + rounded((step * signs)[:, None, None] * drawn, zero)


def normal_integers(keys: Array, size: int) -> Array:
    """Standard normal draws (members, size) in units of the table, four from each pair of random words."""
    counter = lax.iota(jnp.uint32, -(-size // 4))[None]
    low, high = threefry_rounds(keys[:, :1], keys[:, 1:], counter, jnp.zeros_like(counter))
    bits = jnp.stack([low & 0xFFFF, low >> 16, high & 0xFFFF, high >> 16], axis=-1).reshape(keys.shape[0], -1)
    drawn: Array = jnp.asarray(normal_table().astype(np.int32))[bits[:, :size]]
    return drawn


def weighted_noise(keys: Key, weights: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """``sum_m weights[m] z_m``, the integers of the host's ``weighted_noise``, on all devices of this process.

    Weights are split into digits of eight bits, whose sums over 448 members fit into 32 bits.
    """
    devices = jax.local_devices()
    signed = [np.sign(weights) * ((np.abs(weights) >> shift) & 0xFF) for shift in (0, 8, 16, 24)]
    digits = np.stack(signed, axis=1).astype(np.int32)  # (members, digits)
    each, blocks = len(devices), min(-(-keys.shape[0] // (len(devices) * MEMBERS_AT_A_TIME)), 7)
    members = each * blocks * MEMBERS_AT_A_TIME
    add = _weighted_noise(tuple(devices), size)
    total = np.zeros((digits.shape[1], size), dtype=np.int64)
    for start in range(0, keys.shape[0], members):
        chunk = slice(start, start + members)
        missing = max(start + members - keys.shape[0], 0)
        some_keys = np.pad(keys[chunk], ((0, missing), (0, 0))).reshape(each, blocks, MEMBERS_AT_A_TIME, 2)
        some_digits = np.pad(digits[chunk], ((0, missing), (0, 0))).reshape(each, blocks, MEMBERS_AT_A_TIME, -1)
        total += np.asarray(add(some_keys, some_digits)).sum(axis=0, dtype=np.int64)
    return sum((part << (8 * k) for k, part in enumerate(total)), np.zeros(size, np.int64))


@cache
def _weighted_noise(devices: tuple[jax.Device, ...], size: int) -> Callable[..., Array]:
    """The compiled sum of (devices, blocks, members, digits) weights: (devices, digits, size)."""

    def add(keys: Array, digits: Array) -> Array:
        def block(total: Array, some: tuple[Array, Array]) -> tuple[Array, None]:
            return total + jnp.einsum("md,ms->ds", some[1], normal_integers(some[0], size)), None

        start = jnp.zeros((digits.shape[-1], size), jnp.int32)
        return lax.scan(block, start, (keys[0], digits[0]))[0][None]

    mesh, split = Mesh(np.array(devices), ("members",)), PartitionSpec("members")
    return jax.jit(jax.shard_map(add, mesh=mesh, in_specs=(split, split), out_specs=split, check_vma=False))


def weighted_sum(keys: Key, planes: Words, flips: Words, weights: NDArray[np.int32]) -> NDArray[np.int64]:
    """``sum_m weights[m] theta_m``, the integers of the host's ``weighted_sum``, on all devices of this process."""
    devices = jax.local_devices()
    most = 2**31 >> int(np.abs(weights).max(initial=0)).bit_length()  # members whose weights add up in int32
    per_call = min(-(-keys.shape[0] // len(devices)), most)
    size = min(per_call, MEMBERS_AT_A_TIME)
    blocks = per_call // size
    members = len(devices) * blocks * size
    add = _weighted_sum(tuple(devices))
    total = np.zeros(flips.size * WORD, dtype=np.int64)
    thresholds = halves(planes), halves(flips)
    for start in range(0, keys.shape[0], members):
        chunk = slice(start, start + members)
        missing = max(start + members - keys.shape[0], 0)  # made up for by members of weight zero
        some_keys = np.pad(keys[chunk], ((0, missing), (0, 0))).reshape(len(devices), blocks, size, 2)
        some_weights = np.pad(weights[chunk], (0, missing)).reshape(len(devices), blocks, size)
        total += np.asarray(add(some_keys, *thresholds, some_weights)).sum(axis=0, dtype=np.int64)
    return total


@cache
def _weighted_sum(devices: tuple[jax.Device, ...]) -> Callable[..., Array]:
    """The compiled sum of (devices, blocks, members) weights, each device adding up its own: (devices, lanes)."""

    def add(keys: Array, planes: Array, flips: Array, weights: Array) -> Array:
        def block(total: Array, some: tuple[Array, Array]) -> tuple[Array, None]:
            bits = sample(some[0], planes[:, None], flips[None])[:, 0, :, None]  # (members, words, 1)
            present = ((bits >> lax.iota(jnp.uint32, BITS)[None, None]) & 1) != 0
            return total + jnp.where(present, some[1][:, None, None], 0).sum(axis=0, dtype=jnp.int32), None

        start = jnp.zeros((flips.size, BITS), jnp.int32)
        total, _ = lax.scan(block, start, (keys[0], weights[0]))
        return total.reshape(1, -1)

    mesh = Mesh(np.array(devices), ("members",))
    split, same = PartitionSpec("members"), PartitionSpec()
    return jax.jit(jax.shard_map(add, mesh=mesh, in_specs=(split, same, same, split), out_specs=split, check_vma=False))


def transpose_bits(matrix: Array, lanes: int) -> Array:
    """From words along the columns (members, rows, words) to words along the rows (members, row words, lanes)."""
    members, rows, words = matrix.shape
    row_words = -(-rows // BITS)
    padded = jnp.pad(matrix, ((0, 0), (0, row_words * BITS - rows), (0, 0)))
    blocks = padded.reshape(members, row_words, BITS, words, 1)
    row, column = (lax.broadcasted_iota(jnp.uint32, (1, 1, BITS, 1, BITS), axis) for axis in (2, 4))
    moved = ((blocks >> column) & 1) << row  # (members, row words, row, words, column)
    return jnp.sum(moved, axis=2, dtype=jnp.uint32).reshape(members, row_words, words * BITS)[..., :lanes]


def rounded(product: Array, zero: Array) -> Array:
    """A product as it is, out of the compiler's sight, so that it is not fused with an addition.

    Compilers contract ``a * b + c`` into one operation with one rounding, on some devices and not on others. Passing
    the product's bits through an exclusive or with a ``zero`` that is only known at run time keeps both roundings, and
    with them spikes that equal the reference bit for bit.
    """
    return lax.bitcast_convert_type(lax.bitcast_convert_type(product, jnp.uint32) ^ zero, jnp.float32)


def rsnn_step(
    connections: tuple[Array, Array, Array],
    state: State,
    x: Array,
    zero: Array,
    *,
    n_excitatory: int,
    substeps: int,
    constants: Constants,
) -> tuple[State, Array]:
    """One environment step of a population (equations 3 to 7).

    Parameters
    ----------
    connections : (members, 2 obs_size, words), packed along the neurons; (members, words, neurons), packed along the
        presynaptic neurons; (members, outputs, words), packed along the neurons
    x : (members, obs_size)
    zero : uint32 scalar that is zero; see :func:`rounded`
    constants : decay_syn, decay_m, decay_out, r_in, r_h, r_out, 1/dt; or CellConstants

    Returns
    -------
    (State, output (members, outputs))
    """
    k_in, k_h, k_out = connections
    (decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt), *cells = on_device(constants)
    neurons, words = state.v.shape[1], state.spikes.shape[1]
    excitatory = jnp.asarray(excitatory_words(words, n_excitatory))[None, None]
    i_in = rounded(input_current(k_in, x, neurons) * r_in, zero)
    v, i_syn, readout = (jnp.where(jnp.abs(part) < FLUSH, 0, part) for part in (state.v, state.i_syn, state.readout))

    def substep(_: Array, carry: State) -> State:
        count = recurrent_count(k_h, carry.spikes, n_excitatory)
        i_syn = rounded(decay_syn * carry.i_syn, zero) + rounded(r_h * count.astype(jnp.float32), zero)
        u = i_syn + i_in
        own = (carry.held, *cells) if cells else ()
        v, fired, *held = fire(u + rounded(decay_m * (carry.v - u), zero), *own)
        spikes = pack(fired, words)
        reaching = spikes[:, None, :] & k_out  # (members, outputs, words)
        signed = (2 * counted(reaching & excitatory) - counted(reaching)).sum(axis=-1, dtype=jnp.int32)
        target = rounded(signed.astype(jnp.float32) * per_dt, zero)
        readout = target + rounded(decay_out * (carry.readout - target), zero)
        return State(v, i_syn, spikes, readout, *held)

    state = lax.fori_loop(0, substeps, substep, State(v, i_syn, state.spikes, readout, state.held))
    return state, r_out * state.readout


def on_device(constants: Constants) -> tuple[Any, ...]:
    """The first seven constants, then thresholds and refractory periods if there are any; those of neurons as rows."""
    rows = tuple(jnp.asarray(part)[None] if np.ndim(part) else jnp.asarray(part) for part in constants)
    return rows[:7], *rows[7:]


def fire(v: Array, *cells: Array) -> tuple[Array, ...]:
    """Potentials after the reset, and the spikes.

    With ``cells`` (held, thresholds, refractory periods), also the substeps for which neurons are then held at 0.
    """
    if not cells:
        fired = v > 1
        return jnp.where(fired, 0, v), fired
    held, threshold, refractory = cells
    v = jnp.where(held > 0, 0, v)
    fired = v > threshold
    return jnp.where(fired, 0, v), fired, jnp.where(fired, refractory, jnp.maximum(held - 1, 0))


def excitatory_words(words: int, n_excitatory: int) -> NDArray[np.uint32]:
    """The excitatory neurons, which come first, as a packed row."""
    bits = np.arange(words * BITS) < n_excitatory
    return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)


def counted(words: Array) -> Array:
    """The number of bits of every word, in int32."""
    return lax.population_count(words).astype(jnp.int32)


def input_current(k_in: Array, x: Array, neurons: int) -> Array:
    """[x, -x] @ K_in (members, neurons), added up in the reference's order: every observation, then its negative."""
    obs_size, words = x.shape[1], k_in.shape[2]
    bit = lax.iota(jnp.uint32, words * BITS)[None, :neurons] % BITS

    def where_present(row: Array, value: Array) -> Array:
        word = jnp.repeat(lax.dynamic_index_in_dim(k_in, row, axis=1, keepdims=False), BITS, axis=1)[:, :neurons]
        return jnp.where((word >> bit) & 1 != 0, value, 0)

    def add(d: Array, total: Array) -> Array:
        value = lax.dynamic_index_in_dim(x, d, axis=1)  # (members, 1)
        return total + where_present(d, value) + where_present(obs_size + d, -value)

    # An accelerator launches a kernel for each round of the loop. Hundreds of additions in one would be slow on a CPU.
    total: Array = lax.fori_loop(0, obs_size, add, jnp.zeros((x.shape[0], neurons), x.dtype), unroll=32)
    return total


def recurrent_count(k_h: Array, spikes: Array, n_excitatory: int) -> Array:
    """Excitatory minus inhibitory spikes that reach each neuron (members, neurons), in int32."""
    total = jnp.zeros((k_h.shape[0], k_h.shape[2]), jnp.int32)
    for word in range(k_h.shape[1]):
        reaching = k_h[:, word] & spikes[:, word, None]
        of_these = min(max(n_excitatory - word * BITS, 0), BITS)  # excitatory neurons, which come first
        if of_these == BITS:
            total += counted(reaching)
        elif of_these == 0:
            total -= counted(reaching)
        else:
            total += 2 * counted(reaching & jnp.uint32((1 << of_these) - 1)) - counted(reaching)
    return total


def pack(bits: Array, words: int) -> Array:
    """Pack booleans (members, lanes) into (members, words)."""
    padded = jnp.pad(bits, ((0, 0), (0, words * BITS - bits.shape[1])))
    placed = padded.reshape(bits.shape[0], words, BITS).astype(jnp.uint32) << lax.iota(jnp.uint32, BITS)[None, None]
    return jnp.sum(placed, axis=-1, dtype=jnp.uint32)
