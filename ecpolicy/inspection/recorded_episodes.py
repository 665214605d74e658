"""Episodes of a deployed policy as plain arrays, for offline reinforcement learning, imitation and statistics."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.constraints import Integer, optional
from ecpolicy.environments import resolve
from ecpolicy.files.archive import check_writable
from ecpolicy.fitting.evaluation import episode_seeds
from ecpolicy.inspection.activity import one_environment
from ecpolicy.optional import require
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.rollout.outcome import mean_and_std
from ecpolicy.untyped import Space

if TYPE_CHECKING:
    from pandas import DataFrame


class Episode(NamedTuple):
    """An episode, in the fields of Minari's ``EpisodeBuffer``."""

    seed: int  #: it began with ``reset(seed=seed)``
    observations: np.ndarray  #: (steps + 1, ...) as they came, and the last one; flat where they are Dict or Tuple
    actions: np.ndarray  #: (steps, ...)
    rewards: NDArray[np.float64]  #: (steps,)
    terminations: NDArray[np.bool_]  #: (steps,)
    truncations: NDArray[np.bool_]  #: (steps,) also where ``max_episode_steps`` cut the episode


PARTS = Episode._fields[1:]


class RecordedEpisodes(NamedTuple):
    """Episodes of a policy, as :func:`record_episodes` returns them."""

    episodes: tuple[Episode, ...]

    @property
    def returns(self) -> NDArray[np.float64]:
        """Sum of rewards of every episode, (n_episodes,)."""
        return np.array([np.cumsum(episode.rewards)[-1] for episode in self.episodes])  # one after the other

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of every episode, (n_episodes,)."""
        return np.array([len(episode.rewards) for episode in self.episodes], np.int64)

    def __repr__(self) -> str:
        mean, std = mean_and_std(self.returns)
        n, steps = len(self.episodes), self.lengths.sum()
        return f"RecordedEpisodes({n} episode{'' if n == 1 else 's'}, {steps:,} steps, return {mean:.2f} ± {std:.2f})"

    def to_npz(self, path: str | os.PathLike[str]) -> Path:
        """Write one compressed NumPy file, which ``numpy.load`` reads.

        It holds ``seeds`` and ``lengths`` (n_episodes,), and ``observations``, ``actions``, ``rewards``,
        ``terminations`` and ``truncations`` of all episodes one after the other: an episode has ``length + 1``
        observations and ``length`` of the others.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f'The arrays are a NumPy file: give a path that ends in ".npz", got {str(path)!r}.')
        check_writable(path)
        parts: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in self.episodes]) for name in PARTS}
        seeds = np.array([episode.seed for episode in self.episodes], np.int64)
        np.savez_compressed(path, seeds=seeds, lengths=self.lengths, **parts)
        return path

    @classmethod
    def from_npz(cls, path: str | os.PathLike[str]) -> Self:
        """The episodes of a file that ``to_npz`` wrote. No code from the file is run."""
        with np.load(path, allow_pickle=False) as held:
            ends = np.cumsum(held["lengths"])[:-1]
            starts = {"observations": ends + np.arange(1, ends.size + 1)}
            parts = [np.split(held[name], starts.get(name, ends)) for name in PARTS]
            seeds = held["seeds"].tolist()
        return cls(tuple(Episode(*each) for each in zip(seeds, *parts, strict=True)))

    def to_pandas(self) -> "DataFrame":
        """A row a step: episode, seed, step, the observation acted upon, the action, the reward, how it went on.

        Numbers of an observation and of an action have columns of their own, ``observation_0`` and so on.

        Raises
        ------
        ImportError
            Where pandas is missing: ``pip install "ecpolicy[connectome]"``.
        """
        require("pandas", "to_pandas", extra="connectome")
        import pandas as pd

        tables = [pd.DataFrame(_columns(n, episode)) for n, episode in enumerate(self.episodes)]
        return pd.concat(tables, ignore_index=True)


def _columns(number: int, episode: Episode) -> dict[str, Any]:
    """What a table holds of an episode, by column."""
    steps = len(episode.rewards)
    found: dict[str, Any] = {"episode": number, "seed": episode.seed, "step": np.arange(steps)}
    for name, part in (("observation", episode.observations[:-1]), ("action", episode.actions)):
        found |= {f"{name}_{i}": column for i, column in enumerate(part.reshape(steps, -1).T)}
    return {**found, "reward": episode.rewards, "termination": episode.terminations, "truncation": episode.truncations}


def record_episodes(
    policy: BasePolicy,
    environment: object,
    *,
    n_episodes: int = 20,
    seed: int | None = None,
    max_episode_steps: int | None = None,
) -> RecordedEpisodes:
    """Play episodes with the deployed network and keep what was observed, done and earned.

    They are those of ``policy.evaluate`` with the same numbers.

    Parameters
    ----------
    policy : fitted policy
    environment : environment
        An id, a ``gymnasium.Env``, an ``EnvSpec`` or a callable that makes one.
    n_episodes : int
    seed : int or None
        Episode k starts from ``env.reset(seed=seed + k)``. None takes seeds from ``random_state``.
    max_episode_steps : int or None
        Cut episodes after so many steps. None plays until the environment ends them.

    Returns
    -------
    RecordedEpisodes

    Raises
    ------
    NotFittedError
    TypeError
        Where the environment is not one Gymnasium environment.
    ValueError
        Where its spaces are not those of the training, or a number is out of range.

    What the environment raises comes out as it is.

    Examples
    --------
    >>> import ecpolicy
    >>> from ecpolicy.inspection import record_episodes
    >>> record_episodes(ecpolicy.pretrained("CartPole-v1"), "CartPole-v1", n_episodes=2, seed=0)
    RecordedEpisodes(2 episodes, 1,000 steps, return 500.00 ± 0.00)
    """
    check_is_fitted(policy, "_deployed")
    Integer(1)("n_episodes", n_episodes)
    optional(Integer(1))("max_episode_steps", max_episode_steps)
    wanted = np.inf if max_episode_steps is None else float(max_episode_steps)
    (seeds,) = episode_seeds(policy._deployed.seed, 1, n_episodes, seed).tolist()
    with one_environment(policy, environment) as made:
        (horizon,) = resolve(made).horizons(wanted, otherwise=policy._endless_episode())
        return RecordedEpisodes(tuple(_play(policy, made, each, horizon) for each in seeds))


def _play(policy: BasePolicy, environment: Any, seed: int, horizon: float) -> Episode:
    observation, _ = environment.reset(seed=seed)
    observations, state = [_plain(environment.observation_space, observation)], None
    steps: list[tuple[object, float, bool, bool]] = []
    while not steps or not any(steps[-1][2:]):
        action, state = policy.predict(observation, state)
        observation, reward, terminated, truncated, _ = environment.step(action)
        cut = bool(truncated) or (not terminated and len(steps) + 1 >= horizon)
        steps.append((action, float(reward), bool(terminated), cut))
        observations.append(_plain(environment.observation_space, observation))
    return Episode(seed, np.stack(observations), *(np.array(part) for part in zip(*steps, strict=True)))


def _plain(space: Space, observation: object) -> np.ndarray:
    """An array of its own: environments may give the same one again."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        observation = spaces.flatten(space, observation)
    return np.array(observation)
