"""Rollouts on an environment pool: a vector environment that steps and resets any of its sub-environments.

EnvPool's are such: what is stepped is what is played, so a population costs no step of an episode that has ended.
"""

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.rollout.gymnasium import Batch
from ecpolicy.rollout.outcome import EpisodeError, Episodes, Outcome
from ecpolicy.rollout.time_limit import failure
from ecpolicy.spaces import Decode, encode_batch
from ecpolicy.untyped import Space, VectorEnv


def is_pool(environments: VectorEnv) -> bool:
    """Whether ``step(actions, env_id)`` and ``reset(env_id)`` take some of the sub-environments, as EnvPool's do."""
    try:
        signatures = [inspect.signature(method) for method in (environments.step, environments.reset)]
    except ValueError:  # compiled methods may have none
        return False
    return all("env_id" in signature.parameters for signature in signatures)


def play(
    pool: Any,
    batch: Batch,
    episodes: Episodes,
    *,
    observation_space: Space,
    decode: Decode,
) -> Outcome:
    """Play episodes on the sub-environments; each takes the next episode when its own is over.

    Seeds are the pool's own, fixed when it was made: results repeat for a new pool of the same size and seed.
    """
    batch.seeded = False
    n = episodes.owners.size
    returns, lengths = np.zeros(n), np.zeros(n, dtype=np.int64)
    lanes = min(n, int(pool.num_envs))
    episode_of = np.arange(lanes)  # the episode that a sub-environment plays
    begun = lanes
    reset, step = batch.in_environments.timed(pool.reset), batch.in_environments.timed(pool.step)
    act = batch.in_networks.timed(batch.step)

    def observe(asked: NDArray[np.intp], observations: object, info: dict[str, object]) -> NDArray[np.intp]:
        """Note what was observed; the sub-environments, in the order of the answer."""
        answered = np.asarray(info["env_id"], dtype=np.intp)
        if not np.array_equal(np.sort(answered), np.sort(asked)):
            raise EpisodeError(
                f"The environment pool answered for {answered.size} of the {asked.size} sub-environments that were "
                "stepped. Make a new one that answers for all, with batch_size=num_envs."
            )
        batch.raw[episode_of[answered]] = encode_batch(observation_space, observations)
        return answered

    live: NDArray[np.intp] = np.arange(lanes)
    try:
        observe(live, *reset(live.astype(np.int32)))
        while live.size:
            actions = decode(act(episode_of[live]))
            observations, rewards, terminated, truncated, info = step(actions, live.astype(np.int32))
            rows = episode_of[observe(live, observations, info)]
            returns[rows] += rewards
            lengths[rows] += 1
            batch.travel.add_lanes(rows, info, slice(None), rows.size)
            over = np.zeros(lanes, dtype=bool)
            over[info["env_id"]] = terminated | truncated | (lengths[rows] >= episodes.horizon)
            if over.any():
                idle = np.flatnonzero(over)
                fresh = idle[: n - begun]
                episode_of[fresh] = np.arange(begun, begun + fresh.size)
                begun += fresh.size
                over[fresh] = False
                live = live[~over[live]]
                if fresh.size:
                    observe(fresh, *reset(fresh.astype(np.int32)))
    except EpisodeError:
        raise
    except Exception as error:
        raise EpisodeError(f"The environment pool {failure(error)}.") from error
    return batch.outcome(returns.tolist(), lengths.tolist())
