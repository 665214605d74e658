"""Train a robot with the settings that were found for it, and say how fast and how far it goes.

Kill it whenever you like and run the same command again: it goes on from its checkpoint. With --envpool (pip
install envpool), physics run in C++, and --n-jobs has no effect. HalfCheetah-v5 and Walker2d-v5 want --steps 20000000.

    python examples/locomotion.py [--env Hopper-v5] [--steps 10000000] [--n-jobs 2] [--envpool] [--output Hopper-v5.ecp]
"""

import argparse
import functools
from typing import Any

from ecpolicy import EvolvingConnectivityPolicy, best_start, tuned
from ecpolicy.callbacks import Checkpoint, StandingStill
from ecpolicy.tuned_settings import Tuned


def physics(robot: Tuned, population: int, envpool: bool) -> Any:
    """What to train on: Gymnasium's environment, or as many of EnvPool's as the population has members."""
    if not envpool:
        return robot.environment
    from envpool import make_gymnasium

    return functools.partial(
        make_gymnasium, robot.environment_id, num_envs=population, seed=0, **robot.environment_kwargs
    )


def main() -> None:
    """Train, or go on, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--steps", type=int, default=10_000_000, help="environment steps of the population")
    parser.add_argument("--population", type=int, help="by default what was found for the robot")
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--envpool", action="store_true")
    parser.add_argument("--output", help="checkpoint, by default named after the environment")
    arguments = parser.parse_args()

    robot = tuned(arguments.env)
    parameters = {"population_size": 256, **robot.parameters}
    if arguments.population is not None:
        parameters["population_size"] = arguments.population
    policy = EvolvingConnectivityPolicy(
        **parameters,
        max_env_steps=arguments.steps,
        n_generations=1_000_000,
        n_jobs=arguments.n_jobs,
        random_state=0,
        verbose=1,
    )
    checkpoint = Checkpoint(arguments.output or f"{arguments.env}.ecp", every=None, seconds=60)
    environment = physics(robot, parameters["population_size"], arguments.envpool)
    callbacks = [checkpoint, StandingStill()]
    best_start(policy, environment, **robot.starts, callbacks=callbacks, resume_from=checkpoint)

    episodes = policy.evaluate(arguments.env, n_episodes=20)  # the registered task, with the reward for not falling
    print(
        f"Return {episodes.returns.mean():.0f} ± {episodes.returns.std():.0f} over 20 fresh episodes of "
        f"{episodes.lengths.mean():.0f} steps: {episodes.x_velocities.mean():.2f} m/s, "
        f"{episodes.x_positions.mean():.1f} m."
    )


if __name__ == "__main__":
    main()
