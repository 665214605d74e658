"""What the probabilities do when there is nothing to learn: Adam on pure noise, connection by connection.

Without a signal, one connection's gradient ``1/N sum_i u_i (theta_i - rho)`` has the mean zero and, with centred ranks
u of N members, the variance ``rho (1 - rho) / (12 N)``; it is nearly normal. Following independent connections from one
half through Adam and the clip at eps gives the flips per generation (connections by which the deployed network
changes), the entropy and the distance (connections in which a member differs from the deployed network, on average)
that noise alone causes, to compare with those of a training (``signal_share.py``). Settings may fall at a generation,
as a schedule makes them.

    python benchmarks/studies/drift.py [--settings 0.15,0.001 0.3,0.01 0.6,0.01 0.3,0.01@100:0.05,0.001]
        [--generations 60 300] [--connections 75776] [--population 256] [--seed 0]
"""

import argparse

import numpy as np

from ecpolicy.distributions import Bernoulli
from ecpolicy.networks import Shape
from ecpolicy.optimizers import adam

SETTINGS = (
    "0.15,0.001", "0.3,0.01", "0.6,0.01", "1.2,0.01",
    "0.3,0.01@100:0.05,0.01", "0.3,0.01@100:0.1,0.003", "0.3,0.01@100:0.05,0.001",
)  # fmt: skip
OVER = 10  # generations over which flips are averaged


def parse(text):
    """``rate,eps`` or ``rate,eps@generation:rate,eps`` as pairs (generation from which they hold, (rate, eps))."""
    first, _, later = text.partition("@")
    at, _, second = later.partition(":")
    return [
        (start, tuple(float(number) for number in part.split(",")))
        for start, part in ((0, first), (int(at or 0), second))
        if part
    ]


def drift(schedule, connections, population, generations, seed):
    """Flips, entropy and distance after each of these generations."""
    rng = np.random.default_rng(seed)
    shapes = {"all": Shape(pre=connections, post=1, packed_axis=0)}
    rho = Bernoulli(shapes).init()
    state = adam(1.0).init(rho)
    flips = []
    for generation in range(1, max(generations) + 1):
        rate, eps = next(setting for start, setting in reversed(schedule) if start < generation)
        p = rho["all"]
        noise = rng.standard_normal(p.shape) * np.sqrt(p * (1 - p) / (12 * population))
        step, state = adam(rate).update({"all": noise.astype(np.float32)}, state, rho)
        rho = Bernoulli(shapes, eps=eps).project({"all": p + step["all"]})
        q = rho["all"].astype(np.float64)
        flips.append(int(((p > 0.5) != (q > 0.5)).sum()))
        if generation in generations:
            entropy = float(-(q * np.log2(q) + (1 - q) * np.log2(1 - q)).mean())
            yield generation, float(np.mean(flips[-OVER:])), entropy, float(np.minimum(q, 1 - q).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    parser.add_argument("--generations", type=int, nargs="+", default=[60, 120, 300])
    parser.add_argument("--connections", type=int, default=75_776, help="HalfCheetah-v5 with 256 neurons")
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sizes = arguments.connections, arguments.population, set(arguments.generations), arguments.seed
    for text in arguments.settings:
        print(f"learning rate, eps {text}", flush=True)
        for generation, flips, entropy, distance in drift(parse(text), *sizes):
            print(
                f"  generation {generation:4d}: {flips:6,.0f} flips, {entropy:.3f} bits, distance {distance:6,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
