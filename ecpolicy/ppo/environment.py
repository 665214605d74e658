"""Environments as Stable-Baselines3's PPO trains on them."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ecpolicy.cleanup import cleaning_up
from ecpolicy.networks.numba.bits import LARGEST_OBSERVATION
from ecpolicy.rollout import answers
from ecpolicy.rollout.exclusive import exclusively
from ecpolicy.rollout.outcome import EpisodeError
from ecpolicy.rollout.seconds import Stopwatch
from ecpolicy.rollout.spaces_kept import SpacesKept
from ecpolicy.rollout.time_limit import TimeLimitError
from ecpolicy.rollout.workers import AnyEnv, Environment, close_all, make
from ecpolicy.spaces import action_decoder, action_outputs, observation_encoder, observation_size
from ecpolicy.untyped import Kwargs

LARGE = float(np.finfo(np.float32).max)


class TrainingEnv(gym.Wrapper[object, object, object, object]):
    """An environment with flat observations, and with the actions that Stable-Baselines3 knows how to sample.

    A Box of any shape is trained as a vector in [-1, 1] where it is bounded, which the deployed network's decoder maps
    to the action; choices count from zero.
    """

    def __init__(self, env: AnyEnv, clip: float) -> None:
        super().__init__(env)  # type: ignore[arg-type]
        space: Any = env.action_space
        self._clip, self._encode = clip, observation_encoder(env.observation_space)
        self.clock = Stopwatch()  # of what the environment takes
        self._guarded = self.clock.timed(self._guard)
        self._decode = action_decoder(space)
        self._original = space
        self._check_spaces = SpacesKept(env.observation_space, space)
        size = observation_size(env.observation_space)
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        if isinstance(space, spaces.Box):
            bound = np.where((space.bounded_below & space.bounded_above).reshape(-1), 1.0, LARGE).astype(np.float32)
            self.action_space = spaces.Box(-bound, bound, dtype=np.float32)
        elif isinstance(space, spaces.Discrete):
            self.action_space = spaces.Discrete(int(space.n))
        elif isinstance(space, spaces.MultiDiscrete):
            self.action_space = spaces.MultiDiscrete(space.nvec.reshape(-1))
        else:
            self.action_space = spaces.MultiBinary(action_outputs(space))

    def reset(self, *, seed: int | None = None, options: Kwargs | None = None) -> tuple[np.ndarray, Kwargs]:
        """The first observation, flat."""
        observation, _ = self._guarded(lambda: answers.begin(self.env, seed, options), "reset")
        self._check_spaces(self.env)
        return self._observe(observation), {}

    def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, Kwargs]:
        """One step with an action of the trained space.

        The environment's own info is left out: Stable-Baselines3 would take "episode" in it for its monitor's.
        """
        taken = self._action(action)
        answer = self._guarded(lambda: self.env.step(taken), "step")
        wrong = answers.wrong_step(answer)
        if wrong is not None:
            raise EpisodeError(f"{wrong}.")
        observation, reward, terminated, truncated, _ = answer
        if not abs(float(reward)) <= LARGE:
            raise EpisodeError(
                f"A reward is {reward}, not a finite number of single precision. Mend the environment, or wrap it to "
                "replace such values."
            )
        return self._observe(observation), float(reward), bool(terminated), bool(truncated), {}

    def _guard(self, call: Callable[[], Any], what: str) -> Any:
        try:
            return call()
        except (TimeLimitError, EpisodeError):
            raise
        except Exception as error:
            raise EpisodeError(f"The environment raised {type(error).__name__}: {error} in {what}.") from error

    def _action(self, action: Any) -> Any:
        space = self._original
        if isinstance(space, spaces.Box):
            return self._decode(np.asarray(action, dtype=np.float32)[None])[0]
        if isinstance(space, spaces.Discrete):
            return np.asarray(int(action) + int(space.start), dtype=space.dtype)[()]
        if isinstance(space, spaces.MultiDiscrete):
            return np.asarray(np.reshape(action, space.start.shape) + space.start, dtype=space.dtype)
        return np.asarray(np.reshape(action, space.shape), dtype=space.dtype)

    def _observe(self, observation: object) -> NDArray[np.float64]:
        try:
            flat = np.asarray(self._encode(observation), dtype=np.float64)
        except ValueError as error:
            raise EpisodeError(str(error)) from error
        if not (np.abs(flat) <= LARGEST_OBSERVATION).all():
            raise EpisodeError(
                f"An observation is NaN, infinite or beyond {LARGEST_OBSERVATION:g}: {flat}. Mend the environment, or "
                "wrap it to replace such values."
            )
        return np.clip(flat, -self._clip, self._clip)


@contextmanager
def training_environments(environments: Sequence[Environment], n: int, clip: float) -> Iterator[list[TrainingEnv]]:
    """``n`` environments that are stepped together; closed with the context."""
    made: list[TrainingEnv] = []
    with cleaning_up(lambda: close_all(made)):
        for i in range(n):
            made.append(training_environment(environments, clip, i, made))
        yield made


def training_environment(
    environments: Sequence[Environment], clip: float, i: int, others: Sequence[AnyEnv] = ()
) -> TrainingEnv:
    """Environment ``i`` of those that are stepped together, beside the others: the given ones take turns."""
    given = environments[i % len(environments)]
    if isinstance(given, gym.Env):
        try:
            with exclusively([given]):
                made: AnyEnv = copy.deepcopy(given)
        except Exception as error:
            raise ValueError(
                f"{given} cannot be copied ({type(error).__name__}: {error}), and training steps several at once. Give "
                "its id or a callable that makes one."
            ) from error
    else:
        assert callable(given)
        made = make(given, others)
    return TrainingEnv(made, clip)
