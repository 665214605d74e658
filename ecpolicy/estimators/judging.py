"""The deployed network's score in ``fit``: whether it is the best so far, and whether the task is solved."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ecpolicy.distributions import Parameters
from ecpolicy.estimators.backends import Plays
from ecpolicy.normalization import Standardizer
from ecpolicy.random import Key, Stream, environment_seed, fold_in, key_from_seed
from ecpolicy.rollout.outcome import Outcome
from ecpolicy.rollout.parallel import deployed_task

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


@dataclass(frozen=True)
class Judge:
    """Evaluates deployed networks during a fit.

    A few episodes pick candidates, and further ones decide: a lucky first score keeps no network. The best score is
    still the largest of several means and so a little optimistic; ``score`` measures anew. The threshold counts as
    reached when the mean over at least ``SOLVED_EPISODES`` fresh episodes clears it by 1.645 standard errors.
    """

    runner: Plays
    seed: int
    n_environments: int
    horizon: float
    threshold: float | None
    eval_episodes: int
    confirm_episodes: int

    def assess(self, parameters: Parameters, standardizer: Standardizer, generation: int, best: float) -> Verdict:
        """Play the network of this generation's parameters; ``best`` is the score that it must beat to be kept."""
        key = fold_in(fold_in(key_from_seed(self.seed), generation), np.uint32(2**32 - 1))
        n_steps = 0

        def play(stream: Stream, first: int, count: int) -> Outcome:
            nonlocal n_steps
            keys = fold_in(fold_in(key, stream), np.arange(self.n_environments))[:, None, :]
            task = deployed_task(
                parameters,
                environment_seed(fold_in(keys, np.arange(first, first + count))),
                membrane_key=deployment_key(self.seed),
                standardizer=standardizer,
                horizon=self.horizon,
            )
            outcome = self.runner.run(task)
            n_steps += outcome.n_steps
            return outcome

        bar = np.inf if self.threshold is None else self.threshold
        screening = play(Stream.EVALUATION, 0, self.eval_episodes)
        screened, score, solved = float(screening.fitness.mean()), -np.inf, False
        if screened > best or screened >= bar:
            returns = play(Stream.CONFIRMATION, 0, self.confirm_episodes).fitness
            if returns.mean() >= bar:
                if returns.size < SOLVED_EPISODES:
                    more = play(Stream.CONFIRMATION, returns.size, SOLVED_EPISODES - returns.size)
                    returns = np.append(returns, more.fitness)
                error = returns.std() / np.sqrt(returns.size)
                solved = bool(returns.mean() - ONE_SIDED_95 * error >= bar)
            score = float(returns.mean())
        return Verdict(screening, score, solved, n_steps)


def deployed_measures(outcome: Outcome) -> dict[str, Any]:
    """What ``history_`` holds of the deployed network's episodes; None where the environments do not report it."""
    velocity, position = (float(mean) for mean in outcome.travel.reshape(-1, 2).mean(axis=0))
    means = float(outcome.fitness.mean()), float(outcome.lengths.mean()), velocity, position
    return {name: mean if np.isfinite(mean) else None for name, mean in zip(DEPLOYED_MEASURES, means, strict=True)}


def deployment_key(seed: int) -> Key:
    """The key of the deployed network's initial membrane potentials: the same in every episode."""
    return fold_in(fold_in(key_from_seed(seed), np.uint32(2**32 - 1)), Stream.DEPLOYMENT)
