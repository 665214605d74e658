"""The deployed network's score in ``fit``: whether it is the best so far, and whether the task is solved."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.fitting.deployed import deployment_key
from ecpolicy.random import Stream, environment_seed, fold_in, reserved_key
from ecpolicy.rollout.episodes import Networks, Play, Table, of_deployed
from ecpolicy.rollout.outcome import Outcome, mean_and_std

FIRST_LOOK = 8  # fresh episodes after which a candidate may be given up; then after twice as many, and so on
MISSED = 0.1  # chance, at a look, that the mean over all episodes would be beyond a bound
SHARE = 0.15  # of the population's steps, beyond which confirmations end early, but not before LEAST
LEAST = 12  # episodes that a kept network is measured on at least, where confirm_episodes are that many
SOLVED_EPISODES = 100  # fresh episodes that confirm a score threshold
ONE_SIDED_95 = 1.645  # standard errors by which they must clear it

DEPLOYED_MEASURES = ("deployed_return", "deployed_length", "deployed_x_velocity", "deployed_x_position")


class Confirmed(NamedTuple):
    """What the episodes came to that decide about a network."""

    score: float  # minus infinity of a network that was given up
    low: float  # what the score over all episodes would hardly fall below: itself, where all were played
    solved: bool  # whether the threshold is reached
    n_steps: int
    episodes: int  # of each environment, before those that confirm a threshold


class Verdict(NamedTuple):
    """What is known of a network after its episodes."""

    screening: Outcome
    confirmed: Confirmed
    n_steps: int

    @property
    def solved(self) -> bool:
        """Whether the threshold is reached."""
        return self.confirmed.solved

    def beats(self, best: float) -> bool:
        """Whether the network is to be deployed instead of one with the lower bound ``best``."""
        return self.confirmed.low > best or self.solved


@dataclass(frozen=True)
class Judge:
    """Evaluates deployed networks during a fit.

    A few episodes pick candidates, and further ones decide: a lucky first score keeps no network. Confirming is a
    sequential test, about the mean over all ``confirm_episodes``. A candidate is given up as soon as the upper bound of
    this mean does not beat the best. Where the deployed networks have taken ``SHARE`` of the population's steps, the
    episodes played so far decide, and what is compared is the lower bound. Each bound is missed with a chance of
    ``MISSED``, by Student's distribution. A candidate that looks better is measured on: a score of few episodes that is
    too good would keep better networks out.

    The best score is still the largest of several means and so a little optimistic; ``score`` measures anew. The
    threshold counts as reached when the mean over ``SOLVED_EPISODES`` episodes clears it by 1.645 standard errors; none
    of these had a part in picking the network.
    """

    seed: int
    horizons: tuple[float, ...]  # steps after which an episode is cut, by environment
    threshold: float | None
    eval_episodes: int
    confirm_episodes: int

    def assess(self, networks: Networks, generation: int, best: float, allowance: float = np.inf) -> Play[Verdict]:
        """Play the deployed network of this generation.

        Parameters
        ----------
        networks : Networks
        generation : int
        best : float
            The lower bound that it must beat to be kept.
        allowance : float
            Environment steps after which all of this should end.
        """
        screening = yield self._table(networks, generation, Stream.EVALUATION, 0, self.eval_episodes)
        screened, confirmed = mean_and_std(screening.fitness)[0], Confirmed(-np.inf, -np.inf, False, 0, 0)
        if screened > best or screened >= self._bar:
            goal, allowance = min(best, self._bar), allowance - screening.n_steps
            confirmed = yield from self.confirm(networks, generation, goal=goal, allowance=allowance)
        return Verdict(screening, confirmed, screening.n_steps + confirmed.n_steps)

    def confirm(
        self,
        networks: Networks,
        generation: int,
        *,
        goal: float = -np.inf,
        allowance: float = np.inf,
        episodes: int | None = None,
    ) -> Play[Confirmed]:
        """Measure a network of this generation; on the same environments the answer is the same at any time.

        Parameters
        ----------
        networks : Networks
        generation : int
        goal : float
            What it must beat.
        allowance : float
            Environment steps that should do.
        episodes : int or None
            Those that it was measured on the first time, to do so again.
        """
        most, fitness, n_steps = episodes or self.confirm_episodes, np.zeros(0), 0
        look = FIRST_LOOK if episodes is None else most
        while True:
            count = min(look, most) - fitness.size
            outcome = yield self._table(networks, generation, Stream.CONFIRMATION, fitness.size, count)
            fitness, n_steps = np.concatenate([fitness, outcome.fitness]), n_steps + outcome.n_steps
            low, high = bounds(fitness, self.confirm_episodes)
            if fitness.size == most:
                break
            if high < goal:
                return Confirmed(-np.inf, -np.inf, False, n_steps, fitness.size)
            left = (allowance - n_steps) * fitness.size / n_steps  # episodes, of such a length
            further = fitness.size if most > 2.5 * fitness.size else most - fitness.size
            look = fitness.size + int(np.clip(left, max(0, LEAST - fitness.size), further))
            if look == fitness.size:
                break
        score, played = mean_and_std(fitness)[0], fitness.size
        if score < self._bar:
            return Confirmed(score, low, False, n_steps, played)
        outcome = yield self._table(networks, generation, Stream.CONFIRMATION, self.confirm_episodes, SOLVED_EPISODES)
        score, spread = mean_and_std(outcome.fitness)
        solved = score - ONE_SIDED_95 * spread / np.sqrt(SOLVED_EPISODES) >= self._bar
        return Confirmed(score, score, solved, n_steps + outcome.n_steps, played)

    @property
    def _bar(self) -> float:
        return np.inf if self.threshold is None else self.threshold

    def _table(self, networks: Networks, generation: int, stream: Stream, first: int, count: int) -> Table:
        """The episodes ``first`` to ``first + count`` of a stream."""
        keys = fold_in(reserved_key(self.seed, stream, generation), np.arange(len(self.horizons)))[:, None, :]
        seeds = environment_seed(fold_in(keys, np.arange(first, first + count)))
        return of_deployed(networks, seeds, membrane_key=deployment_key(self.seed), horizons=self.horizons)


def bounds(fitness: NDArray[np.float64], most: int) -> tuple[float, float]:
    """Between what the mean over ``most`` episodes is to be expected, after those that were played."""
    from scipy.special import stdtrit

    n, (mean, spread) = fitness.size, mean_and_std(fitness)
    if n >= most or n < 2:
        return mean, mean
    error = spread * np.sqrt(n / (n - 1)) * np.sqrt(1 / n - 1 / most)
    margin = float(stdtrit(n - 1, 1 - MISSED) * error)
    return mean - margin, mean + margin


def deployed_measures(outcome: Outcome) -> dict[str, object]:
    """What ``history_`` holds of the deployed network's episodes; None where the environments do not report it."""
    velocity, position = (float(mean) for mean in outcome.travel.reshape(-1, 2).mean(axis=0))
    means = mean_and_std(outcome.fitness)[0], float(outcome.lengths.mean()), velocity, position
    return {name: mean if np.isfinite(mean) else None for name, mean in zip(DEPLOYED_MEASURES, means, strict=True)}
