"""Bring your own simulator: whatever gives the members' returns will do (what others call ask and tell).

Here every member steers a boat on a line to its buoy and stops there; all boats are one NumPy array.

    python examples/own_simulator.py [generations]
"""

import sys

import numpy as np

from ecpolicy.distributions import Bernoulli
from ecpolicy.evolution import State, generation
from ecpolicy.fitness_shaping import centered_ranks
from ecpolicy.networks import RSNN
from ecpolicy.optimizers import adam
from ecpolicy.random import Stream, fold_in, key_from_seed, uniform
from ecpolicy.rollout.outcome import Outcome

OBSERVATIONS, OUTPUTS, MEMBERS = 2, 1, 64
network = RSNN(n_neurons=64, gain_in=0.5)
connections, optimizer = Bernoulli(network.shapes(OBSERVATIONS, OUTPUTS), eps=0.01), adam(0.3)


def evaluate(rho, moments, keys):
    """Draw the members with these keys, sail, and tell what they are worth."""
    members, boats = connections.sample(rho, keys), np.arange(len(keys))
    state = network.initial_state(fold_in(keys, Stream.MEMBRANE), OUTPUTS)
    way, speed = 4 * uniform(fold_in(keys, Stream.ENVIRONMENT), 1)[:, 0] - 2, np.zeros(len(keys), np.float32)
    thrust, returns = np.empty((len(keys), OUTPUTS), np.float32), np.zeros(len(keys))
    for _ in range(60):
        observations = np.stack([way, speed], axis=1).astype(np.float32)
        network.step(members, state, observations, thrust, owners=boats, rows=boats)
        speed = 0.95 * speed + 0.1 * np.clip(thrust[:, 0], -1, 1)
        way = way - 0.1 * speed
        returns -= np.abs(way)
    return Outcome.of(returns)


def main(generations=20):
    """Print how far boats are from their buoys, on average."""
    state = State.start(connections, optimizer)
    for _ in range(generations):
        state, outcome = generation(
            state, key=key_from_seed(0), population_size=MEMBERS, evaluate=evaluate, distribution=connections,
            fitness_shaping=centered_ranks, optimizer=optimizer,
        )  # fmt: skip
        print(f"generation {state.generation:3} | mean distance {-outcome.fitness.mean() / 60:.3f}")
    return connections.mode(state.parameters)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
