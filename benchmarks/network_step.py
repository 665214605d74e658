"""Time one environment step of a population: packed bits, in Numba and in XLA, against dense int8 and float32.

All sides run in this process (Numba: one thread per core over slices of the population; XLA: on its device, all cores
or a GPU), on the same connections and the same observations, after 100 environment steps of real activity, so that
denormals and firing rates are those of a rollout. Rounds alternate between the sides; the median and the best round
are reported. Bytes are those of a member's connections, and GB/s the rate at which they would be read if every substep
read them once. Where the device tells its peak memory, that is printed as well. On a GPU, a candidate that fuses all
substeps (fused.py) runs beside them.

What the packed kernel on the host costs depends on the size of the observation and on how many neurons fire. With
``--activity``, observations are scaled until about that share of the neurons spikes in a substep.

    python benchmarks/network_step.py [--neurons 64 256 1024 4096] [--population 256] [--rounds 7] [--no-numba]
    python benchmarks/network_step.py --neurons 256 --size HalfCheetah Humanoid --activity 0.05 0.14 0.28
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fused
import rivals
import runner
from ecpolicy.networks import RSNN
from ecpolicy.networks.layout import pack
from ecpolicy.networks.xla import bits as device
from ecpolicy.random import fold_in, key_from_seed


class Size(NamedTuple):
    """What an environment shows and takes."""

    observations: int
    outputs: int


SIZES = {"Hopper": Size(11, 3), "HalfCheetah": Size(17, 6), "Humanoid": Size(348, 17)}
WARM_UP, SEARCH = 100, 8  # environment steps before those that are timed, and to find the scale of observations
POPULATIONS = {64: [256, 4096], 256: [256, 4096], 1024: [64], 4096: [8]}
MEMORY = 12 << 30  # bytes that a rival's connections may take


class Packed:
    """The library's kernel on slices of the population, one thread per slice."""

    def __init__(self, network, size, dense, v, threads):
        members = v.shape[0]
        k_out = np.ascontiguousarray(dense[2].swapaxes(1, 2))
        self.connections = {"input": pack(dense[0]), "recurrent": pack(dense[1]), "output": pack(k_out)}
        self.state = network.initial_state(fold_in(key_from_seed(0), np.arange(members)), size.outputs)
        self.state.v[:, : v.shape[1]] = v
        self.network, self.output = network, np.zeros((members, size.outputs), np.float32)
        self.owners = np.arange(members)
        self.slices = np.array_split(self.owners, threads)
        self.pool = ThreadPoolExecutor(threads)
        self.bytes_per_member = sum(part.nbytes for part in self.connections.values()) // members

    def step(self, x):
        def one(rows):
            self.network.step(self.connections, self.state, x, self.output, owners=self.owners, rows=rows)

        list(self.pool.map(one, self.slices))
        return self.output


class XLA:
    """The library's kernel in XLA, or the candidate that fuses all substeps."""

    def __init__(self, network, size, dense, v, rsnn_step=device.rsnn_step):
        members, neurons = v.shape
        k_out = np.ascontiguousarray(dense[2].swapaxes(1, 2))
        k_in, k_h, k_out = (jnp.asarray(device.halves(pack(part))) for part in (dense[0], dense[1], k_out))
        self.connections = k_in, jax.jit(device.transpose_bits, static_argnums=1)(k_h, neurons), k_out
        self.state = device.State(
            jnp.asarray(v),
            jnp.zeros((members, neurons)),
            jnp.zeros((members, k_in.shape[2]), jnp.uint32),
            jnp.zeros((members, size.outputs)),
        )
        self.run = jax.jit(
            partial(
                rsnn_step,
                n_excitatory=network.n_excitatory,
                substeps=network.substeps,
                constants=network.constants(size.observations),
            )
        )
        self.bytes_per_member = sum(part.nbytes for part in self.connections) // members

    def step(self, x):
        self.state, output = self.run(self.connections, self.state, x, np.uint32(0))
        return jax.block_until_ready(output)


class Dense:
    """A rival: one member per row of dense matrices."""

    def __init__(self, network, size, dense, v, dtype):
        self.run = rivals.population_step(network, size.observations, dtype)
        self.connections = tuple(jnp.asarray(part, dtype=dtype) for part in dense)
        self.state = rivals.initial_state(v, dtype)
        self.bytes_per_member = sum(part.nbytes for part in self.connections) // v.shape[0]

    def step(self, x):
        self.state, output = self.run(self.connections, self.state, x)
        return jax.block_until_ready(output)


