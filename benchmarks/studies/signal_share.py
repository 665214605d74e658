"""Why bold steps work: how much of the population's fitness a linear model of its connections explains, and what moves.

Trains for a while, and at the given generations draws a large population from the probabilities as they are then. With
standardised connections ``z = (theta - rho) / sqrt(rho (1 - rho))`` and standardised ranks ``u`` of n members, the best
linear model in z explains the share ``sum_b E[u z_b]**2`` of the variance of u, estimated without bias by ``sum_b
sum_{i != j} u_i u_j z_ib z_jb / (n (n - 1))``; its standard error without a signal is ``sqrt(2 D) / n`` with D
connections. The same members play a second, independent episode: the correlation of the two rankings is the share of
the variance that is a network's own, and not luck. Signal to noise is of one generation's gradient, per connection:
``sqrt(share * population / D)``. Flips are the connections by which the deployed network changed in a generation,
nats how far the distribution moved (means of the last five generations); members differ from the deployed network in
``sum_b min(rho_b, 1 - rho_b)`` connections on average.

In the end 128 members all play the same 40 episodes: the share of the variance that an episode does to all of them
alike is what common episodes would take away.

    python benchmarks/studies/signal_share.py [--task HalfCheetah-v5] [--at 1 10 30 60] [--learning-rates 0.15 0.6]
        [--eps 0.001 0.01] [--members 4096] [--seed 0]
"""

import argparse

import numpy as np
from reproduce import environment_of
from scipy.stats import rankdata

from ecpolicy import EvolvingConnectivityPolicy, tuned
from ecpolicy.environments import resolve
from ecpolicy.fitting.backends import Engine, runner
from ecpolicy.networks import RSNN
from ecpolicy.networks.layout import unpack
from ecpolicy.random import fold_in, key_from_seed
from ecpolicy.rollout.episodes import Networks, playing, population

AT_A_TIME = 32  # members whose connections exist as numbers


def standardized_ranks(fitness):
    ranks = rankdata(fitness)
    return (ranks - ranks.mean()) / ranks.std()


def linear_share(distribution, rho, keys, u):
    """Share of the variance of ``u`` that is linear in the connections, by matrix."""
    shares = {}
    for name, p in rho.items():
        deviation = np.sqrt(p * (1 - p))
        total, own = np.zeros(p.shape), 0.0
        for start in range(0, u.size, AT_A_TIME):
            chunk = slice(start, start + AT_A_TIME)
            drawn = distribution.sample(rho, keys[chunk])[name]
            shape = distribution.shapes[name]
            theta = unpack(drawn, shape.post if shape.packed_axis == 1 else shape.pre)
            if shape.packed_axis == 0:
                theta = theta.transpose(0, 2, 1)
            z = (theta - p) / deviation
            total += np.tensordot(u[chunk], z, axes=1)
            own += float(np.square(u[chunk]) @ np.square(z).sum(axis=(1, 2)))
        shares[name] = (float(np.square(total).sum()) - own) / (u.size * (u.size - 1))
    return shares


def share_of_common_luck(play, task):
    """Share of the variance of returns that the episode brings, the same for all members: a ratio of components."""
    n, k = task.members, task.episodes
    same = task._replace(seeds=np.tile(task.seeds[:k], n), membrane_keys=np.tile(task.membrane_keys[:k], (n, 1)))
    returns = play(same)
    rest = returns - returns.mean(axis=0) - returns.mean(axis=1, keepdims=True) + returns.mean()
    noise = np.square(rest).sum() / ((n - 1) * (k - 1))
    episode = returns.mean(axis=0).var(ddof=1) - noise / n
    member = returns.mean(axis=1).var(ddof=1) - noise / k
    return episode / (episode + member + noise)


def entropy(rho):
    """Bits per connection."""
    p = np.concatenate([part.ravel() for part in rho.values()]).astype(np.float64)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())


def flips(now, before):
    """Connections of the deployed network that changed."""
    return int(((now > 0.5) != (before > 0.5)).sum())


