"""Episodes of a policy's deployed network, on environments of the caller's choice."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.constraints import Integer, optional
from ecpolicy.environments import check_trained_for, resolve
from ecpolicy.fitting.backends import choose, engine, runner
from ecpolicy.fitting.deployed import deployment_key
from ecpolicy.fitting.learner import Trainable
from ecpolicy.random import Stream, environment_seed, fold_in, reserved_key
from ecpolicy.rollout.episodes import Networks, of_deployed, playing
from ecpolicy.rollout.outcome import EvaluatedEpisodes


def evaluate(
    policy: Trainable[Any], environments: object, n_episodes: int, seed: int | None, max_episode_steps: int | None
) -> EvaluatedEpisodes:
    """Play episodes of the deployed network; see :meth:`ecpolicy.EvolvingConnectivityPolicy.score`."""
    deployed = policy._deployed
    Integer(1)("n_episodes", n_episodes)
    optional(Integer(1))("max_episode_steps", max_episode_steps)
    resolved = resolve(environments)
    check_trained_for(policy, resolved)
    seeds = episode_seeds(deployed.seed, len(resolved.environments), n_episodes, seed)
    wanted = np.inf if max_episode_steps is None else float(max_episode_steps)
    table = of_deployed(
        Networks(deployed.distribution.sampler(deployed.parameters), deployed.standardizer),
        seeds,
        membrane_key=deployment_key(deployed.seed),
        horizons=resolved.horizons(wanted, otherwise=policy._endless_episode()),
    )
    backend = choose(policy.backend, resolved)
    played_by = engine(policy.engine, backend, resolved)
    with runner(policy, backend, resolved, deployed.network, played_by) as episodes:
        outcome, _ = episodes.run(playing(table))
    return EvaluatedEpisodes(outcome.returns, outcome.lengths, outcome.travel[..., 0], outcome.travel[..., 1])


def episode_seeds(trained_with: int, n_environments: int, n_episodes: int, seed: int | None) -> NDArray[np.int64]:
    """Seeds (environments, episodes): counted up from ``seed``, or for None those of the training's own seed."""
    if seed is None:
        key = reserved_key(trained_with, Stream.SCORE)
        return environment_seed(fold_in(fold_in(key, np.arange(n_environments))[:, None, :], np.arange(n_episodes)))
    Integer(0, 2**31 - 1 - n_episodes)("seed", seed)
    return np.broadcast_to(int(seed) + np.arange(n_episodes), (n_environments, n_episodes))
