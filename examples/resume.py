"""Train with checkpoints. Kill it whenever you like and run the same command again: nothing is lost, nothing differs.

python examples/resume.py [--env Hopper-v5] [--generations 200] [--checkpoint hopper.ecp]
"""

import argparse

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import Checkpoint, CSVLog


def main() -> None:
    """Start, or go on from the newest checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--checkpoint", default="hopper.ecp")
    arguments = parser.parse_args()

    checkpoint = Checkpoint(arguments.checkpoint, every=None, seconds=60, keep=3)
    policy = EvolvingConnectivityPolicy(
        population_size=arguments.population,
        n_generations=arguments.generations,
        max_episode_steps=[(0, 200), (3_000_000, 1000)],
        n_jobs=arguments.n_jobs,
        random_state=0,
        verbose=1,
    )
    policy.fit(arguments.env, callbacks=[checkpoint, CSVLog(f"{arguments.checkpoint}.csv")], resume_from=checkpoint)
    print(f"Mean return {policy.score(arguments.env):.1f} after {policy.n_generations_} generations.")


if __name__ == "__main__":
    main()
