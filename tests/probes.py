"""Environments whose best return is known, environments that misbehave in one way each, and a network of one's own."""

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ecpolicy.networks import Shape
from ecpolicy.networks.layout import unpack

SEED = int(os.environ.get("ECPOLICY_TEST_SEED", "0"))  # of random fits and arrays in the tests: any will do


class Match(gym.Env):
    """Ten steps; the observation is -1 or 1 at random; reward 1 for the action that names it. Best return 10."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    length = 10

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        reward = float(action == (self.sign > 0))
        self.t += 1
        return self._observe(), reward, self.t >= self.length, False, {}

    def _observe(self):
        self.sign = 1 if self.np_random.random() < 0.5 else -1
        return np.array([self.sign], np.float32)


class Lengths(Match):
    """Episodes of a random length up to 20, so that members finish at different times."""

    steps_taken = 0

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        self.length = int(self.np_random.integers(1, 20))
        return observation, info

    def step(self, action):
        type(self).steps_taken += 1
        return super().step(action)


class Spaces(gym.Env):
    """Three steps of any observation and action space; checks every action it gets."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), (action, self.action_space)
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t >= 3, False, {}


class Broken(Match):
    """Misbehaves at the fourth step in the way ``how`` says, from the ``after``-th episode of this instance on."""

    def __init__(self, how: str, after: int = 0):
        self.how, self.after, self.episodes = how, after, 0

    def reset(self, **kwargs: Any):
        self.episodes += 1
        return super().reset(**kwargs)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.t == 4 and self.episodes > self.after:
            if self.how == "raises":
                raise ZeroDivisionError("the plant exploded")
            if self.how == "nan observation":
                observation = np.array([np.nan], np.float32)
            if self.how == "nan reward":
                reward = float("nan")
            if self.how == "shape":
                observation = np.zeros((2, 2), np.float32)
        return observation, reward, terminated, truncated, info


class DiesOnce(Match):
    """Kills its process the first time that it is stepped anywhere: the file at ``path`` remembers."""

    def __init__(self, path: str):
        self.path = Path(path)

    def step(self, action):
        if not self.path.exists():
            self.path.touch()
            os._exit(1)
        return super().step(action)


class Dies(Match):
    """Kills the process that steps it."""

    def step(self, action):
        os._exit(1)


class Hangs(Match):
    """Sleeps for ever at the fourth step."""

    def step(self, action):
        if self.t == 3:
            time.sleep(3600)
        return super().step(action)


class HangsDeaf(Match):
    """Sleeps for ever at the fourth step, and a timer cannot wake it, as in compiled code."""

    def step(self, action):
        if self.t == 3:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(3600)
        return super().step(action)


class NotesItsProcess(Match):
    """Leaves a file named after its process in a folder, at every episode; steps may take a while, and leak memory."""

    leaked: ClassVar[list] = []

    def __init__(self, folder, seconds_per_step: float = 0.0, bytes_leaked: int = 0):
        self.folder, self.seconds, self.bytes_leaked = Path(folder), seconds_per_step, bytes_leaked

    def reset(self, **kwargs: Any):
        (self.folder / str(os.getpid())).touch()
        self.leaked.append(b"x" * self.bytes_leaked)
        return super().reset(**kwargs)

    def step(self, action):
        time.sleep(self.seconds)
        return super().step(action)


class Counts(Match):
    """Leaves a file in a folder for every instance that is open; closing may fail."""

    def __init__(self, folder, fails: bool = False):
        self.fails = fails
        self.mark = Path(folder) / f"{os.getpid()}-{id(self)}"
        self.mark.touch()

    def close(self):
        self.mark.unlink()
        if self.fails:
            raise OSError("the plug is stuck")


class Board(Match):
    """Writes into an array that it was made with."""

    def __init__(self, board):
        self.board = board

    def step(self, action):
        self.board[:] += 1
        return super().step(action)


class ChangesSpaces(Match):
    """Has other spaces from its second episode on, in the way ``how`` says, or another in every instance."""

    made = 0

    def __init__(self, how: str):
        self.how, self.episodes = how, 0
        type(self).made += 1
        if how == "instance" and self.made > 2:
            self.action_space = spaces.Discrete(3)

    def reset(self, **kwargs: Any):
        self.episodes += 1
        if self.how == "episode" and self.episodes > 1:
            self.observation_space = spaces.Box(-2, 2, (1,), np.float32)
        return super().reset(**kwargs)


class Pool(gym.vector.VectorEnv):
    """A pool of ``make()``: any sub-environments can be stepped, and it answers in an order of its own."""

    def __init__(self, make, lanes):
        self._environments = [make() for _ in range(lanes)]
        self.num_envs = lanes
        first = self._environments[0]
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.n_steps = 0

    def reset(self, env_id=None, *, seed=None, options=None):
        ids = np.arange(self.num_envs)[env_id][::-1]
        return np.array([self._environments[i].reset()[0] for i in ids]), {"env_id": ids}

    def step(self, actions, env_id=None):
        ids = np.arange(self.num_envs)[env_id]
        self.n_steps += ids.size
        answers = [self._environments[i].step(action) for i, action in zip(ids, actions, strict=True)]
        observations, rewards, terminated, truncated, _ = (np.array(part[::-1]) for part in zip(*answers, strict=True))
        return observations, rewards, terminated, truncated, {"env_id": ids[::-1]}


