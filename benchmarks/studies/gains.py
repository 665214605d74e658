"""How strong inputs and recurrent connections should be: fits on robots and on tasks without tuned settings.

    python benchmarks/studies/gains.py [--settings paper weak ...] [--tasks ...] [--seeds 0 1]
        [--results benchmarks/studies/results] [--print]

Each fit is a row of gains.csv. "first" is the mean return of the first population on the environment that was trained
on, "score" that of the deployed network on the registered one, over 100 episodes that training never saw; "goal" is
Gymnasium's reward threshold, where it has one. A row that is there is not made again. Settings are all but the tuned
ones where none are named, as most tasks are not tuned.
"""

import argparse
import itertools
from pathlib import Path

import gymnasium as gym
import numpy as np
import tables

from ecpolicy import EvolvingConnectivityPolicy, tuned, with_integrator
from ecpolicy.networks import RSNN

HERE = Path(__file__).parent
UNSEEN = 1_000_000  # first environment seed of the scored episodes
EMPTY = {"initial_probability": {"recurrent": 0.0}}  # no recurrent connections
BOLD = {"population_size": 128, "learning_rate": 0.6}
FALL = {"learning_rate": [[0, 0.6], [1_000_000, 0.2]], "eps": [[0, 0.01], [1_000_000, 0.003]]}
FALL_LATER = {  # of HalfCheetah-v5
    "learning_rate": [[0, 0.6], [2_500_000, 0.15]],
    "eps": [[0, 0.01], [2_500_000, 0.002]],
    "max_episode_steps": [[0, 250], [3_500_000, 1000]],
    "score_threshold": None,
}


def fine(parameters=None, **network):
    """A fine readout, population 64, no recurrent connections; and what differs."""
    network = RSNN(**{"gain_in": 1.0, "gain_out": 1.0, **network})
    return network, EMPTY | BOLD | {"population_size": 64} | (parameters or {})


SETTINGS = {  # of the network, and parameters; the others are the defaults or, of robots, those of ROBOTS
    "paper": (RSNN(), {}),
    "weak": (RSNN(gain_in=0.3, gain_recurrent=0.2), {}),
    "weak, input 1": (RSNN(gain_in=1.0, gain_recurrent=0.2), {}),
    "weak, input 1, output 1": (RSNN(gain_in=1.0, gain_recurrent=0.2, gain_out=1.0), {}),
    "empty": (RSNN(gain_in=0.3), EMPTY),
    "empty, bold": (RSNN(gain_in=0.3), EMPTY | BOLD),
    "empty, bold, 64": (RSNN(gain_in=0.3), EMPTY | BOLD | {"population_size": 64}),
    "empty, bold, input 1": (RSNN(gain_in=1.0), EMPTY | BOLD),
    "empty, bold, input 1, 32": (RSNN(gain_in=1.0), EMPTY | BOLD | {"population_size": 32}),
    "empty, bold, input 3": (RSNN(gain_in=3.0), EMPTY | BOLD),
    "empty, bold, 512 neurons": (RSNN(512, gain_in=0.3), EMPTY | BOLD),
    "bold, input 1": (RSNN(gain_in=1.0), BOLD),
    "fine, 64": fine(),
    "fine, output 0.3": fine({"learning_rate": [[0, 0.6], [2_000_000, 0.15]]}, gain_out=0.3),
    "fine, output 0.5": fine(gain_out=0.5),
    "fine, output 2": fine(gain_out=2.0),
    "fine, input 0.5": fine(gain_in=0.5),
    "fine, input 2": fine(gain_in=2.0),
    "fine, 128 neurons": fine(n_neurons=128),
    "fine, 512 neurons": fine(n_neurons=512),
    "fine, tau_out 30": fine(tau_out=30.0),
    "fine, tau_m 5": fine(tau_m=5.0),
    "fine, 32": fine({"population_size": 32}),
    "fine, step 0.3": fine({"learning_rate": 0.3}),
    "fine, step 1.2": fine({"learning_rate": 1.2}),
    "fine, eps 0.03": fine({"eps": 0.03}),
    "fine, common episodes": fine({"common_episodes": True}),
    "fine, horizon 500": fine({"max_episode_steps": 500}),
    "fine, sparse inputs": fine({"initial_probability": {"recurrent": 0.0, "input": 0.2}}),
    "fine, bold to 1M": fine(FALL),  # of two million steps
    "fine, bold to 2.5M": fine(FALL_LATER),  # of five million steps
    "bold to 1M": fine(FALL, gain_out=5.0),
    "bold to 1M, 128": fine(FALL | {"population_size": 128}, gain_out=5.0),
    "bold to 1M, 32": fine(FALL | {"population_size": 32}, gain_out=5.0),
    "fine, 64, recurrent": (RSNN(gain_in=1.0, gain_recurrent=0.2, gain_out=1.0), BOLD | {"population_size": 64}),
    "weak, bold": (RSNN(gain_in=0.3, gain_recurrent=0.2), BOLD),
    "64 episodes": (RSNN(), {"episodes_per_member": 64}),
}
ROBOTS = {"HalfCheetah-v5": {"max_episode_steps": 250}, "Hopper-v5": {}, "Walker2d-v5": {}, "Ant-v5": {}}
TASKS = {  # environment steps
    "HalfCheetah-v5": 1_000_000,
    "Hopper-v5": 1_000_000,
    "Walker2d-v5": 1_000_000,
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
    "Ant-v5": 1_000_000,
}
TUNED = {  # whatever the library's table has: environment steps of the longer trainings
    "tuned": {"HalfCheetah-v5": 20_000_000, "Swimmer-v5": 2_000_000, "Ant-v5": 8_000_000},
    "tuned, further": {"Hopper-v5": 6_000_000},
    "tuned, Euler": {"Walker2d-v5": 16_000_000, "Ant-v5": 8_000_000},  # on physics that cost less
    "tuned, Euler at first": {"Walker2d-v5": 24_000_000},  # but for the last million
}


