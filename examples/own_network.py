"""Evolve a network of your own: a feed-forward one with binary weights and binary units, on CartPole-v1.

python examples/own_network.py
"""

import argparse
from dataclasses import dataclass

import numpy as np

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import Shape
from ecpolicy.networks.layout import unpack


@dataclass(frozen=True)
class BinaryPerceptron:
    """Hidden units are 1 where their inputs add up to more than zero, else -1; outputs add up their hidden units."""

    n_hidden: int = 64

    def shapes(self, obs_size, n_outputs):
        return {"hidden": Shape(2 * obs_size, self.n_hidden), "output": Shape(self.n_hidden, n_outputs)}

    def initial_state(self, keys, n_outputs):
        return ()  # it remembers nothing

    def step(self, connections, state, x, output, *, owners, rows):
        hidden, to_output = (connections[name][owners[rows]] for name in ("hidden", "output"))
        x = np.concatenate([x[rows], -x[rows]], axis=1)
        active = np.einsum("ri,rih->rh", x, unpack(hidden, self.n_hidden)) > 0
        output[rows] = np.einsum("rh,rho->ro", 2.0 * active - 1.0, unpack(to_output, output.shape[1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--population", type=int, default=256)
    arguments = parser.parse_args()
    policy = EvolvingConnectivityPolicy(
        network=BinaryPerceptron(), n_generations=arguments.generations, population_size=arguments.population,
        random_state=0, verbose=1,
    ).fit("CartPole-v1")  # fmt: skip
    print(f"mean return {policy.score('CartPole-v1', n_episodes=100):.1f} over 100 fresh episodes")
