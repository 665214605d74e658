"""The deployed network's score in ``fit``: whether it is the best so far, and whether the task is solved."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ecpolicy.random import Key, Stream, environment_seed, fold_in, reserved_key
from ecpolicy.rollout.episodes import Networks, Play, Table, of_deployed
from ecpolicy.rollout.outcome import Outcome, mean_and_std

SOLVED_EPISODES = 100  # fresh episodes that confirm a score threshold
ONE_SIDED_95 = 1.645  # standard errors by which they must clear it

DEPLOYED_MEASURES = ("deployed_return", "deployed_length", "deployed_x_velocity", "deployed_x_position")


class Verdict(NamedTuple):
    """What is known of a network after its episodes."""

    screening: Outcome
    score: float  # over fresh episodes; minus infinity where the first few were not good enough for any
    solved: bool
    n_steps: int

    def beats(self, best: float) -> bool:
        """Whether the network is to be deployed instead of one with the score ``best``."""
        return self.score > best or self.solved


class Confirmed(NamedTuple):
    """What the episodes came to that decide about a network."""

    score: float
    solved: bool  # whether the threshold is reached
    n_steps: int


@dataclass(frozen=True)
class Judge:
    """Evaluates deployed networks during a fit.

    A few episodes pick candidates, and further ones decide: a lucky first score keeps no network. The best score is
    still the largest of several means and so a little optimistic; ``score`` measures anew. The threshold counts as
    reached when the mean over ``SOLVED_EPISODES`` episodes clears it by 1.645 standard errors; none of these had a part
    in picking the network.
    """

    seed: int
    horizons: tuple[float, ...]  # steps after which an episode is cut, by environment
    threshold: float | None
    eval_episodes: int
    confirm_episodes: int

    def assess(self, networks: Networks, generation: int, best: float) -> Play[Verdict]:
        """Play the deployed network of this generation; ``best`` is the score that it must beat to be kept."""
        screening = yield self._table(networks, generation, Stream.EVALUATION, 0, self.eval_episodes)
        screened, confirmed = mean_and_std(screening.fitness)[0], Confirmed(-np.inf, False, 0)
        if screened > best or screened >= self._bar:
            confirmed = yield from self.confirm(networks, generation)
        return Verdict(screening, *confirmed[:2], screening.n_steps + confirmed.n_steps)

    def confirm(self, networks: Networks, generation: int) -> Play[Confirmed]:
        """Measure a network of this generation; on the same environments the answer is the same at any time."""
        outcome = yield self._table(networks, generation, Stream.CONFIRMATION, 0, self.confirm_episodes)
        n_steps, (score, spread), solved = outcome.n_steps, mean_and_std(outcome.fitness), False
        if score >= self._bar:
            outcome = yield self._table(
                networks, generation, Stream.CONFIRMATION, self.confirm_episodes, SOLVED_EPISODES
            )
            n_steps, (score, spread) = n_steps + outcome.n_steps, mean_and_std(outcome.fitness)
            solved = score - ONE_SIDED_95 * spread / np.sqrt(SOLVED_EPISODES) >= self._bar
        return Confirmed(score, solved, n_steps)

    @property
    def _bar(self) -> float:
        return np.inf if self.threshold is None else self.threshold

    def _table(self, networks: Networks, generation: int, stream: Stream, first: int, count: int) -> Table:
        """The episodes ``first`` to ``first + count`` of a stream."""
        keys = fold_in(reserved_key(self.seed, stream, generation), np.arange(len(self.horizons)))[:, None, :]
        seeds = environment_seed(fold_in(keys, np.arange(first, first + count)))
        return of_deployed(networks, seeds, membrane_key=deployment_key(self.seed), horizons=self.horizons)


def deployed_measures(outcome: Outcome) -> dict[str, Any]:
    """What ``history_`` holds of the deployed network's episodes; None where the environments do not report it."""
    velocity, position = (float(mean) for mean in outcome.travel.reshape(-1, 2).mean(axis=0))
    means = mean_and_std(outcome.fitness)[0], float(outcome.lengths.mean()), velocity, position
    return {name: mean if np.isfinite(mean) else None for name, mean in zip(DEPLOYED_MEASURES, means, strict=True)}


def deployment_key(seed: int) -> Key:
    """The key of the deployed network's initial membrane potentials: the same in every episode."""
    return reserved_key(seed, Stream.DEPLOYMENT)
