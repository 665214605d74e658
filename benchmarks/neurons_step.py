"""Time an environment step of other kinds of neurons against that of the plain one: one thread, one process.

They are those of integers, and floats with constants of their own for each neuron: the plain one's, so that the same
spikes cost what they cost, and with a refractory period of 2 ms. All have the same connections, inputs and
observations; rounds alternate, and the best of each is reported, as other work on the machine only adds. The share of
neurons that fire is part of what a step costs, so it is printed, as is the time of a substep.
"""

import time
from itertools import product

import numpy as np

from ecpolicy.networks import RSNN, IntegerRSNN
from ecpolicy.networks.layout import pack, unpack
from ecpolicy.random import fold_in, key_from_seed

OPTIONS = {"neurons": [64, 256, 1024], "population": 64, "rounds": 9}
SIZES = {"CartPole": (4, 2), "Hopper": (11, 3), "HalfCheetah": (17, 6)}


class Side:
    """A population of one network on given connections."""

    def __init__(self, network, connections, members, outputs):
        self.network, self.connections = network, connections
        self.state = network.initial_state(fold_in(key_from_seed(0), np.arange(members)), outputs)
        self.output, self.rows = np.zeros((members, outputs), np.float32), np.arange(members)

    def steps(self, observations):
        """Seconds of a step of one network, and the share of neurons that fire in the last substep."""
        start = time.perf_counter()
        for x in observations:
            self.network.step(self.connections, self.state, x, self.output, owners=self.rows, rows=self.rows)
        seconds = (time.perf_counter() - start) / len(observations) / self.rows.size
        return seconds, unpack(self.state.spikes, self.network.n_neurons).mean()


def measure(neurons, size, population, rounds):
    """Least seconds and mean activity of the networks."""
    generator = np.random.default_rng(0)
    obs_size, outputs = SIZES[size]
    kinds = {
        "float": RSNN(neurons), "integer": IntegerRSNN(neurons), "own constants": RSNN(neurons, tau_m=[10.0] * neurons),
        "own, t_ref 2 ms": RSNN(neurons, t_ref=2.0),
    }  # fmt: skip
    dense = {
        n: generator.random((population, s.pre, s.post)) < 0.5
        for n, s in RSNN(neurons).shapes(obs_size, outputs).items()
    }
    dense["output"] = np.ascontiguousarray(dense["output"].swapaxes(1, 2))
    connections = {name: pack(part) for name, part in dense.items()}
    sides = {name: Side(network, connections, population, outputs) for name, network in kinds.items()}
    found = {name: [] for name in sides}
    for number in range(rounds + 1):
        x = generator.standard_normal((20, population, obs_size)).astype(np.float32)
        for name, side in sides.items():
            result = side.steps(x)
            if number:  # the first compiles, and brings the networks into their usual activity
                found[name].append(result)
    return {
        name: (np.min(part, axis=0)[0], np.mean(part, axis=0)[1], kinds[name].substeps) for name, part in found.items()
    }


def rows(options):
    for neurons, size in product(options.neurons, SIZES):
        found = measure(neurons, size, options.population, options.rounds)
        for name, (seconds, share, substeps) in found.items():
            yield {"neurons": neurons, "size": size, "network": name, "us a step": 1e6 * seconds,
                   "us a substep": 1e6 * seconds / substeps, "fire": share,
                   "over float": seconds / found["float"][0]}  # fmt: skip
