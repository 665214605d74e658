"""Train on a Brax environment for as long as there is time, go on from where the last run stopped, report x-velocity.

A long run in several pieces gives, bit for bit, what one piece would. After the last generation the deployed network
plays 16 episodes with ``predict``; on locomotion tasks the mean velocity stands beside the return, because standing
still also earns the reward for being alive (5,000 on Humanoid in the paper's units, 1,000 on Hopper and Walker2d).

    python benchmarks/studies/brax_run.py --env brax/humanoid --population 10240 --minutes 9 --checkpoint humanoid.ecp
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Checkpoint
from ecpolicy.environments import resolve
from ecpolicy.networks import RSNN


def velocity(policy, environment, episodes, steps):
    """Mean return, length and x-velocity (NaN where the environment has none) of episodes played with ``predict``."""
    reset, step = jax.jit(jax.vmap(environment.reset)), jax.jit(jax.vmap(environment.step))
    state, memory = reset(jax.random.split(jax.random.PRNGKey(1), episodes)), None
    live, returns, lengths, distance = np.ones(episodes, bool), *np.zeros((3, episodes))
    for _ in range(steps):
        action, memory = policy.predict(np.asarray(state.obs), memory)
        state = step(state, action)
        returns += live * np.asarray(state.reward)
        lengths += live
        distance += np.where(live, np.asarray(state.metrics.get("x_velocity", np.nan)), 0)
        live &= np.asarray(state.done) == 0
        if not live.any():
            break
    return returns.mean(), lengths.mean(), np.mean(distance / lengths)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="brax/humanoid")
    parser.add_argument("--population", type=int, default=10240)
    parser.add_argument("--neurons", type=int, default=256)
    parser.add_argument("--chunk-size", type=int)
    parser.add_argument("--horizon", type=int, default=1000)
    parser.add_argument("--generations", type=int, default=1000, help="in all, over all pieces")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=Path("brax_run.ecp"))
    arguments = parser.parse_args()
    end = time.perf_counter() + 60 * arguments.minutes
    if arguments.checkpoint.exists():
        policy = EvolvingConnectivityPolicy.load(arguments.checkpoint)
        policy.set_params(warm_start=True, n_generations=arguments.generations)
    else:
        policy = EvolvingConnectivityPolicy(
            network=RSNN(arguments.neurons),
            population_size=arguments.population,
            n_generations=arguments.generations,
            max_episode_steps=arguments.horizon,
            chunk_size=arguments.chunk_size,
            confirm_episodes=16,
            random_state=arguments.seed,
            verbose=1,
        )
    saving = Checkpoint(arguments.checkpoint, every=1)
    policy.fit(arguments.env, callbacks=[saving, lambda policy: time.perf_counter() > end])
    (environment,) = resolve(arguments.env).environments
    mean, length, speed = velocity(policy, environment, 16, arguments.horizon)
    print(
        f"generation {policy.n_generations_}, {policy.n_env_steps_:,} steps; deployed network (generation "
        f"{policy.deployed_generation_}): return {mean:.1f}, {length:.0f} steps, x-velocity {speed:.2f} m/s"
    )


if __name__ == "__main__":
    main()
