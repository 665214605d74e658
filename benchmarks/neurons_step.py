"""Time an environment step of other kinds of neurons against that of the plain one: one thread, one process.

They are those of integers, floats without recurrent connections, and floats with constants of their own for each
neuron: the plain one's, so that the same spikes cost what they cost, and with a refractory period of 2 ms. All have the
same connections otherwise, inputs and observations, and take turns; times are the thread's own, without those in which
other work has the core. The share of neurons that fire is part of what a step costs, so it is printed. Ratios are those
of the rounds.
"""

import time
from itertools import product

import numpy as np

import runner
from ecpolicy.networks import RSNN, IntegerRSNN
from ecpolicy.networks.layout import pack, unpack
from ecpolicy.random import fold_in, key_from_seed

OPTIONS = {"neurons": [64, 256, 1024], "population": 64, "rounds": 31}
SIZES = {"CartPole": (4, 2), "Hopper": (11, 3), "HalfCheetah": (17, 6)}
STEPS = 20  # in a round


class Side:
    """A population of one network on given connections and observations."""

    def __init__(self, network, connections, observations, outputs):
        self.network, self.connections, self.observations = network, connections, iter(observations)
        self.rows = np.arange(observations.shape[2])
        self.state = network.initial_state(fold_in(key_from_seed(0), self.rows), outputs)
        self.output = np.zeros((self.rows.size, outputs), np.float32)

    def steps(self):
        """Seconds of a step of one network, and the share of neurons that fire in the last substep."""
        seen = next(self.observations)
        start = time.thread_time()
        for x in seen:
            self.network.step(self.connections, self.state, x, self.output, owners=self.rows, rows=self.rows)
        seconds = (time.thread_time() - start) / len(seen) / self.rows.size
        return seconds, unpack(self.state.spikes, self.network.n_neurons).mean()


def rows(options):
    for neurons, (size, (obs_size, outputs)) in product(options.neurons, SIZES.items()):
        generator = np.random.default_rng(0)
        kinds = {
            "float": RSNN(neurons), "not recurrent": RSNN(neurons), "integer": IntegerRSNN(neurons),
            "own constants": RSNN(neurons, tau_m=[10.0] * neurons), "own, t_ref 2 ms": RSNN(neurons, t_ref=2.0),
        }  # fmt: skip
        dense = {
            n: generator.random((options.population, s.pre, s.post)) < 0.5
            for n, s in RSNN(neurons).shapes(obs_size, outputs).items()
        }
        dense["output"] = np.ascontiguousarray(dense["output"].swapaxes(1, 2))
        connections = {name: pack(part) for name, part in dense.items()}
        seen = generator.standard_normal((options.rounds + 1, STEPS, options.population, obs_size)).astype(np.float32)
        empty = connections | {"recurrent": np.zeros_like(connections["recurrent"])}
        sides = {
            name: Side(network, empty if name == "not recurrent" else connections, seen, outputs)
            for name, network in kinds.items()
        }
        for side in sides.values():
            side.steps()  # compiles, and brings the networks into their usual activity
        found = runner.in_turns({name: side.steps for name, side in sides.items()}, options.rounds)
        for name, figures in found.items():
            yield {
                "neurons": neurons, "size": size, "network": name, "us a step": 1e6 * np.median(figures[:, 0]),
                "us a substep": 1e6 * np.median(figures[:, 0]) / kinds[name].substeps,
                "fire": figures[:, 1].mean(), "over float": figures[:, 0] / found["float"][:, 0],
            }  # fmt: skip
