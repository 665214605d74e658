"""What comes back from playing episodes: scalars and observation sums, never connections."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecpolicy.networks.numba.bits import LARGEST_OBSERVATION
from ecpolicy.normalization import Moments
from ecpolicy.rollout.seconds import Seconds

X_VELOCITY, X_POSITION = TRAVEL = "x_velocity", "x_position"  # what locomotion tasks report of a step, in m/s and m


LARGE = 1e150  # squares of numbers up to it are finite
NUMBER = (float, int, np.floating, np.integer)


class EpisodeError(RuntimeError):
    """An environment or a network raised, or an observation or a reward cannot be learnt from."""


MEND = "Mend the environment, or wrap it to replace such values."


def bad_observation(observation: NDArray[np.float64]) -> str:
    """In words, what is wrong with an observation that cannot be learnt from."""
    finite = np.isfinite(observation).all()
    what = f"too large, beyond {LARGEST_OBSERVATION:g}" if finite else "NaN or infinite"
    return f"An observation is {what}: {observation},"


def started_with(seed: object) -> str:
    """How an episode is named."""
    return f"the episode started with reset(seed={seed})"


def bad_return(total: float, episode: str) -> str:
    """In words, what is wrong with a return that is not finite."""
    return (
        f"The return is {total} in {episode}: a reward was NaN or infinite, or all of them together are too large. "
        "Mend the environment."
    )


def network_failed(network: object, error: Exception) -> EpisodeError:
    """The error of a network of the user's own."""
    return EpisodeError(f"{network} raised {type(error).__name__}: {error} in its step.")


class Episodes(NamedTuple):
    """Episodes to play on one environment; arrays over episodes."""

    owners: NDArray[np.int64]  # which network plays
    membrane_keys: NDArray[np.uint32]  # (episodes, 2) initial membrane potentials
    seeds: NDArray[np.int64]  # for env.reset(seed=...)
    horizon: float  # steps after which an episode is cut, inf for never


class Outcome(NamedTuple):
    """Episodes played: one row per member, one column per episode."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    moments: Moments  # of all observations acted upon
    travel: NDArray[np.float64]  # (members, episodes, 2) mean x-velocity, m/s, and last x-position, m; NaN if unknown
    seconds: Seconds = Seconds()  # that playing took, where that is measured

    @classmethod
    def of(cls, returns: ArrayLike, lengths: ArrayLike = 0, moments: Moments | None = None) -> Self:
        """What a simulator of one's own has to tell.

        Parameters
        ----------
        returns : array, shape (members,) or (members, episodes)
        lengths : array of the same shape, or int
            Steps of each episode, as far as they are of interest.
        moments : Moments, optional
            Of the observations that members acted upon, where these are to be standardised.

        Returns
        -------
        Outcome

        Raises
        ------
        ValueError
            Where a return is not finite.
        """
        paid = np.array(returns, np.float64)
        paid = paid[:, None] if paid.ndim == 1 else paid
        if paid.ndim != 2 or not np.isfinite(paid).all():
            raise ValueError(f"returns must be finite numbers (members,) or (members, episodes); got {paid}.")
        steps = np.broadcast_to(np.asarray(lengths, np.int64).reshape(-1, *([1] * (np.ndim(lengths) == 1))), paid.shape)
        return cls(paid, steps.copy(), moments or Moments.empty(0), np.full((*paid.shape, 2), np.nan))

    @property
    def fitness(self) -> NDArray[np.float64]:
        """Mean return of each member."""
        return np.asarray(mean_and_std(self.returns, axis=1)[0])

    @property
    def n_steps(self) -> int:
        """Environment steps in all."""
        return int(self.lengths.sum())


def mean_and_std(values: NDArray[np.float64], axis: int | None = None) -> tuple[Any, Any]:
    """Mean and standard deviation of finite numbers, finite themselves: the sum of squares of large ones is not."""
    scale = np.abs(values).max(initial=0.0)
    if scale > LARGE:
        mean, std = mean_and_std(values / scale, axis)
        return mean * scale, std * scale
    mean, std = values.mean(axis=axis), values.std(axis=axis)
    return (float(mean), float(std)) if axis is None else (mean, std)


class EvaluatedEpisodes(NamedTuple):
    """Episodes of a deployed network: arrays (n_episodes, n_environments)."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]  #: steps
    x_velocities: NDArray[np.float64]  #: mean over the episode, m/s; NaN where the environment reports none
    x_positions: NDArray[np.float64]  #: at the end, m: the distance travelled, as these tasks start at about 0

    def __repr__(self) -> str:
        mean, std = mean_and_std(self.returns)
        episodes, environments = self.returns.shape
        each = "" if environments == 1 else f" on each of {environments} environments"
        speed = f", {self.x_velocities.mean():.2f} m/s" if np.isfinite(self.x_velocities).all() else ""
        return (
            f"EvaluatedEpisodes({episodes} episode{'' if episodes == 1 else 's'}{each}, return {mean:.2f} ± {std:.2f}, "
            f"length {self.lengths.mean():.1f}{speed})"
        )


