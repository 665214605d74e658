"""What it costs to keep the best network of a training, and how good it is, against playing every confirmation in full.

``collect`` trains with the tuned settings of a task and plays many episodes of every generation's deployed network.
``replay`` lets the rule of the library decide on returns drawn from these, and the rule that plays all
``confirm_episodes`` of every candidate; many times, as both depend on luck. It prints the share of the deployed
networks' steps in the population's, and the true return (the mean over all that was collected) of the network that is
kept in the end, with the standard error over replays.

    python benchmarks/studies/judging.py collect HalfCheetah-v5 --steps 3000000 returns.npz
    python benchmarks/studies/judging.py replay returns.npz
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from ecpolicy import EvolvingConnectivityPolicy, tuned
from ecpolicy.fitting.judge import SHARE, Judge
from ecpolicy.normalization import Moments
from ecpolicy.rollout.episodes import Networks
from ecpolicy.rollout.outcome import Outcome

EVAL_EPISODES = 4


def collect(arguments):
    task, returns, steps, lengths = tuned(arguments.task), [], [], []

    def note(view):
        played = view.evaluate(task.environment, n_episodes=arguments.episodes)
        returns.append(played.returns[:, 0])
        lengths.append(played.lengths.mean())
        steps.append(view.n_env_steps_)
        np.savez(path, returns=returns, n_env_steps=steps, lengths=lengths)

    path = Path(arguments.path).resolve()
    settings = task.parameters | {
        "eval_episodes": 1,
        "confirm_episodes": 1,
        "keep_best": False,
        "score_threshold": None,
    }
    os.chdir(tempfile.mkdtemp())  # where MuJoCo may write its log
    EvolvingConnectivityPolicy(
        **settings, max_env_steps=arguments.steps, n_generations=10**6, random_state=arguments.seed, n_jobs=2
    ).fit(task.environment, callbacks=note)


def answered(play, fitness, length, generator):
    """What a Play comes to where its episodes have returns drawn from these."""
    outcome = None
    while True:
        try:
            table = next(play) if outcome is None else play.send(outcome)
        except StopIteration as end:
            return end.value
        returns = generator.choice(fitness, (table.members, 1))
        lengths = np.full(returns.shape, round(length), np.int64)
        outcome = Outcome(returns, lengths, Moments.empty(1), np.full((*returns.shape, 2), np.nan))


def replay_once(data, confirm_episodes, full, generator):
    """Steps of the deployed networks over the population's, and the true return of the network kept in the end."""
    judge = Judge(0, (np.inf,), threshold=None, eval_episodes=EVAL_EPISODES, confirm_episodes=confirm_episodes)
    best, kept, n_evaluation_steps = -np.inf, 0, 0
    for generation, (fitness, length, n_env_steps) in enumerate(
        zip(data["returns"], data["lengths"], data["n_env_steps"], strict=True)
    ):
        if full:
            screened = generator.choice(fitness, EVAL_EPISODES).mean()
            n_evaluation_steps += EVAL_EPISODES * length
            low = -np.inf
            if screened > best:
                n_evaluation_steps += confirm_episodes * length
                low = generator.choice(fitness, confirm_episodes).mean()
        else:
            allowance = SHARE * n_env_steps - n_evaluation_steps
            verdict = answered(
                judge.assess(Networks(None, None), generation, best, allowance), fitness, length, generator
            )
            n_evaluation_steps, low = n_evaluation_steps + verdict.n_steps, verdict.confirmed.low
        if low > best:
            best, kept = low, generation
    return n_evaluation_steps / data["n_env_steps"][-1], data["returns"][kept].mean()


def replay(arguments):
    print("| returns | confirm_episodes | rule | share of the steps | return of the network kept |")
    print("| --- | --- | --- | --- | --- |")
    for path in arguments.path:
        data = np.load(path)
        for confirm_episodes in (20, 100):
            for full in (True, False):
                generator = np.random.default_rng(0)
                found = np.array(
                    [replay_once(data, confirm_episodes, full, generator) for _ in range(arguments.replays)]
                )
                error = found[:, 1].std() / np.sqrt(arguments.replays)
                rule = "all episodes" if full else "sequential"
                print(
                    f"| {Path(path).stem} | {confirm_episodes} | {rule} | {found[:, 0].mean():.2f} | "
                    f"{found[:, 1].mean():.0f} ± {error:.0f} |",
                    flush=True,
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(required=True)
    collecting = what.add_parser("collect")
    collecting.add_argument("task")
    collecting.add_argument("path")
    collecting.add_argument("--steps", type=int, default=3_000_000)
    collecting.add_argument("--episodes", type=int, default=60)
    collecting.add_argument("--seed", type=int, default=0)
    collecting.set_defaults(run=collect)
    replaying = what.add_parser("replay")
    replaying.add_argument("path", nargs="+")
    replaying.add_argument("--replays", type=int, default=200)
    replaying.set_defaults(run=replay)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
