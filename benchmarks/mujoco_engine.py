"""Gymnasium's MuJoCo tasks, native against ``gym.Env``: that all numbers are the same, and what a step takes.

Every task is played by Gymnasium first: lanes of so many steps with random actions, some out of range, and the next
seed wherever an episode ends. The native engine then plays all lanes at once, from the same seeds and actions, and each
observation, reward, termination and info has to be equal. The times are microseconds per step of one environment, from
rounds that alternate in this process: ``gym.Env`` as gym.make gives it, with resets; the native
engine, with resets; and MuJoCo's Batch alone on the same states. The last two are also timed on two threads that have
simulations each, as time divided by the steps of both.
"""

import os
import tempfile
import warnings
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

import runner
from ecpolicy.rollout.mujoco.recognised import recognised
from ecpolicy.rollout.mujoco.robot import Robot
from ecpolicy.rollout.mujoco.simulations import Simulations

NAMES = ("HalfCheetah", "Hopper", "Walker2d", "Swimmer", "Ant", "Humanoid", "HumanoidStandup", "InvertedPendulum",
         "InvertedDoublePendulum", "Reacher", "Pusher")  # fmt: skip
IDS = [f"{name}-{version}" for version in ("v5", "v4") for name in NAMES if f"{name}-{version}" != "Pusher-v4"]
# Lanes and steps that are compared, and steps that are timed; 0 for none.
OPTIONS = {"steps": 1000, "episodes": 32, "timed_steps": 200, "rounds": 5, "env": IDS}
LANES = 16  # simulations at once in the timings
REACH = 1.3  # actions go so far beyond their bounds


class Played(NamedTuple):
    """What Gymnasium made of some lanes; lists over steps, then lanes."""

    actions: Any  # (steps, lanes, action_size)
    starts: list  # {lane: (seed, observation, state)} of the episodes that start before the step
    answers: list  # (observation, reward, terminated, info)


def play(environment, steps, lanes):
    """Play lanes of steps by ``gym.Env``, one after the other."""
    import mujoco

    inner, space = environment.unwrapped, environment.action_space
    random = np.random.default_rng(0)
    actions = random.uniform(REACH * space.low, REACH * space.high, (steps, lanes, *space.shape)).astype(space.dtype)
    played = Played(actions, [{} for _ in range(steps)], [[] for _ in range(steps)])
    state = np.empty(mujoco.mj_stateSize(inner.model, mujoco.mjtState.mjSTATE_INTEGRATION))
    for lane in range(lanes):
        seed, over = 1000 * lane, True
        for step in range(steps):
            if over:
                observation, _ = inner.reset(seed=seed)
                mujoco.mj_getState(inner.model, inner.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
                played.starts[step][lane] = seed, observation, state.copy()
                seed += 1
            observation, reward, over, _, info = inner.step(actions[step, lane])
            played.answers[step].append((observation, reward, over, info))
    return played


def same(one, other):
    return np.array_equal(one, other, equal_nan=True)


def difference(robot, played):
    """Where simulations of a robot first differ from what Gymnasium played, in words, or None."""
    lanes = played.actions.shape[1]
    simulations, random = Simulations(robot, lanes), np.random.default_rng(1)
    for step, (starts, answers) in enumerate(zip(played.starts, played.answers, strict=True)):
        simulations.reset(list(starts), [seed for seed, _, _ in starts.values()])
        for lane, (seed, observation, _) in starts.items():
            if not same(simulations.observations[lane], observation):
                return f"the observation after reset(seed={seed})"
        for rows in np.split(random.permutation(lanes), [random.integers(lanes)]):  # in two parts, in any order
            simulations.step(rows, played.actions[step, rows])
        for lane, (observation, reward, over, info) in enumerate(answers):
            where = f"in step {step} of lane {lane}"
            if not same(simulations.observations[lane], observation):
                return f"the observation {where}"
            if not same(simulations.rewards[lane], reward) or simulations.terminated[lane] != over:
                return f"the reward or the termination {where}"
            if simulations.info.keys() != info.keys():
                return f"the names in info: {sorted(info)}"
            wrong = [name for name in info if not same(simulations.info[name][lane], info[name])]
            if wrong:
                return f"{wrong} in info {where}"
    return None


def by_gymnasium(environment, played):
    """All steps and resets by ``gym.Env``."""
    steps, lanes = played.actions.shape[:2]
    for lane in range(lanes):
        for step in range(steps):
            if lane in played.starts[step]:
                environment.reset(seed=played.starts[step][lane][0])
            environment.step(played.actions[step, lane])


def native(played, simulations):
    """All steps and resets by the native engine."""
    lanes = np.arange(played.actions.shape[1])
    for starts, actions in zip(played.starts, played.actions, strict=True):
        for lane, (seed, _, _) in starts.items():
            simulations.reset([lane], [seed])
        simulations.step(lanes, actions)


def bare(frame_skip):
    """All steps by MuJoCo's Batch."""

    def work(played, batch):
        ctrl = batch.bind("ctrl")
        for starts, actions in zip(played.starts, played.actions, strict=True):
            for lane, (_, _, state) in starts.items():
                batch.state[lane] = state
            ctrl[:] = actions
            batch.step(nstep=frame_skip)

    return work


def times(environment, robot, options):
    """Microseconds per step, by round, of Gymnasium, and of native and bare on one and two threads."""
    import mujoco.batch

    played = play(environment, options.timed_steps, LANES)
    simulations = [Simulations(robot, LANES) for _ in range(2)]
    batches = [mujoco.batch.Batch(robot.model, LANES, nthread=1) for _ in range(2)]
    by_native, by_batch = partial(native, played), partial(bare(robot.frame_skip), played)
    sides = {
        "gym.Env": lambda: runner.seconds(by_gymnasium, environment, played)[0],
        "native": lambda: runner.threaded(by_native, simulations[:1]),
        "native, two threads": lambda: runner.threaded(by_native, simulations) / 2,
        "Batch": lambda: runner.threaded(by_batch, batches[:1]),
        "Batch, two threads": lambda: runner.threaded(by_batch, batches) / 2,
    }
    seconds = runner.in_turns(sides, options.rounds)
    return {side: each / played.actions.shape[0] / LANES * 1e6 for side, each in seconds.items()}


def rows(options):
    warnings.simplefilter("ignore")
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # MuJoCo writes MUJOCO_LOG.TXT where it is
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # and warns on stderr
        for env_id in options.env:
            environment = gym.make(env_id)
            robot = recognised(environment)
            assert isinstance(robot, Robot), robot
            row = {"task": env_id}
            if options.steps:
                found = difference(robot, play(environment, options.steps, options.episodes))
                row["numbers"] = "equal" if found is None else f"differ: {found}"
                wrong += [] if found is None else [env_id]
            yield row | (times(environment, robot, options) if options.timed_steps else {})
        os.chdir("/")
    assert not wrong, wrong