def scale_for(activity, network, size, dense, v):
    """The scale of observations at which about this share of the neurons spikes, by bisection on a few members."""
    some, few = [part[:8] for part in dense], v[:8]
    observations = np.random.default_rng(1).standard_normal((SEARCH, len(few), size.observations)).astype(np.float32)
    low, high = 1e-3, 1e4
    for _ in range(16):
        scale, spikes = np.sqrt(low * high), 0
        side = Packed(network, size, some, few, 1)
        for x in observations:
            side.step(x * np.float32(scale))
            spikes += np.bitwise_count(side.state.spikes).sum()
        low, high = (scale, high) if spikes < activity * few.size * SEARCH else (low, scale)
    return np.float32(scale)


def measure(neurons, members, size, activity, rounds, threads, numba):
    network = RSNN(n_neurons=neurons)
    generator = np.random.default_rng(0)
    shapes = network.shapes(*size).values()
    dense = [generator.random((members, s.pre, s.post), dtype=np.float32) < 0.5 for s in shapes]
    v = generator.random((members, neurons), dtype=np.float32)
    weights = sum(s.pre * s.post for s in shapes)
    sides = {"Numba": Packed(network, size, dense, v, threads)} if numba else {}
    sides["XLA"] = XLA(network, size, dense, v)
    if jax.default_backend() == "gpu" and neurons & (neurons - 1) == 0:
        sides["fused"] = XLA(network, size, dense, v, fused.rsnn_step)
    for name, dtype in {"int8": jnp.int8, "float32": jnp.float32}.items():
        if weights * members * np.dtype(dtype).itemsize <= MEMORY:
            sides[name] = Dense(network, size, dense, v, dtype)
    warm_up = WARM_UP if weights * members < 1e8 or not numba else 20  # the dense sides take seconds a step there
    observations = generator.standard_normal((warm_up + rounds, members, size.observations)).astype(np.float32)
    if activity is not None:
        observations *= scale_for(activity, network, size, dense, v)
    for x in observations[:warm_up]:
        outputs = {name: np.array(side.step(x)) for name, side in sides.items()}
    seen = {name: iter(observations[warm_up:]) for name in sides}

    def timed(name):
        return runner.seconds(sides[name].step, next(seen[name]))[0] / members * 1e6

    times = runner.in_turns({name: partial(timed, name) for name in sides}, rounds)
    assert np.abs(outputs["XLA"]).mean() > 0
    for name in {"Numba", "fused"} & set(sides):
        assert np.array_equal(outputs["XLA"], outputs[name])  # bit for bit, after all the warm-up steps
    rate = np.bitwise_count(np.asarray(sides["XLA"].state.spikes)).sum() / members / neurons
    kind = jax.devices()[0].device_kind
    print(
        f"\n{neurons} neurons, {size.observations} observations, {size.outputs} outputs, population {members}, "
        f"{threads} threads, {kind}, after {warm_up} steps; {rate:.1%} spike"
    )
    print(
        f"{'layout':>8} {'µs/member median':>17} {'best':>9} {'× Numba':>9} {'× XLA':>9} {'bytes/member':>13} "
        f"{'GB/s':>7}"
    )
    base = {name: np.median(times[name]) for name in ("Numba", "XLA") if name in times}
    for name, side in sides.items():
        median, best = np.median(times[name]), np.min(times[name])
        ratios = [f"{median / base[other]:9.2f}" if other in base else f"{'':>9}" for other in ("Numba", "XLA")]
        bandwidth = side.bytes_per_member * network.substeps / median / 1e3
        print(f"{name:>8} {median:17.3f} {best:9.3f} {' '.join(ratios)} {side.bytes_per_member:13,} {bandwidth:7.1f}")
    memory = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in memory:
        print(f"peak device memory of all layouts together: {memory['peak_bytes_in_use'] / 2**30:.2f} GiB")


def main():
    parser = runner.parser(__doc__, rounds=9)
    parser.add_argument("--neurons", type=int, nargs="+", default=list(POPULATIONS))
    parser.add_argument("--population", type=int, nargs="+", help="default: what suits each size")
    parser.add_argument("--size", choices=SIZES, nargs="+", default=["Hopper"])
    parser.add_argument("--activity", type=float, nargs="+", default=[None], help="default: whatever it is")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-numba", action="store_true", help="on an accelerator: leave the host's kernel out")
    arguments = parser.parse_args()
    for neurons, name, activity in product(arguments.neurons, arguments.size, arguments.activity):
        for members in arguments.population or POPULATIONS.get(neurons, [256]):
            measure(
                neurons, members, SIZES[name], activity, arguments.rounds, arguments.threads, not arguments.no_numba
            )


if __name__ == "__main__":
    main()
