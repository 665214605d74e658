"""Whether an anatomical prior outlives the search: a density of 0.1 with a block structure, held by four rules.

    python benchmarks/studies/priors.py [--settings free keep_density ...] [--tasks ...] [--seeds 0 1 2 3 4]
        [--results benchmarks/studies/results] [--print | --noise]

Each fit is a row of priors.csv: the mean probability of every recurrent block at the end ("EI mean", from excitatory to
inhibitory neurons), its density in the deployed network ("EI"), and the deployed network's mean return over 100
episodes that training never saw. A row that is there is not made again. The rules:

free
    No rule: the prior is where the search starts.
free, gain 1
    The same with recurrent currents of the size that suits the density of one half which the search ends at.
keep_density
    The parameter of this name.
kl 0.003, ...
    A pull towards the prior of this strength, see :class:`Pulled`.
variance
    Steps scaled by the prior's variance, 4 p0 (1 - p0).
"""

import argparse
import itertools
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import tables
from scipy.special import logit

from ecpolicy import EvolvingConnectivityPolicy, tuned
from ecpolicy.anatomy import block_probabilities
from ecpolicy.distributions import Bernoulli
from ecpolicy.networks import RSNN
from ecpolicy.optimizers import adam, sgd

HERE = Path(__file__).parent
UNSEEN = 1_000_000  # first environment seed of the scored episodes
BLOCKS = {("E", "E"): 0.05, ("E", "I"): 0.15, ("I", "E"): 0.05, ("I", "I"): 0.15}  # 0.1 on average, E and I in balance
TASKS = {"CartPole-v1": 400_000, "Hopper-v5": 300_000}  # environment steps
STRENGTHS = {"kl 0.003": 0.003, "kl 0.01": 0.01, "kl 0.03": 0.03}
SETTINGS = ["free", "free, gain 1", "keep_density", *STRENGTHS, "variance"]


@dataclass(frozen=True)
class Pulled(Bernoulli):
    """Climbs E[utility] - strength KL(rho || p0), p0 the probabilities at the start.

    Of independent connections the divergence has the derivative logit(rho) - logit(p0) with respect to rho. The inverse
    of their Fisher information is rho (1 - rho), so its natural gradient is rho (1 - rho) (logit(rho) - logit(p0)),
    in the coordinates of equation 14. Where evidence g for a connection (the derivative of the expected utility) and
    pull balance, rho = p0 exp(g / strength) / (1 - p0 + p0 exp(g / strength)): the mean-field posterior whose
    likelihood is exp(utility / strength).
    """

    strength: float = 0.0

    def gradient(self, rho, keys, utility):
        gradient = super().gradient(rho, keys, utility)
        for name, prior in self.initial_probability.items():
            p, p0 = rho[name].astype(np.float64), prior.astype(np.float64)
            pull = p * (1 - p) * (logit(p) - logit(p0))
            gradient[name] = (gradient[name] - self.strength * pull).astype(np.float32)
        return gradient


class PulledPolicy(EvolvingConnectivityPolicy):
    """The strength is an attribute: a study changes no parameters."""

    strength = 0.0

    def _search(self, *sizes, **further):
        plain = super()._search(*sizes, **further)
        return Pulled(*(getattr(plain, field.name) for field in fields(plain)), self.strength)


class ScaledPolicy(EvolvingConnectivityPolicy):
    """Each connection's step is Adam's times 4 p0 (1 - p0): whole at one half, 0.36 of it at 0.1."""

    def _ascent(self):
        name, optimizer = super()._ascent()

        def scaled(n_env_steps):
            plain = optimizer(n_env_steps)

            def update(gradient, state, theta):
                step, state = plain.update(gradient, state, theta)
                prior = {name: np.asarray(p, np.float32) for name, p in self.initial_probability.items()}
                return {k: v * 4 * prior[k] * (1 - prior[k]) if k in prior else v for k, v in step.items()}, state

            return plain._replace(update=update)

        return name, scaled


def policy_of(setting, **parameters):
    if setting in STRENGTHS:
        policy = PulledPolicy(**parameters)
        policy.strength = STRENGTHS[setting]
        return policy
    if setting == "variance":
        return ScaledPolicy(**parameters)
    return EvolvingConnectivityPolicy(**parameters, keep_density=setting == "keep_density")