class Travel:
    """How far episodes went, summed up from what locomotion tasks report in ``info`` beside the reward.

    Whatever else is in ``info`` under these names is passed over, and an episode of which some step was not reported
    counts as not reported.
    """

    def __init__(self, n_episodes: int) -> None:
        self._reported = np.zeros(n_episodes, dtype=np.int64)  # steps
        self._velocities = np.zeros(n_episodes)
        self._positions = np.full(n_episodes, np.nan)

    def add(self, episode: int, info: object) -> None:
        """Note a step of an episode."""
        if info.__class__ is not dict and not isinstance(info, Mapping):
            return
        velocity, position = info.get(X_VELOCITY), info.get(X_POSITION)
        if isinstance(velocity, NUMBER) and isinstance(position, NUMBER):
            self._reported[episode] += 1
            self._velocities[episode] += velocity
            self._positions[episode] = position

    def add_lanes(self, rows: NDArray[np.intp], info: object, lanes: NDArray[np.intp] | slice, n_lanes: int) -> None:
        """Note a step of these episodes, which a vector environment plays in these of its lanes."""
        if not isinstance(info, Mapping) or TRAVEL[0] not in info:
            return
        try:
            velocity, position = (np.asarray(info.get(name)) for name in TRAVEL)
            masks = [np.broadcast_to(np.asarray(info.get(f"_{name}", True), dtype=bool), n_lanes) for name in TRAVEL]
        except (TypeError, ValueError):  # ragged, or masks of another shape
            return
        if any(part.dtype.kind not in "fiu" or part.shape != (n_lanes,) for part in (velocity, position)):
            return
        told = np.logical_and.reduce(masks)[lanes]
        rows = rows[told]
        self._reported[rows] += 1
        self._velocities[rows] += velocity[lanes][told]
        self._positions[rows] = position[lanes][told]

    def of(self, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean velocity and last position (episodes, 2) of episodes of these lengths."""
        means = np.stack([self._velocities / np.maximum(lengths, 1), self._positions], axis=1)
        return np.where((self._reported == lengths)[:, None], means, np.nan)


def beside(outcomes: Sequence[Outcome]) -> Outcome:
    """The same members on several environments, one after the other: columns are appended."""
    return _join(outcomes, axis=1)


def below(outcomes: Sequence[Outcome]) -> Outcome:
    """Further members: rows are appended."""
    return _join(outcomes, axis=0)


def _join(outcomes: Sequence[Outcome], axis: int) -> Outcome:
    moments, seconds = outcomes[0].moments, outcomes[0].seconds
    for outcome in outcomes[1:]:
        moments, seconds = moments.merge(outcome.moments), seconds.plus(outcome.seconds)
    return Outcome(
        np.concatenate([o.returns for o in outcomes], axis=axis),
        np.concatenate([o.lengths for o in outcomes], axis=axis),
        moments,
        np.concatenate([o.travel for o in outcomes], axis=axis),
        seconds,
    )
