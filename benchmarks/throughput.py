"""Environment steps per second of ``fit`` on robots, beside the physics alone: Gymnasium's, and MuJoCo's batch engine.

A policy is trained for a while, so that robots move and neurons fire as they do in training. Then, in this process and
in turns, the same further generations are fitted by either engine and with one and two threads, and their episodes are
stepped bare, from the recorded initial states and actions: by ``gym.Env.step``, and by ``mujoco.batch.Batch`` on one
thread and on two that have half of the episodes each. Steps of the deployed network count on all sides. With EnvPool
installed, a fit on it with two threads stands beside; it plays other episodes, as its seeds are its own.
"""

import copy
import os
import tempfile
from functools import partial
from typing import ClassVar

import gymnasium as gym
import numpy as np

import runner
from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN

ROBOTS = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Humanoid-v5", "Ant-v5"]
OPTIONS = {"env": ROBOTS, "population": 128, "train_steps": 300_000, "generations": 4, "rounds": 3}
HORIZON = 500  # steps of an episode in training, so that a generation does not take long
LANES = 64
NETWORK = {"HalfCheetah-v5": RSNN(gain_in=0.3)}
REWARD = {"Hopper-v5", "Walker2d-v5", "Humanoid-v5", "Ant-v5"}  # without a bonus for standing, as they are tuned


def environment_of(name):
    spec = copy.deepcopy(gym.spec(name))
    spec.kwargs.update({"healthy_reward": 0.0} if name in REWARD else {})
    return spec


class Recorder(gym.Wrapper):
    """Keeps the seed, the initial state and the actions of every episode that it plays."""

    episodes: ClassVar[list] = []

    def reset(self, *, seed=None, options=None):
        answer = self.env.reset(seed=seed, options=options)
        inner = self.env.unwrapped
        self.actions = []
        self.episodes.append((seed, inner.data.qpos.copy(), inner.data.qvel.copy(), self.actions))
        return answer

    def step(self, action):
        self.actions.append(np.array(action))
        return self.env.step(action)


def policy_of(name, options, **changes):
    settings = {"population_size": options.population, "learning_rate": 0.3, "eps": 0.01, "random_state": 0,
                "max_episode_steps": HORIZON, "score_threshold": None, "n_generations": 10**6}  # fmt: skip
    return EvolvingConnectivityPolicy(**{**settings, "network": NETWORK.get(name), **changes})


def fitted(name, options, trained, environment, **changes):
    """Environment steps per second of a fit that starts where another one has come to, or anew."""
    start, statistics = 0.5, None
    if trained is not None:
        start = {part: np.array(p) for part, p in trained.connection_probabilities_.items()}
        moments = trained._training.search.moments
        statistics = moments.mean, moments.squares / moments.n, moments.n
    policy = policy_of(
        name, options, n_generations=options.generations, max_env_steps=None, initial_probability=start, **changes
    )
    seconds, _ = runner.seconds(partial(policy.fit, environment, observation_statistics=statistics))
    return (policy.n_env_steps_ + policy.history_[-1]["n_evaluation_steps"]) / seconds


def by_gymnasium(environment, episodes):
    for seed, _, _, actions in episodes:
        environment.reset(seed=seed)
        for action in actions:
            environment.step(action)


def by_batch(model, frame_skip, episodes, threads):
    """Seconds of MuJoCo's batch engine alone: lanes take the next episode where one is over."""
    import mujoco.batch

    def work(mine):
        batch = mujoco.batch.Batch(model, LANES, nthread=1)
        qpos, qvel, ctrl = (batch.bind(field) for field in ("qpos", "qvel", "ctrl"))
        waiting, playing = list(reversed(mine)), {}
        while waiting or playing:
            free = [lane for lane in range(LANES) if lane not in playing][: len(waiting)]
            if free:
                batch.reset(free, stage=0)
                for lane in free:
                    _, qpos[lane], qvel[lane], actions = waiting.pop()
                    playing[lane] = iter(actions)
                batch.forward(free)
            for lane in list(playing):
                action = next(playing[lane], None)
                if action is None:
                    del playing[lane]
                else:
                    ctrl[lane] = action
            if playing:
                batch.step(sorted(playing), nstep=frame_skip)

    return runner.threaded(work, [episodes[k::threads] for k in range(threads)])


def measure(name, options):
    """Steps per second of each way, by round."""
    spec = environment_of(name)
    start = policy_of(name, options, max_env_steps=options.train_steps, n_jobs=2).fit(spec)
    Recorder.episodes.clear()
    fitted(name, options, start, lambda: Recorder(gym.make(spec, disable_env_checker=True)), engine="gymnasium")
    episodes = [each for each in Recorder.episodes if each[3]]
    n_steps = sum(len(each[3]) for each in episodes)
    made = gym.make(spec, disable_env_checker=True)
    model, frame_skip = made.unwrapped.model, made.unwrapped.frame_skip
    ways = {
        "gymnasium physics": lambda: n_steps / runner.seconds(by_gymnasium, made, episodes)[0],
        "batch physics": lambda: n_steps / by_batch(model, frame_skip, episodes, 1),
        "batch physics, 2 threads": lambda: n_steps / by_batch(model, frame_skip, episodes, 2),
        "fit, gymnasium": lambda: fitted(name, options, start, spec, engine="gymnasium", n_jobs=1),
        "fit": lambda: fitted(name, options, start, spec, engine="mujoco", n_jobs=1),
        "fit, n_jobs=2": lambda: fitted(name, options, start, spec, engine="mujoco", n_jobs=2),
    }
    try:
        import envpool
    except ImportError:
        envpool = None
    if envpool is not None:
        kwargs = {key: value for key, value in spec.kwargs.items() if key == "healthy_reward"}
        pool = envpool.make_gymnasium(name.replace("-v5", "-v4"), num_envs=options.population, num_threads=2, **kwargs)
        if pool.single_observation_space.shape == made.observation_space.shape:
            ways["fit on EnvPool, 2 threads"] = lambda: fitted(name, options, start, pool)
        else:  # EnvPool has version 4 alone, which observes otherwise
            old = copy.deepcopy(gym.spec(name.replace("-v5", "-v4")))
            old.kwargs.update(kwargs)
            ways["fit of v4 anew, n_jobs=2"] = lambda: fitted(name, options, None, old, engine="mujoco", n_jobs=2)
            ways["fit of v4 anew on EnvPool, 2 threads"] = lambda: fitted(name, options, None, pool)
    return runner.in_turns(ways, options.rounds)


RATIOS = [("fit", "gymnasium physics"), ("fit", "batch physics"), ("fit", "fit, gymnasium"), ("fit, n_jobs=2", "fit"),
          ("batch physics, 2 threads", "batch physics"), ("fit, n_jobs=2", "fit on EnvPool, 2 threads"),
          ("fit of v4 anew, n_jobs=2", "fit of v4 anew on EnvPool, 2 threads")]  # fmt: skip


def rows(options):
    os.chdir(tempfile.mkdtemp())  # where MuJoCo may write its log
    for name in options.env:
        speeds = measure(name, options)
        for way, each in speeds.items():
            yield {"task": name, "way": way, "steps/s": each}
        for one, other in RATIOS:
            if other in speeds:
                yield {"task": name, "way": f"{one} over {other}", "ratio": speeds[one] / speeds[other]}