def fitted(task, setting, seed):
    """Tuned settings, but for the prior, and a gain that gives its sparser currents the size of dense ones."""
    parameters = tuned(task).parameters
    gain = 1.0 if setting == "free, gain 1" else float(np.sqrt(0.5 / 0.1))
    network = parameters.pop("network", RSNN()).set_params(gain_recurrent=gain)
    parameters["initial_probability"] = {"recurrent": block_probabilities(network.n_neurons, BLOCKS)}
    policy = policy_of(
        setting, network=network, max_env_steps=TASKS[task], n_generations=10_000, random_state=seed, **parameters
    )
    return policy.fit(tuned(task).environment)


def row(policy, task, setting, seed):
    returns, last = policy.episode_returns(task, n_episodes=100, seed=UNSEEN), policy.history_[-1]
    wiring = policy.connectome_
    means, densities = wiring.mean_probabilities(), wiring.densities()
    return {
        "env": task,
        "settings": setting,
        "seed": seed,
        "n_env_steps": policy.n_env_steps_,
        "generations": policy.n_generations_,
        "population": round(last["return_mean"], 2),
        "score": round(float(returns.mean()), 2),
        "deviation": round(float(returns.std()), 2),
        **{f"{pre}{post} mean": round(means[pre, post], 4) for pre, post in BLOCKS},
        **{f"{pre}{post}": round(densities[pre, post], 4) for pre, post in BLOCKS},
        "seconds": round(sum(record["seconds"] for record in policy.history_), 1),
    }


def print_noise(n=4000, members=256, prior=0.1):
    """Mean probability of connections that no return depends on, and the share above one half, by generations."""
    utility = np.arange(members) / (members - 1) - 0.5
    rules = {"adam": (adam(0.3), 0.0, 1.0), "ascent": (sgd(5.0), 0.0, 1.0)}
    rules |= {name: (adam(0.3), strength, 1.0) for name, strength in STRENGTHS.items()}
    rules["variance"] = (adam(0.3), 0.0, 4 * prior * (1 - prior))
    for name, (optimizer, strength, scale) in rules.items():
        generator, p = np.random.default_rng(0), {"p": np.full(n, prior, np.float32)}
        state, found = optimizer.init(p), []
        for generation in range(1, 301):
            drawn = generator.random((members, n)) < p["p"]
            gradient = generator.permutation(utility) @ drawn / members
            gradient -= strength * p["p"] * (1 - p["p"]) * (logit(p["p"]) - logit(prior))
            step, state = optimizer.update({"p": gradient.astype(np.float32)}, state, p)
            p = {"p": np.clip(p["p"] + scale * step["p"], 0.01, 0.99)}
            if generation in (15, 60, 300):
                found.append(f"{generation}: {p['p'].mean():.3f}, {(p['p'] > 0.5).mean():.3f}")
        print(f"{name:>8}  {'   '.join(found)}")


def print_table(rows):
    """Means over seeds, and the block's density that is farthest from the prior, as a share of it, of all seeds."""
    names = [f"{pre}{post}" for pre, post in BLOCKS]
    print(f"| task | rule | seeds | score | steps | {' | '.join(names)} | density | farthest block |")
    print(f"| {' | '.join(['---'] * (7 + len(names)))} |")
    for task in TASKS:
        for setting in SETTINGS:
            found = [r for r in rows if (r["env"], r["settings"]) == (task, setting)]
            if found:
                kept = np.array([[r[name] for name in names] for r in found])
                shares = (kept / list(BLOCKS.values())).ravel()
                farthest = shares[np.abs(shares - 1).argmax()]
                score = np.array([r["score"] for r in found])
                spread = f" ± {score.std(ddof=1):,.0f}" if len(found) > 1 else ""
                cells = [task, setting, len(found), f"{score.mean():,.0f}{spread}"]
                cells += [f"{np.mean([r['n_env_steps'] for r in found]):,.0f}"]
                cells += [f"{mean:.3f}" for mean in (*kept.mean(axis=0), kept.mean())] + [f"{farthest:.2f}"]
                print(f"| {' | '.join(map(str, cells))} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=SETTINGS, choices=SETTINGS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--print", action="store_true", help="print the table, train nothing")
    parser.add_argument("--noise", action="store_true", help="print what noise alone makes of a prior, train nothing")
    arguments = parser.parse_args()
    path = arguments.results / "priors.csv"
    if arguments.noise:
        print_noise()
        return
    if arguments.print:
        print_table(tables.read(path))
        return
    keys = itertools.product(arguments.tasks, arguments.settings, arguments.seeds)
    for made in tables.completed(path, keys, lambda *key: row(fitted(*key), *key)):
        print(made, flush=True)


if __name__ == "__main__":
    main()
