"""Sweep surrogates and their steepness, as in the paper's figure 4 but small: surrogate-gradient PPO on an environment.

For every surrogate and beta: the deployed network's mean return over fresh episodes with seeds that training never saw,
mean ± standard deviation over training seeds. Every run takes the same number of environment steps, unless
``--stop-when-solved`` lets it end at the environment's reward threshold, or it diverges (steep surrogates let gradients
through hundreds of substeps grow without bound) and keeps its best network so far; the table has the steps taken.

    python benchmarks/studies/surrogates.py [--env CartPole-v1] [--surrogates superspike ...] [--betas 5 10 20]
        [--seeds 0 1 2] [--steps 20000] [--stop-when-solved] [--set name=value ...] [--table FILE]
"""

import argparse
import ast
import time
from pathlib import Path

import numpy as np
import tables

from ecpolicy import SurrogateGradientPPOPolicy
from ecpolicy.policies.parameters import SURROGATES

UNSEEN = 1_000_000  # first environment seed of the reported episodes


def setting(text):
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--surrogates", nargs="+", default=list(SURROGATES), choices=SURROGATES)
    parser.add_argument("--betas", type=float, nargs="+", default=[5.0, 10.0, 20.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps of each run, at most")
    parser.add_argument("--episodes", type=int, default=100, help="episodes of each reported return")
    parser.add_argument("--table", type=Path, help="CSV file for the returns, drawn by reproduce_figures.py")
    parser.add_argument("--stop-when-solved", action="store_true")
    parser.add_argument("--set", type=setting, nargs="+", default=[], metavar="NAME=VALUE", help="further parameters")
    arguments = parser.parse_args()
    settings = {
        "env": arguments.env, "steps": arguments.steps, "seeds": arguments.seeds, "parameters": dict(arguments.set)
    }  # fmt: skip
    rows = []
    print(f"{arguments.env}, at most {arguments.steps:,} steps, seeds {arguments.seeds}", flush=True)
    print(f"{'surrogate':<17} {'beta':>5} | {'deployed return':>19} | {'steps':>9} | {'s per run':>9}", flush=True)
    for surrogate in arguments.surrogates:
        for beta in arguments.betas:
            scores, steps, seconds, diverged = [], [], [], 0
            for seed in arguments.seeds:
                policy = SurrogateGradientPPOPolicy(
                    surrogate=surrogate,
                    beta=beta,
                    max_env_steps=arguments.steps,
                    score_threshold="auto" if arguments.stop_when_solved else None,
                    random_state=seed,
                ).set_params(**dict(arguments.set))
                began = time.perf_counter()
                try:
                    policy.fit(arguments.env)
                except FloatingPointError:  # the policy is that of the update before
                    diverged += 1
                seconds.append(time.perf_counter() - began)
                if hasattr(policy, "weights_"):  # it may diverge before anything was learnt
                    scores.append(policy.score(arguments.env, n_episodes=arguments.episodes, seed=UNSEEN))
                    steps.append(policy.n_env_steps_)
            rows.append({**settings, "surrogate": surrogate, "beta": beta, "returns": scores, "diverged": diverged})
            returns = f"{np.mean(scores):>9.1f} ± {np.std(scores):<7.1f}" if scores else f"{'none':>19}"
            print(
                f"{surrogate:<17} {beta:>5g} | {returns} | {np.mean(steps or 0):>9,.0f} | {np.mean(seconds):>9.1f}"
                + (f" | {diverged} of {len(seconds)} diverged" if diverged else ""),
                flush=True,
            )
    if arguments.table:
        tables.write(arguments.table, rows)


if __name__ == "__main__":
    main()