class Known(gym.Env):
    """Episodes whose lengths and returns are known: step t pays t, and a half more for action 1.

    What is observed depends on the step alone, and so do the actions of a network that always starts alike.

    Parameters
    ----------
    lengths : tuple of int
        Steps of the episodes: ``reset(seed=s)`` begins number ``s % len(lengths)``, and without a seed the next one.
    pause : float
        Seconds that a step takes, in which other threads run.
    info : dict, optional
        Of every step, and of every reset.
    """

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, lengths, pause=0.0, info=None):
        self.lengths, self.pause, self.info, self.number = lengths, pause, info or {}, -1

    def reset(self, *, seed=None, options=None):
        self.number = self.number + 1 if seed is None else int(seed)
        self.t, self.length = 0, self.lengths[self.number % len(self.lengths)]
        return self._observe(), dict(self.info)

    def step(self, action):
        if self.t >= self.length:
            raise RuntimeError(f"step {self.t + 1} of an episode of {self.length}")
        self.t += 1
        time.sleep(self.pause)
        return self._observe(), self.t + 0.5 * float(action), self.t >= self.length, False, dict(self.info)

    def _observe(self):
        return np.array([1 if self.t % 3 else -1], np.float32)


@dataclass(frozen=True)
class Linear:
    """One matrix, of real weights or of bits."""

    bits: bool = False

    def shapes(self, obs_size, n_outputs):
        return {"output": Shape(obs_size, n_outputs)}

    def initial_scales(self, obs_size, n_outputs):
        return {"output": 0.1}

    def initial_state(self, keys, n_outputs):
        return ()

    def step(self, connections, state, x, output, *, owners, rows):
        matrix = connections["output"][owners[rows]]
        matrix = 2.0 * unpack(matrix, output.shape[1]) - 1 if self.bits else matrix
        output[rows] = np.einsum("ri,rio->ro", x[rows], matrix)


class DeviceState(NamedTuple):
    """State of an environment in JAX, as Brax and MuJoCo Playground have it."""

    obs: Any
    reward: Any
    done: Any
    info: Any
    metrics: Any


@contextmanager
def usual_promotion():
    """JAX as users have it: Brax mixes dtypes and ranks, which other tests do not allow."""
    import jax
    import pytest

    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("JAX_NUMPY_DTYPE_PROMOTION")
        patch.delenv("JAX_NUMPY_RANK_PROMOTION")
        yield


class DeviceMatch:
    """Match in JAX: reward 1 for an action of the sign that the observation shows.

    Parameters
    ----------
    length : int
        Steps of an episode.
    random_length : bool
        Episodes last 3 to 3 + ``length`` steps, so that members finish at different times.
    spoilt : str
        "observation" or "reward" turns NaN at the second step of every episode.
    privileged : bool
        Observations are a dict, as in Playground.
    walks : bool
        Metrics hold a speed of as many m/s as steps were made, and a position.
    """

    observation_size = 2
    action_size = 1

    def __init__(self, length=10, *, random_length=False, spoilt="", privileged=False, walks=False):
        self.walks = walks
        self.length, self.random_length, self.spoilt, self.privileged = length, random_length, spoilt, privileged

    def reset(self, rng):
        import jax
        import jax.numpy as jnp

        key, length_key = jax.random.split(rng)
        last = jax.random.randint(length_key, (), 3, 4 + self.length) if self.random_length else self.length
        return self._observe(key, jnp.int32(last), jnp.int32(0), 0.0, 0.0)

    def step(self, state, action):
        import jax.numpy as jnp

        key, last, t, sign = state.info
        t = t + 1
        reward = jnp.where(sign * action[0] > 0, 1.0, 0.0)
        if self.spoilt == "reward":
            reward = jnp.where(t == 2, jnp.nan, reward)
        return self._observe(key, last, t, reward, t >= last)

    def _observe(self, key, last, t, reward, done):
        import jax
        import jax.numpy as jnp

        sign = jnp.where(jax.random.bernoulli(jax.random.fold_in(key, t)), 1.0, -1.0)
        reward, done, speed = (jnp.asarray(value, jnp.float32) for value in (reward, done, t))
        obs = jnp.stack([sign, 0.1 * speed])
        if self.spoilt == "observation":
            obs = jnp.where(t == 1, jnp.nan, obs)
        obs = {"state": obs, "privileged_state": jnp.zeros(7)} if self.privileged else obs
        metrics = {"x_velocity": speed, "x_position": 2 * speed} if self.walks else {}
        return DeviceState(obs, reward, done, (key, last, t, sign), metrics)


class Anything(gym.Env):
    """Random observations, and any action space."""

    def __init__(self, action_space):
        self.observation_space, self.action_space = gym.spaces.Box(-3, 3, (2, 2), np.float64), action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 30
        return self.np_random.normal(size=(2, 2)), {}

    def step(self, action):
        assert self.action_space.contains(action) or not np.isfinite(self.action_space.low).all()
        self._left -= 1
        return self.np_random.normal(size=(2, 2)), float(np.sum(action)), self._left == 0, False, {}


ACTION_SPACES = [  # a kind each; a box with bounded sides and others
    gym.spaces.Discrete(5, start=-2),
    gym.spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [-1, 5]]),
    gym.spaces.MultiBinary((2, 2)),
    gym.spaces.Box(np.array([-np.inf, -1.0, -0.2], np.float32), np.array([np.inf, np.inf, 0.2], np.float32)),
]
