"""Train a 1-bit spiking network on CartPole-v1, print the score of the deployed network, save it.

python examples/cartpole.py [--generations 100] [--output cartpole.ecp]
"""

import argparse

from ecpolicy import EvolvingConnectivityPolicy


def main() -> None:
    """Train, score, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--output", default="cartpole.ecp")
    arguments = parser.parse_args()

    policy = EvolvingConnectivityPolicy(
        n_generations=arguments.generations, population_size=arguments.population, random_state=0, verbose=1
    )
    policy.fit("CartPole-v1")

    score = policy.score("CartPole-v1", n_episodes=100)
    bits = sum(connections.size for connections in policy.connectivity_.values())
    policy.save(arguments.output)
    print(f"Deployed network: mean return {score:.1f} over 100 fresh episodes (solved at 475).")
    print(f"It has {bits:,} possible connections of 1 bit each.")
    print(f"Saved to {arguments.output}; load it with EvolvingConnectivityPolicy.load({arguments.output!r}).")


if __name__ == "__main__":
    main()
