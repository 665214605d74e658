"""Evaluate a saved policy with Stable-Baselines3's tools, as rl-baselines3-zoo does.

python examples/evaluate.py hopper.ecp --env Hopper-v5 [--n-episodes 20] [--n-envs 1] [--stochastic] [--seed 0]
"""

import argparse

import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import ecpolicy


def main() -> None:
    """Load, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="a file that a policy was saved to")
    parser.add_argument("--env", required=True, help="an environment id")
    parser.add_argument("--n-episodes", type=int, default=20)
    parser.add_argument("--n-envs", type=int, default=1)
    parser.add_argument("--stochastic", action="store_true", help="sample a network for each episode")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    policy = ecpolicy.load(arguments.path)
    environments = make_vec_env(arguments.env, n_envs=arguments.n_envs, seed=arguments.seed)
    returns, lengths = evaluate_policy(
        policy,
        environments,
        n_eval_episodes=arguments.n_episodes,
        deterministic=not arguments.stochastic,
        return_episode_rewards=True,
    )
    environments.close()
    for episode, (total, length) in enumerate(zip(returns, lengths, strict=True)):
        print(f"episode {episode}: return {total:.2f}, length {length}")
    print(f"Mean return {np.mean(returns):.2f} ± {np.std(returns):.2f}, mean length {np.mean(lengths):.1f}, "
          f"{len(returns)} episodes")  # fmt: skip


if __name__ == "__main__":
    main()
