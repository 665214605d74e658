"""Robots that see where their joints are but not how fast they move: what a network's memory is worth.

Three networks learn the same task: without recurrent connections, where only potentials remember, for 10 ms; with
them; and with synapses that are slow in part, so that recurrent currents tell of the last 5 to 100 ms.

    python examples/hidden_velocities.py [--task Hopper-v5] [--steps 300_000]
"""

import argparse
import functools

import gymnasium as gym
import numpy as np

from ecpolicy import EvolvingConnectivityPolicy, tuned
from ecpolicy.networks import RSNN


def positions_only(task, **kwargs):
    """A robot of Gymnasium (version 5) whose observations end before its velocities."""
    robot = gym.make(task, **kwargs)
    n = robot.unwrapped.observation_structure["qpos"]
    box = robot.observation_space
    return gym.wrappers.TransformObservation(
        robot, lambda observation: observation[:n], gym.spaces.Box(box.low[:n], box.high[:n], dtype=box.dtype)
    )


def time_constants(low, high, n_neurons=256, seed=0):
    """One for every neuron, in ms, drawn evenly in proportion."""
    return np.exp(np.random.default_rng(seed).uniform(np.log(low), np.log(high), n_neurons))


def networks():
    """By name: a network, and the probability of its connections at first."""
    drive = {"gain_in": 1.0, "gain_out": 1.0}
    return {
        "no recurrent connections": (RSNN(**drive), {"recurrent": 0.0}),
        "recurrent connections": (RSNN(gain_recurrent=0.5, **drive), 0.5),
        "slow synapses": (RSNN(gain_recurrent=0.5, tau_syn=time_constants(5, 100), **drive), 0.5),
    }


def main():
    """Train the networks, and print what they earn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="Hopper-v5")
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--population", type=int, default=64)
    arguments = parser.parse_args()
    training = functools.partial(positions_only, arguments.task, **tuned(arguments.task).environment_kwargs)
    for name, (network, probability) in networks().items():
        policy = EvolvingConnectivityPolicy(
            network=network,
            initial_probability=probability,
            population_size=arguments.population,
            learning_rate=0.6,
            max_env_steps=arguments.steps,
            n_generations=10_000,
            random_state=0,
        )
        policy.fit(training)
        returns = policy.episode_returns(functools.partial(positions_only, arguments.task), n_episodes=20, seed=1000)
        print(f"{arguments.task} without velocities, {name}: {returns.mean():.0f} ± {returns.std():.0f}")


if __name__ == "__main__":
    main()
