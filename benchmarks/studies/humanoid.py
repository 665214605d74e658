"""Humanoid-v5 over a hundred million steps of one core: large populations, small steps, cheap physics.

    python benchmarks/studies/humanoid.py [--steps 100_000_000] [--checkpoint humanoid.checkpoint]
        [--results benchmarks/studies/results]
    python benchmarks/studies/humanoid.py --print

Trains with two Euler steps of 7.5 ms within a step, 45 of the 348 observations and no reward for not falling; a
training that was interrupted goes on from its checkpoint. ``humanoid.csv`` has every tenth generation,
``humanoid.ecp`` the deployed network. Printed are episodes that training never saw, in the physics it was trained in
and in the registered ones.
"""

import argparse
from functools import partial
from pathlib import Path

import gymnasium as gym
import tables

import ecpolicy
from ecpolicy import EvolvingConnectivityPolicy, with_integrator
from ecpolicy.callbacks import Checkpoint, Progress
from ecpolicy.networks import RSNN

UNSEEN = 2_000_000  # first environment seed of the episodes
POSTURE = {  # positions and velocities of the joints: 45 observations
    f"include_{part}_in_observation": False for part in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
}
FORWARD = {"healthy_reward": 0.0, "contact_cost_weight": 0.0}
KEPT = (
    "generation", "n_env_steps", "return_mean", "return_max", "episode_length", "deployed_return", "deployed_length",
    "flips",
)  # fmt: skip
EVERY = 10  # generations between two rows


def trained_on():
    return with_integrator("Humanoid-v5", "Euler", substeps=2, **FORWARD, **POSTURE)


def policy_of(steps):
    return EvolvingConnectivityPolicy(
        network=RSNN(dt=1.0, gain_in=1.0, gain_out=1.0),
        population_size=1024,
        initial_probability={"recurrent": 0.0},
        learning_rate=[[0, 0.3], [12_700_000, 0.1], [30_000_000, 0.05], [70_000_000, 0.02]],
        eps=[[0, 0.01], [12_700_000, 0.003]],
        eval_episodes=1,
        confirm_episodes=8,
        max_episode_steps=1000,
        n_generations=10**6,
        max_env_steps=steps,
        random_state=0,
        score_threshold=None,
    )


def rows_of(history):
    """Every tenth generation and the last."""
    chosen = [*history[::EVERY], *(history[-1:] if (len(history) - 1) % EVERY else [])]
    return [{name: round(record[name], 1) for name in KEPT} for record in chosen]


def print_episodes(policy, episodes):
    for name, environment in (
        ("as it was trained", trained_on()),
        ("as registered", partial(gym.make, "Humanoid-v5", **POSTURE)),
    ):
        found = policy.evaluate(environment, n_episodes=episodes, seed=UNSEEN)
        print(
            f"{name}: {found.returns.mean():,.0f} ± {found.returns.std():,.0f}, {found.x_velocities.mean():.2f} m/s, "
            f"{found.lengths.mean():.0f} steps (at most {found.lengths.max()})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000_000, help="environment steps")
    parser.add_argument("--checkpoint", type=Path, default=Path("humanoid.checkpoint"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--print", action="store_true", help="play the network in the results, train nothing")
    arguments = parser.parse_args()
    path = arguments.results / "humanoid.ecp"
    if not arguments.print:
        policy, saves = policy_of(arguments.steps), Checkpoint(arguments.checkpoint, every=None, seconds=300)
        policy.fit(trained_on(), callbacks=[saves, Progress()], resume_from=saves)
        tables.write(arguments.results / "humanoid.csv", rows_of(policy.history_))
        policy.save(path, training_state=False)
    print_episodes(ecpolicy.load(path), arguments.episodes)


if __name__ == "__main__":
    main()
