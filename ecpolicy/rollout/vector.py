"""Rollouts on a vector environment, which steps and resets its sub-environments by its own rules."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from ecpolicy.rollout.host import Batch
from ecpolicy.rollout.outcome import TRAVEL, EpisodeError, Episodes, Outcome
from ecpolicy.rollout.time_limit import failure
from ecpolicy.spaces import Decode, encode_batch

IDLE, RESETTING, DRAINING = -1, -2, -3


def play(
    environments: gym.vector.VectorEnv[Any, Any, Any],
    batch: Batch,
    episodes: Episodes,
    *,
    observation_space: gym.Space[Any],
    decode: Decode,
) -> Outcome:
    """Play episodes on the sub-environments; each takes the next episode when it starts anew.

    With autoreset disabled, episodes start from their own seeds and results do not depend on the number of
    sub-environments. Otherwise seeding is the vector environment's own: it is reset with the first episode's seed and
    goes on from there, so results repeat for the same number of sub-environments only; and a sub-environment whose
    episode was cut by the horizon is stepped on, unscored and uncounted, until it ends or all others are cut as well.
    """
    n, lanes = episodes.owners.size, int(environments.num_envs)
    mode = environments.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    batch.seeded = mode == AutoresetMode.DISABLED
    returns, lengths = np.zeros(n), np.zeros(n, dtype=np.int64)
    waiting = iter(range(n))

    def following(count: int) -> list[int]:
        return [next(waiting, IDLE) for _ in range(count)]

    playing = np.array(following(lanes))  # the episode of each sub-environment
    resting = decode(np.zeros((lanes, batch.output.shape[1]), dtype=np.float32))
    remaining = n
    try:
        if mode == AutoresetMode.DISABLED:
            observations, _ = environments.reset(seed=episodes.seeds[playing].tolist())
        else:
            observations, _ = environments.reset(seed=int(episodes.seeds[0]))
        while remaining:
            if np.all((playing == DRAINING) | (playing == IDLE)):
                playing = np.array(following(lanes))
                observations, _ = environments.reset(seed=int(episodes.seeds[playing[0]]))
            live = np.flatnonzero(playing >= 0)
            rows = playing[live]
            actions = resting.copy()
            if live.size:
                batch.raw[rows] = encode_batch(observation_space, observations)[live]
                actions[live] = decode(batch.step(rows))
            observations, rewards, terminated, truncated, info = environments.step(actions)
            done = np.asarray(terminated) | np.asarray(truncated)
            returns[rows] += np.asarray(rewards)[live]
            lengths[rows] += 1
            batch.travel.add_lanes(rows, _of_the_step(info), live, lanes)
            cut = np.zeros(lanes, dtype=bool)
            cut[live] = lengths[rows] >= episodes.horizon
            remaining -= int(np.sum((done | cut)[live]))

            if mode == AutoresetMode.DISABLED:
                over = done | cut
                playing[over] = following(int(over.sum()))
                if np.any(over):
                    seeds = episodes.seeds[playing].tolist()
                    observations, _ = environments.reset(seed=seeds, options={"reset_mask": over})
                continue
            fresh, over = playing == RESETTING, done & (playing != IDLE)
            playing[cut] = DRAINING
            if mode == AutoresetMode.NEXT_STEP:
                playing[over] = RESETTING
                playing[fresh] = following(int(fresh.sum()))
            else:
                playing[over] = following(int(over.sum()))
    except EpisodeError:
        raise
    except Exception as error:
        raise EpisodeError(f"The vector environment {failure(error)}.") from error
    return batch.outcome(returns.tolist(), lengths.tolist())


def _of_the_step(info: Any) -> Any:
    """The info of the step itself where some sub-environments have been reset in the same step."""
    if not isinstance(info, dict) or not isinstance(info.get("final_info"), dict):
        return info
    final, ended = info["final_info"], info["_final_info"]
    none = np.zeros(np.shape(ended))
    names = [name for travel in TRAVEL for name in (travel, f"_{travel}") if travel in final]
    return {**info, **{name: np.where(ended, final.get(name, none), info.get(name, none)) for name in names}}
