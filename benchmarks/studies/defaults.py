"""Train on tasks that have no tuned settings with candidates for the defaults; a row of defaults.csv for each fit.

    python benchmarks/studies/defaults.py [--settings paper weak ...] [--tasks ...] [--seeds 0 1]
        [--results benchmarks/studies/results] [--print]

"first" is the mean return of the first population, "score" that of the deployed network over 50 episodes that training
never saw; "goal" is Gymnasium's reward threshold, where it has one. A row that is there is not made again.
"""

import argparse
import time
from pathlib import Path

import gymnasium as gym
import tables

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN

HERE = Path(__file__).parent
UNSEEN = 1_000_000  # first environment seed of the scored episodes
SETTINGS = {  # gains of the input, the recurrent connections and the readout; parameters
    "paper": (RSNN(), {}),
    "input 0.3": (RSNN(gain_in=0.3), {}),
    "input 1": (RSNN(gain_in=1.0), {}),
    "weak": (RSNN(gain_in=0.3, gain_recurrent=0.2), {}),
    "weak, input 1": (RSNN(gain_in=1.0, gain_recurrent=0.2), {}),
    "weak, readout 1": (RSNN(gain_in=0.3, gain_recurrent=0.2, gain_out=1.0), {}),
    "empty": (RSNN(gain_in=0.3), {"initial_probability": {"recurrent": 0.0}}),
    "many episodes": (RSNN(gain_in=0.3, gain_recurrent=0.2), {"episodes_per_member": 16}),
}
TASKS = {  # environment steps
    "CartPole-v1": 600_000,
    "Acrobot-v1": 600_000,
    "MountainCar-v0": 600_000,
    "MountainCarContinuous-v0": 1_000_000,
    "InvertedPendulum-v5": 500_000,
    "InvertedDoublePendulum-v5": 500_000,
    "Reacher-v5": 600_000,
    "Pusher-v5": 600_000,
    "Swimmer-v5": 1_000_000,
    "HumanoidStandup-v5": 500_000,
    "Taxi-v4": 600_000,
    "CliffWalking-v1": 300_000,
    "FrozenLake-v1": 300_000,
    "Blackjack-v1": 300_000,
    "LunarLander-v3": 600_000,
    "BipedalWalker-v3": 1_000_000,
    "Pendulum-v1": 1_000_000,
}


def row(task, name, seed, steps):
    network, parameters = SETTINGS[name]
    began = time.perf_counter()
    policy = EvolvingConnectivityPolicy(
        network=network,
        max_env_steps=steps,
        n_generations=10_000,
        max_episode_steps=200 if task == "CliffWalking-v1" else 1000,
        random_state=seed,
        **parameters,
    ).fit(task)
    returns = policy.episode_returns(task, n_episodes=50, seed=UNSEEN, max_episode_steps=1000)
    return {
        "env": task,
        "settings": name,
        "seed": seed,
        "n_env_steps": policy.n_env_steps_,
        "first": round(policy.history_[0]["return_mean"], 2),
        "population": round(policy.history_[-1]["return_mean"], 2),
        "score": round(float(returns.mean()), 2),
        "deviation": round(float(returns.std()), 2),
        "goal": gym.spec(task).reward_threshold,
        "seconds": round(time.perf_counter() - began, 1),
    }


def print_table(rows, settings, tasks):
    print(
        f"| task | goal | first population | {' | '.join(settings)} |\n| {' | '.join(['---'] * (3 + len(settings)))} |"
    )
    for task in tasks:
        found = [r for r in rows if r["env"] == task]
        cells = [", ".join(f"{r['score']:,.4g}" for r in found if r["settings"] == name) or "-" for name in settings]
        if found:
            goal = found[0].get("goal")
            print(f"| {task} | {'-' if goal is None else goal} | {found[0]['first']:,.4g} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, help="environment steps instead of each task's own")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--print", action="store_true", help="print the table, train nothing")
    arguments = parser.parse_args()
    path = arguments.results / "defaults.csv"
    if arguments.print:
        print_table(tables.read(path), arguments.settings, arguments.tasks)
        return
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for name in arguments.settings:
                rows = {(r["env"], r["settings"], r["seed"]): r for r in tables.read(path)}
                if (task, name, seed) not in rows:
                    rows[task, name, seed] = row(task, name, seed, arguments.steps or TASKS[task])
                    tables.write(path, [rows[key] for key in sorted(rows)])
                    print(rows[task, name, seed], flush=True)


if __name__ == "__main__":
    main()
