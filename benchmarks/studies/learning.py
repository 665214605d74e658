"""Train on the tasks of docs/results.md and docs/devices.md, several seeds each; print the deployed networks' scores.

Scores are over 100 fresh episodes, with seeds that training never saw. ``steps`` are those of the population;
``evaluation`` are those of the deployed network during the fit. The Brax tasks run only where they are named; robots in
MuJoCo are in ``benchmarks/studies/reproduce.py``.

    python benchmarks/studies/learning.py [--tasks cartpole acrobot ...] [--seeds 0 1 2] [--n-jobs 2]
"""

import argparse
import time

from ecpolicy import EvolvingConnectivityPolicy, tuned

PAPER = {"learning_rate": 0.15, "eps": 0.001}
TASKS = {
    "cartpole": ("CartPole-v1", {}),
    "acrobot": ("Acrobot-v1", {}),
    "inverted-pendulum": ("InvertedPendulum-v5", {}),
    "pendulum": ("Pendulum-v1", tuned("Pendulum-v1").parameters),
    "brax-inverted-pendulum": ("brax/inverted_pendulum", {**PAPER, "score_threshold": 900}),
    "brax-hopper": ("brax/hopper", {**PAPER, "population_size": 128, "max_episode_steps": 200, "n_generations": 15}),
    "brax-humanoid": (
        "brax/humanoid",
        {**PAPER, "population_size": 128, "max_episode_steps": 200, "n_generations": 15},
    ),
}
ON_DEVICE = [name for name in TASKS if name.startswith("brax-")]  # docs/devices.md; only where they are asked for
UNSEEN = 1_000_000  # first environment seed of the reported episodes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=sorted(set(TASKS) - set(ON_DEVICE)), choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--generations", type=int, help="generations instead of each task's own")
    arguments = parser.parse_args()
    for task in arguments.tasks:
        environment, parameters = TASKS[task]
        if arguments.generations:
            parameters = {**parameters, "n_generations": arguments.generations}
        for seed in arguments.seeds:
            began = time.perf_counter()
            policy = EvolvingConnectivityPolicy(random_state=seed, n_jobs=arguments.n_jobs, **parameters)
            policy.fit(environment)
            seconds = time.perf_counter() - began
            returns = policy.episode_returns(environment, n_episodes=100, seed=UNSEEN)
            record = policy.history_[-1]
            print(
                f"{environment} {parameters} seed {seed}: {returns.mean():.1f} ± {returns.std():.1f}; population "
                f"{policy.history_[0]['return_mean']:.1f} at first, {record['return_mean']:.1f} at last; "
                f"{policy.n_generations_} generations, "
                f"{policy.n_env_steps_:,} steps, {record['n_evaluation_steps']:,} evaluation, {seconds:.1f} s, "
                f"{policy.stop_reason_}",
                flush=True,
            )


if __name__ == "__main__":
    main()
