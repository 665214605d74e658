"""Rollouts on a vector environment, which steps and resets its sub-environments by its own rules."""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from ecpolicy.rollout.gymnasium import Batch
from ecpolicy.rollout.outcome import EpisodeError, Episodes, Outcome
from ecpolicy.rollout.time_limit import failure
from ecpolicy.spaces import Decode, encode_batch
from ecpolicy.untyped import Space, VectorEnv

IDLE, RESETTING, DRAINING = -1, -2, -3  # what a sub-environment does that plays no episode


def autoreset_mode(environments: VectorEnv) -> AutoresetMode:
    """How a vector environment resets a sub-environment whose episode is over.

    Gymnasium's own classes are asked for what they do. Others have to declare it in their metadata, as a member of
    ``AutoresetMode`` or as its name or value: a wrong guess makes episodes a step too long or too short.

    Raises
    ------
    ValueError
        Where the mode is not declared, is none of Gymnasium's, or where a wrapper declares another one than the class
        in it has.
    """
    inner: Any = environments.unwrapped
    metadata = environments.metadata or {}
    declared = _mode_named(metadata.get("autoreset_mode"))
    known = None
    if isinstance(inner, SyncVectorEnv | AsyncVectorEnv):
        known = inner.autoreset_mode
    elif _is_functional(inner):  # some of these declare nothing
        known = AutoresetMode.NEXT_STEP
    own_word = environments is not inner and metadata is not inner.metadata  # of a wrapper
    mode = declared if known is None or (own_word and declared is not None) else known
    if mode is not None and known in (None, mode):
        return mode
    found = f"is {metadata['autoreset_mode']!r}" if "autoreset_mode" in metadata else "is missing"
    differs = "" if known is None else f", but the {type(inner).__name__} in it has {known}"
    raise ValueError(
        f"It is not known how {environments} resets a sub-environment whose episode is over: the "
        f"metadata['autoreset_mode'] of {type(environments).__name__} {found}{differs}. Declare the one of "
        f"{', '.join(map(str, AutoresetMode))} that it follows: environments.metadata = {{**environments.metadata, "
        "'autoreset_mode': gymnasium.vector.AutoresetMode.NEXT_STEP}."
    )


def _mode_named(name: object) -> AutoresetMode | None:
    """The mode of this name or value in whatever spelling: "NextStep", "NEXT_STEP", "next-step"."""
    plain = str(name.value if isinstance(name, Enum) else name).casefold()
    plain = re.sub("[^a-z]", "", plain.removeprefix("autoresetmode."))
    return next((mode for mode in AutoresetMode if mode.value.casefold() == plain), None)


def _is_functional(environments: object) -> bool:
    """Whether this is Gymnasium's FunctionalJaxVectorEnv, whose module only those who have JAX can import."""
    return any(kind.__name__ == "FunctionalJaxVectorEnv" for kind in type(environments).__mro__)


def check_lanes(environments: VectorEnv) -> None:
    """Check that every sub-environment can be played, and apart from the others.

    Raises
    ------
    ValueError
        Where one environment object is several sub-environments, so that a step of one is a step of all, or where a
        worker process of an AsyncVectorEnv has ended.
    """
    inner: Any = environments.unwrapped
    ended = sum(pipe is None for pipe in inner.parent_pipes) if isinstance(inner, AsyncVectorEnv) else 0
    if ended:
        raise ValueError(
            f"{ended} of the {inner.num_envs} sub-environments of {environments} ended with an error earlier, and "
            "their processes with them. Make a new vector environment."
        )
    envs = getattr(inner, "envs", None)
    if not isinstance(envs, list | tuple):
        return
    cores = [env.unwrapped for env in envs if isinstance(env, gym.Env)]
    if len({id(core) for core in cores}) < len(cores):
        raise ValueError(
            f"Some of the {len(cores)} sub-environments of {environments} are the same {type(cores[0]).__name__} "
            "object, so that a step of one is a step of the others. Make a new environment for each: the callables "
            f"that {type(inner).__name__} gets must not return one that exists."
        )


