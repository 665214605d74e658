"""Time one environment step of a population: packed bits in Numba against dense int8 and float32 in JAX.

All sides run in this process on all cores (Numba: one thread per core over slices of the population), on the same
connections and the same observations, after 100 environment steps of real activity, so that denormals and firing rates
are those of a rollout. Rounds alternate between the sides; the median and the best round are reported.

    python benchmarks/network_step.py [--neurons 64 256 1024 4096] [--rounds 7]
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

import rivals
from ecpolicy.kernels.layout import pack
from ecpolicy.networks import RSNN
from ecpolicy.random import fold_in, key_from_seed

OBS_SIZE, OUTPUTS, WARM_UP = 11, 3, 100  # Hopper's sizes
POPULATIONS = {64: [256, 4096], 256: [256, 4096], 1024: [64], 4096: [8]}
MEMORY = 12 << 30  # bytes that a rival's connections may take


class Packed:
    """The library's kernel on slices of the population, one thread per slice."""

    def __init__(self, network, dense, v, threads):
        members = v.shape[0]
        k_out = np.ascontiguousarray(dense[2].swapaxes(1, 2))
        self.connections = {"input": pack(dense[0]), "recurrent": pack(dense[1]), "output": pack(k_out)}
        self.state = network.initial_state(fold_in(key_from_seed(0), np.arange(members)), OUTPUTS)
        self.state.v[:, : v.shape[1]] = v
        self.network, self.output = network, np.zeros((members, OUTPUTS), np.float32)
        self.owners = np.arange(members)
        self.slices = np.array_split(self.owners, threads)
        self.pool = ThreadPoolExecutor(threads)
        self.bytes_per_member = sum(part.nbytes for part in self.connections.values()) // members

    def step(self, x):
        def one(rows):
            self.network.step(self.connections, self.state, x, self.output, owners=self.owners, rows=rows)

        list(self.pool.map(one, self.slices))
        return self.output

    def rate(self, neurons):
        return np.bitwise_count(self.state.spikes).sum() / self.state.v.shape[0] / neurons


class Dense:
    """A rival: one member per row of dense matrices."""

    def __init__(self, network, dense, v, dtype):
        self.run = rivals.population_step(network, OBS_SIZE, dtype)
        self.connections = tuple(jnp.asarray(part, dtype=dtype) for part in dense)
        self.state = rivals.initial_state(v, dtype)
        self.bytes_per_member = sum(part.nbytes for part in self.connections) // v.shape[0]

    def step(self, x):
        self.state, output = self.run(self.connections, self.state, x)
        return jax.block_until_ready(output)


def measure(neurons, members, rounds, threads):
    network = RSNN(n_neurons=neurons)
    generator = np.random.default_rng(0)
    shapes = network.shapes(OBS_SIZE, OUTPUTS).values()
    dense = [generator.random((members, s.pre, s.post), dtype=np.float32) < 0.5 for s in shapes]
    v = generator.random((members, neurons), dtype=np.float32)
    weights = sum(s.pre * s.post for s in shapes)
    sides = {"packed": Packed(network, dense, v, threads)}
    for name, dtype in {"int8": jnp.int8, "float32": jnp.float32}.items():
        if weights * members * np.dtype(dtype).itemsize <= MEMORY:
            sides[name] = Dense(network, dense, v, dtype)
    observations = generator.standard_normal((WARM_UP + rounds, members, OBS_SIZE)).astype(np.float32)
    warm_up = WARM_UP if weights * members < 1e8 else 20  # the dense sides take seconds a step there
    times = {name: [] for name in sides}
    for x in observations[:warm_up]:
        outputs = {name: side.step(x) for name, side in sides.items()}
    for x in observations[WARM_UP:]:
        for name, side in sides.items():
            began = time.perf_counter()
            side.step(x)
            times[name].append((time.perf_counter() - began) / members * 1e6)
    first = np.abs(np.asarray(outputs["packed"])).mean()
    rate = sides["packed"].rate(neurons)
    print(f"\n{neurons} neurons, population {members}, {threads} threads, after {warm_up} steps; {rate:.1%} spike")
    print(f"{'layout':>8} {'µs/member median':>17} {'best':>9} {'× median':>9} {'× best':>8} {'bytes/member':>13}")
    for name, side in sides.items():
        median, best = np.median(times[name]), np.min(times[name])
        print(
            f"{name:>8} {median:17.2f} {best:9.2f} {median / np.median(times['packed']):9.1f} "
            f"{best / np.min(times['packed']):8.1f} {side.bytes_per_member:13,}"
        )
    assert first > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, nargs="+", default=list(POPULATIONS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    for neurons in arguments.neurons:
        for members in POPULATIONS.get(neurons, [256]):
            measure(neurons, members, arguments.rounds, arguments.threads)


if __name__ == "__main__":
    main()