def fitted(task, name, seed, steps):
    """Robots learn as tuned, without the reward for not falling; CliffWalking-v1, which has no end, for 200 steps."""
    if name in TUNED:
        found = tuned(task)
        cheap = {"tuned, Euler": steps, "tuned, Euler at first": steps - min(1_000_000, steps // 4)}.get(name, 0)
        policy = EvolvingConnectivityPolicy(
            **found.parameters, n_generations=10_000, random_state=seed, score_threshold=None, warm_start=True
        )
        if cheap:
            policy.set_params(max_env_steps=cheap).fit(with_integrator(found.environment, "Euler"))
        if cheap < steps:
            policy.set_params(max_env_steps=steps).fit(found.environment)
        return policy
    network, parameters = SETTINGS[name]
    further = ROBOTS.get(task, {"max_episode_steps": 200} if task == "CliffWalking-v1" else {})
    policy = EvolvingConnectivityPolicy(
        network=network, max_env_steps=steps, n_generations=10_000, random_state=seed, **(further | parameters)
    )
    return policy.fit(tuned(task).environment if task in ROBOTS else task)


def row(policy, task, name, seed):
    found = policy.evaluate(task, n_episodes=100, seed=UNSEEN, max_episode_steps=1000)
    last = policy.history_[-1]
    measured = {
        "env": task,
        "settings": name,
        "seed": seed,
        "n_env_steps": policy.n_env_steps_,
        "n_evaluation_steps": last["n_evaluation_steps"],
        "first": round(policy.history_[0]["return_mean"], 2),
        "population": round(last["return_mean"], 2),
        "score": round(float(found.returns.mean()), 2),
        "deviation": round(float(found.returns.std()), 2),
        "length": round(float(found.lengths.mean()), 1),
        "goal": gym.spec(task).reward_threshold,
        "seconds": round(sum(record["seconds"] for record in policy.history_), 1),
    }
    if np.isfinite(found.x_velocities).all():
        measured["x_velocity"] = round(float(found.x_velocities.mean()), 2)
    return {key: value for key, value in measured.items() if value is not None}


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
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=[*SETTINGS, *TUNED])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, help="environment steps instead of each task's own")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--print", action="store_true", help="print the table, train nothing")
    arguments = parser.parse_args()
    path = arguments.results / "gains.csv"
    if arguments.print:
        print_table(tables.read(path), arguments.settings, arguments.tasks)
        return

    def make(task, name, seed):
        steps = TUNED.get(name, {}).get(task, TASKS[task])
        return row(fitted(task, name, seed, arguments.steps or steps), task, name, seed)

    keys = itertools.product(arguments.seeds, arguments.tasks, arguments.settings)
    for made in tables.completed(path, ((task, name, seed) for seed, task, name in keys), make):
        print(made, flush=True)


if __name__ == "__main__":
    main()