def divergence(now, before):
    """Kullback-Leibler divergence of a generation's probabilities from those before, in nats."""
    return float((now * np.log(now / before) + (1 - now) * np.log((1 - now) / (1 - before))).sum())


def spread(rho):
    """Connections in which a member differs from the deployed network, on average."""
    return float(sum(np.minimum(p, 1 - p).sum(dtype=np.float64) for p in rho.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="HalfCheetah-v5")
    parser.add_argument("--at", type=int, nargs="+", default=[1, 10, 30, 60], help="generations")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[0.15, 0.6])
    parser.add_argument("--eps", type=float, nargs="+", default=[0.001, 0.01])
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--neurons", type=int, default=256)
    parser.add_argument("--members", type=int, default=4096, help="population that is measured")
    parser.add_argument("--common-episodes", type=int, default=40)
    parser.add_argument("--horizon", type=int, default=250)
    parser.add_argument("--engine", choices=["envpool", "gymnasium"], default="gymnasium")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    task = tuned(arguments.task)
    environment = environment_of(
        {}, task, task.environment_kwargs, arguments.engine, arguments.population, arguments.seed
    )
    print(
        f"{arguments.task}, population {arguments.population}, measured on {arguments.members}, seed {arguments.seed}"
    )
    for learning_rate, eps in zip(arguments.learning_rates, arguments.eps, strict=True):
        print(f"learning rate {learning_rate}, eps {eps}")
        policy = EvolvingConnectivityPolicy(
            network=RSNN(arguments.neurons), learning_rate=learning_rate, eps=eps, population_size=arguments.population,
            max_episode_steps=arguments.horizon, warm_start=True, keep_best=False, eval_episodes=1,
            score_threshold=None, random_state=arguments.seed,
        )  # fmt: skip
        moves, before = [], {}

        def note(view, moves=moves, before=before):
            now = {name: np.array(p, np.float64) for name, p in view.connection_probabilities_.items()}
            if before:
                moves.append([sum(of(now[name], before[name]) for name in now) for of in (flips, divergence)])
            before.update(now)

        for generation in arguments.at:
            policy.set_params(n_generations=generation).fit(environment, callbacks=note)
            report(policy, environment, arguments, np.mean(moves[-5:] or [[0, 0]], axis=0))


def report(policy, environment, arguments, moved):
    search, setting = policy._training.search, policy._training.setting
    resolved = resolve(environment)
    distribution = policy._search(setting.network, policy.n_features_in_, resolved.action_space.shape[0], "numpy")
    keys = fold_in(fold_in(key_from_seed(arguments.seed + 10**6), search.generation), np.arange(arguments.members))

    def task(members, n_episodes):
        networks = Networks(distribution.sampler(search.parameters), setting.standardizer(search.moments))
        return population(networks, members, n_episodes=n_episodes, horizons=(arguments.horizon,))

    def play(task, resolved=resolved):
        with runner(policy, "numpy", resolved, setting.network, Engine("gymnasium")) as episodes:
            return episodes.run(playing(task))[0].returns

    returns = play(task(keys, 2))
    seeded = resolve(tuned(arguments.task).environment)  # a pool has seeds of its own
    common = share_of_common_luck(lambda same: play(same, seeded), task(keys[:128], arguments.common_episodes))
    first, second = (standardized_ranks(column) for column in returns.T)
    shares = linear_share(distribution, search.parameters, keys, first)
    size = sum(p.size for p in search.parameters.values())
    total, error = sum(shares.values()), np.sqrt(2 * size) / arguments.members
    snr = np.sqrt(max(total, 0) * arguments.population / size)
    parts = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    print(
        f"  generation {search.generation:>4}: population {returns.mean():7.1f}, deployed "
        f"{policy.history_[-1]['deployed_return']:7.1f} | entropy {entropy(search.parameters):.3f} bits, "
        f"{moved[0]:6.0f} flips, {moved[1]:.0f} nats, members differ in {spread(search.parameters):.0f} | linear share "
        f"{total:5.2f} ± {error:.2f} ({parts}) | same network again {np.mean(first * second):.2f}, luck common to all "
        f"{common:.2f} | signal to noise {snr:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
