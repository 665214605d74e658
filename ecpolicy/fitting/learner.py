"""What a learner and an estimator are to a fit: the protocols that it is written against."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from ecpolicy.environments import ENDLESS_EPISODE, Resolved
from ecpolicy.fitting.backends import Engine, Plays
from ecpolicy.fitting.deployed import Deployable, DeployedPolicy
from ecpolicy.fitting.judge import Judge
from ecpolicy.history import Record
from ecpolicy.networks import Network
from ecpolicy.normalization import Moments
from ecpolicy.spaces import action_outputs, observation_size
from ecpolicy.untyped import Kwargs, Space


class Training(Protocol):
    """All that continues a training, in plain arrays; what a learner makes of it is its own."""

    @property
    def generation(self) -> int:
        """Steps of the learner so far: generations of a search, updates of a gradient method."""

    @property
    def n_env_steps(self) -> int:
        """Environment steps so far, apart from the deployed network's."""

    @property
    def solved_at(self) -> float | None:
        """The score threshold that was reached."""


T = TypeVar("T", bound=Training)


class Learner(Protocol[T]):
    """What trains: it takes one training to the next."""

    def start(self, moments: Moments) -> T:
        """A new training, with the moments of observations made before it."""

    def resume(self, training: T) -> T:
        """Go on from an earlier training; raise ValueError where it does not fit the parameters."""

    def measure_again(self, training: T) -> T:
        """Measure the network that was kept on what is trained on now."""

    def advance(self, training: T, goes_on: Callable[[T], bool]) -> tuple[T, Record]:
        """One step, and its record; ``goes_on`` says of a training whether a further step is wanted after it."""


class Run(NamedTuple):
    """What a fit works with, checked."""

    network: Network
    resolved: Resolved
    backend: str  # "numpy" or "jax"
    engine: Engine
    seed: int
    runner: Plays
    judge: Judge

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in a flattened observation, and outputs that the action space takes."""
        return observation_size(self.resolved.observation_space), action_outputs(self.resolved.action_space)


class Trainable(Generic[T]):
    """What every estimator is to a fit: its parameters as far as they concern all of them, and what it brings along."""

    network: Network | None
    backend: str
    engine: str
    chunk_size: int | None
    n_jobs: int | None
    timeout: float | None
    score_threshold: float | str | None
    eval_episodes: int
    confirm_episodes: int
    max_env_steps: int | None
    warm_start: bool
    random_state: int | np.random.Generator | np.random.RandomState | None
    verbose: int
    eval_every: int = 1  # steps between two evaluations
    stop_reason_: str | None
    history_: Sequence[Record]
    n_features_in_: int
    observation_space_: Space
    action_space_: Space
    seed_: int
    _deployed: DeployedPolicy
    _n_sampled: int
    _training: Any  # a T, or what stands for one that was not saved

    @property
    def environments_(self) -> tuple[str, ...]:
        """What the policy was trained on."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, network: Network | None = None) -> Self:
        """The policy of a file."""
        raise NotImplementedError

    def get_params(self, deep: bool = True) -> Kwargs:
        """The constructor parameters."""
        raise NotImplementedError

    def _check(self) -> Network:
        """Check the parameters; the network that they describe."""
        raise NotImplementedError

    def _check_environments(self, resolved: Resolved) -> None:
        """Raise where the estimator cannot train on these."""

    def _most_generations(self) -> float:
        """Steps of the learner after which a fit ends."""
        return np.inf

    def _endless_episode(self) -> float:
        """Steps that are played of an environment without a time limit."""
        return ENDLESS_EPISODE

    def _learner(self, run: Run, closing: ExitStack) -> Learner[T]:
        """What trains on them; what must be closed after the fit goes on the stack."""
        raise NotImplementedError

    def _deployable(self, training: T, n_outputs: int) -> Deployable:
        """The best network of a training, or the last."""
        raise NotImplementedError

    def _training_schema(self, setting: Any, obs_size: int, n_outputs: int) -> T:
        """What a file holds of a training."""
        raise NotImplementedError

    def _shown_schema(self, n_outputs: int) -> dict[str, object]:
        """The fitted attributes that a file of the deployed network alone holds."""
        raise NotImplementedError