def play(
    environments: VectorEnv,
    batch: Batch,
    episodes: Episodes,
    *,
    observation_space: Space,
    decode: Decode,
) -> Outcome:
    """Play episodes on the sub-environments; each takes the next episode when it starts anew.

    With autoreset disabled, episodes start from their own seeds and results do not depend on the number of
    sub-environments. Otherwise seeding is the vector environment's own: it is reset with the first episode's seed and
    goes on from there, so results repeat for the same number of sub-environments only; and a sub-environment whose
    episode was cut by the horizon is stepped on, unscored and uncounted, until it ends or all others are cut as well.

    What a sub-environment does next, by mode:

    ======================== ============================== ============================ =========================
    a sub-environment        NEXT_STEP                      SAME_STEP                    DISABLED
    ======================== ============================== ============================ =========================
    whose episode ends       RESETTING                      the next episode             is reset: the next episode
    whose episode is cut     DRAINING                       DRAINING                     is reset: the next episode
    RESETTING, for one step  the next episode
    DRAINING, until it ends  RESETTING                      the next episode
    IDLE, without an episode IDLE                           IDLE                         is reset when it ends: IDLE
    ======================== ============================== ============================ =========================

    Only SAME_STEP tells what is observed at the end apart, in ``info["final_info"]``: observation and info are those of
    the next episode's start.
    """
    n, lanes = episodes.owners.size, int(environments.num_envs)
    mode = autoreset_mode(environments)
    batch.seeded = mode == AutoresetMode.DISABLED
    returns, lengths = np.zeros(n), np.zeros(n, dtype=np.int64)
    waiting = iter(range(n))
    clock = batch.in_environments
    reset, step = clock.timed(environments.reset), clock.timed(environments.step)
    act = batch.in_networks.timed(batch.step)

    def following(count: int) -> list[int]:
        return [next(waiting, IDLE) for _ in range(count)]

    playing = np.full(lanes, RESETTING)  # the episode of each sub-environment
    resting = decode(np.zeros((lanes, batch.output.shape[1]), dtype=np.float32))
    remaining = n
    try:
        if mode == AutoresetMode.DISABLED:
            playing[:] = following(lanes)
            observations, _ = reset(seed=episodes.seeds[playing].tolist())
        else:
            late = np.zeros(lanes, dtype=bool)
            if mode == AutoresetMode.NEXT_STEP:
                late = _settle(environments, int(episodes.seeds[0]), resting)
            playing[~late] = following(int(np.sum(~late)))
            observations, _ = reset(seed=int(episodes.seeds[0]))
        while remaining:
            if np.all((playing == DRAINING) | (playing == IDLE)):
                playing = np.array(following(lanes))
                observations, _ = reset(seed=int(episodes.seeds[playing[0]]))
            live = np.flatnonzero(playing >= 0)
            rows = playing[live]
            actions = resting.copy()
            if live.size:
                batch.raw[rows] = encode_batch(observation_space, observations)[live]
                actions[live] = decode(act(rows))
            observations, rewards, terminated, truncated, info = step(actions)
            done = np.asarray(terminated, dtype=bool) | np.asarray(truncated, dtype=bool)
            returns[rows] += np.asarray(rewards)[live]
            lengths[rows] += 1
            apart = done[live] & (mode == AutoresetMode.SAME_STEP)
            batch.travel.add_lanes(rows[~apart], info, live[~apart], lanes)
            batch.travel.add_lanes(rows[apart], _final(info), live[apart], lanes)
            cut = np.zeros(lanes, dtype=bool)
            cut[live] = lengths[rows] >= episodes.horizon
            remaining -= int(np.sum((done | cut)[live]))

            if mode == AutoresetMode.DISABLED:
                over = done | cut
                playing[over] = following(int(over.sum()))
                if np.any(over):
                    seeds = episodes.seeds[playing].tolist()
                    observations, _ = reset(seed=seeds, options={"reset_mask": over})
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


def _final(info: object) -> object:
    """The info of the step itself where sub-environments have been reset in the same step."""
    return info.get("final_info") if isinstance(info, Mapping) else None


def _settle(environments: VectorEnv, seed: int, resting: np.ndarray) -> NDArray[np.bool_]:
    """Make a vector environment of mode NEXT_STEP forget what was played on it before.

    A sub-environment whose episode has ended is to be reset by the next step, and some classes remember that over
    ``reset``: their next step would reset once more, and an episode would seem a step longer. Which sub-environments
    remember cannot be asked, but whoever has just been stepped remembers if and only if it is done.

    Returns
    -------
    ndarray of bool
        Which sub-environments the first step after ``reset`` will reset once more: none, unless a class that is not
        Gymnasium's has episodes of one step.
    """
    inner: Any = environments.unwrapped
    none = np.zeros(int(environments.num_envs), dtype=bool)
    asynchronous = isinstance(inner, AsyncVectorEnv) and inner.worker is None  # with Gymnasium's own workers
    if isinstance(inner, SyncVectorEnv) or (asynchronous and inner.shared_memory):
        return none
    if _is_functional(inner):
        inner.prev_done = inner.prev_done & False
        return none
    done = _first_step(environments, seed, resting)
    if not np.any(done):
        return none
    if asynchronous:  # workers reset whatever the action, and forget
        succeeded = np.ones_like(none)
        for lane in np.flatnonzero(done):
            inner.parent_pipes[lane].send(("step", None))
        for lane in np.flatnonzero(done):
            _, succeeded[lane] = inner.parent_pipes[lane].recv()
        inner._raise_if_errors(succeeded)
        return none
    again = _first_step(environments, seed, resting)
    return none if np.any(done & again) else again  # done twice in a row: it was not reset in between


def _first_step(environments: VectorEnv, seed: int, resting: np.ndarray) -> NDArray[np.bool_]:
    """Which sub-environments are done after the first step."""
    environments.reset(seed=seed)
    _, _, terminated, truncated, _ = environments.step(resting)
    done: NDArray[np.bool_] = np.asarray(terminated, dtype=bool) | np.asarray(truncated, dtype=bool)
    return done
