"""Time one environment step of a population: packed bits, in Numba and in XLA, against dense int8 and float32.

All sides run in this process (Numba: one thread per core over slices of the population; XLA: on its device, all cores
or a GPU), on the same connections and the same observations, after 100 environment steps of real activity, so that
denormals and firing rates are those of a rollout. Rounds alternate between the sides; the median and the best round
are reported. Bytes are those of a member's connections, and GB/s the rate at which they would be read if every substep
read them once. Where the device tells its peak memory, that is printed as well. On a GPU, a candidate that fuses all
substeps (fused.py) runs beside them.

What the packed kernel on the host costs depends on the size of the observation and on how many neurons fire. With
``--activity``, observations are scaled until about that share of the neurons spikes in a substep.

    python benchmarks/run.py network_step --neurons 256 --size HalfCheetah Humanoid --activity 0.05 0.14 0.28
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
# A population of 0 is what suits the size, an activity of 0 whatever it is; without Numba on an accelerator.
OPTIONS = {"neurons": list(POPULATIONS), "population": [0], "size": ["Hopper"], "activity": [0.0],
           "threads": os.cpu_count(), "no_numba": False, "rounds": 9}  # fmt: skip


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


def measure(neurons, members, task, activity, options):
    size, numba, rounds = SIZES[task], not options.no_numba, options.rounds
    network = RSNN(n_neurons=neurons)
    generator = np.random.default_rng(0)
    shapes = network.shapes(*size).values()
    dense = [generator.random((members, s.pre, s.post), dtype=np.float32) < 0.5 for s in shapes]
    v = generator.random((members, neurons), dtype=np.float32)
    weights = sum(s.pre * s.post for s in shapes)
    sides = {"Numba": Packed(network, size, dense, v, options.threads)} if numba else {}
    sides["XLA"] = XLA(network, size, dense, v)
    if jax.default_backend() == "gpu" and neurons & (neurons - 1) == 0:
        sides["fused"] = XLA(network, size, dense, v, fused.rsnn_step)
    for name, dtype in {"int8": jnp.int8, "float32": jnp.float32}.items():
        if weights * members * np.dtype(dtype).itemsize <= MEMORY:
            sides[name] = Dense(network, size, dense, v, dtype)
    warm_up = WARM_UP if weights * members < 1e8 or not numba else 20  # the dense sides take seconds a step there
    observations = generator.standard_normal((warm_up + rounds, members, size.observations)).astype(np.float32)
    if activity:
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
    memory = jax.devices()[0].memory_stats() or {}
    for layout, side in sides.items():
        own, median = times[layout], np.median(times[layout])
        yield {
            "device": jax.devices()[0].device_kind, "neurons": neurons, "size": task, "members": members,
            "threads": options.threads, "spike": rate, "layout": layout, "us/member": own,
            **{f"x {other}": median / np.median(times[other]) for other in ("Numba", "XLA") if other in times},
            "bytes/member": side.bytes_per_member, "GB/s": side.bytes_per_member * network.substeps / median / 1e3,
            "peak bytes": memory.get("peak_bytes_in_use"),
        }  # fmt: skip


def rows(options):
    for neurons, task, activity in product(options.neurons, options.size, options.activity):
        for members in options.population if any(options.population) else POPULATIONS.get(neurons, [256]):
            yield from measure(neurons, members, task, activity, options)
