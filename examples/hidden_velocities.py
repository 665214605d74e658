"""Robots that see where their joints are but not how fast they move: what a network's memory is worth.

Networks without and with recurrent connections learn the same task. The potentials and currents of spiking neurons
remember some of the past even without them.

    python examples/hidden_velocities.py [--task Hopper-v5] [--steps 300_000]
"""

import argparse
import functools

import gymnasium as gym

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


def main():
    """Train both networks, and print what they earn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="Hopper-v5")
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--population", type=int, default=128)
    arguments = parser.parse_args()
    training = functools.partial(positions_only, arguments.task, **tuned(arguments.task).environment_kwargs)
    for name, probability in ("no recurrent connections", {"recurrent": 0.0}), ("recurrent connections", 0.5):
        policy = EvolvingConnectivityPolicy(
            network=RSNN(gain_in=1.0, gain_recurrent=0.2),
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
