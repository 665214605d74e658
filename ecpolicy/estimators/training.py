"""What surrounds a generation in ``fit``: the deployed network's score, the best network so far, when to stop."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ecpolicy.distributions import Distribution, Parameters
from ecpolicy.estimators.backends import Plays
from ecpolicy.estimators.starts import Starts, end_start
from ecpolicy.evolution import State, generation
from ecpolicy.fitness_shaping import FitnessShaping
from ecpolicy.networks import Network
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.optimizers import Optimizer
from ecpolicy.random import Key, Stream, environment_seed, fold_in, key_from_seed
from ecpolicy.rollout.outcome import Outcome
from ecpolicy.rollout.parallel import deployed_task, population_task

SOLVED_EPISODES = 100  # fresh episodes that confirm a score threshold
ONE_SIDED_95 = 1.645  # standard errors by which they must clear it

DEPLOYED_MEASURES = ("deployed_return", "deployed_length", "deployed_x_velocity", "deployed_x_position")

Record = dict[str, Any]


class Deployed(NamedTuple):
    """A network worth deploying: its probabilities and observation moments, and the score that it was kept for."""

    parameters: Parameters
    moments: Moments
    score: float
    generation: int


class Setting(NamedTuple):
    """What a deployed network's score depends on, apart from its probabilities and observation moments."""

    network: Network
    normalize_observations: bool
    observation_clip: float
    environments: tuple[str, ...]  # names, as far as one can tell environments and the lengths of episodes apart

    def standardizer(self, moments: Moments) -> Standardizer:
        """How observations enter the network."""
        return Standardizer.of(moments, enabled=self.normalize_observations, clip=self.observation_clip)


class Training(NamedTuple):
    """All that continues a fit bit for bit, apart from the seed."""

    setting: Setting
    search: State
    best: Deployed | None = None
    n_env_steps: int = 0  # of the population
    n_evaluation_steps: int = 0  # of the deployed network
    solved_at: float | None = None  # the score threshold that this generation reached
    starts: Starts = Starts()


@dataclass(frozen=True)
class Trainer:
    """The parts of a fit that do not change from one generation to the next."""

    seed: int
    runner: Plays
    distribution: Callable[[int], Distribution]  # after so many environment steps
    optimizer: Callable[[int], Optimizer]  # likewise
    fitness_shaping: FitnessShaping
    population_size: int
    n_environments: int
    episodes_per_member: int
    horizon: Callable[[int], float]  # likewise
    evaluation_horizon: float
    setting: Setting
    score_threshold: float | None
    eval_episodes: int
    confirm_episodes: int
    keep_best: bool
    n_starts: int
    start_env_steps: int

    def start(self, moments: Moments) -> Training:
        """The state before the first generation, with the moments of observations made before it."""
        return Training(self.setting, self._fresh(moments))

    def _fresh(self, moments: Moments) -> State:
        distribution = self.distribution(0)
        parameters = distribution.project(distribution.init(key_from_seed(self.seed)))
        return State(0, parameters, self.optimizer(0).init(parameters), moments)

    def resume(self, training: Training) -> Training:
        """Go on from a training.

        A best network, start or solution that was measured in another setting does not count, nor does a network with
        connections that are no longer allowed.
        """
        best = training.best
        if best is not None:
            allowed = self.distribution(self._clock(training)).project(best.parameters)
            if any(((p > 0.5) != (allowed[name] > 0.5)).any() for name, p in best.parameters.items()):
                training = training._replace(best=None, solved_at=None)
        if training.setting == self.setting:
            return training
        starts = training.starts._replace(best=None)
        return training._replace(setting=self.setting, best=None, solved_at=None, starts=starts)

    def advance(self, training: Training) -> tuple[Training, Record]:
        """One generation, then the score of the network that it leads to."""
        began = perf_counter()
        training = self._next_start(training)
        steps = self._clock(training)
        distribution = self.distribution(steps)
        parameters = training.search.parameters
        allowed = distribution.project(parameters)  # differs where the limits changed since the generation before
        if any(not np.array_equal(allowed[name], p) for name, p in parameters.items()):
            parameters = allowed  # else the same object, which workers have already
        search, population = generation(
            training.search._replace(parameters=parameters),
            key=key_from_seed(self.seed),
            population_size=self.population_size,
            evaluate=lambda parameters, moments, keys: self._evaluate(parameters, moments, keys, self.horizon(steps)),
            distribution=distribution,
            fitness_shaping=self.fitness_shaping,
            optimizer=self.optimizer(steps),
        )
        trained = training._replace(search=search, n_env_steps=training.n_env_steps + population.n_steps)
        trained, deployed = self._assess(trained)
        fitness, measures = population.fitness, deployed_measures(deployed)
        trained = trained._replace(starts=trained.starts._replace(last=float(fitness.mean())))
        record = {
            "generation": search.generation,
            "return_mean": float(fitness.mean()),
            "return_std": float(fitness.std()),
            "return_min": float(fitness.min()),
            "return_max": float(fitness.max()),
            "episode_length": float(population.lengths.mean()),
            **measures,
            "best_deployed_return": trained.best.score if trained.best else measures["deployed_return"],
            "n_env_steps": trained.n_env_steps,
            "n_evaluation_steps": trained.n_evaluation_steps,
            "seconds": perf_counter() - began,
        }
        return trained, record

    def _clock(self, training: Training) -> int:
        """The environment steps that schedules go by."""
        return training.n_env_steps - (training.starts.began if self.starting(training.starts) else 0)

    def starting(self, starts: Starts) -> bool:
        """Whether there are starts to come, or a choice between them."""
        return starts.ended < self.n_starts - 1 or starts.best is not None

    def _next_start(self, training: Training) -> Training:
        """Begin another start, or go on with the best of all, where a start has had its environment steps."""
        starts, search, n_env_steps = training.starts, training.search, training.n_env_steps
        if not self.starting(starts) or n_env_steps - starts.began < self.start_env_steps:
            return training
        starts, search = end_start(starts, search, self._fresh(search.moments), self.n_starts, n_env_steps)
        return training._replace(starts=starts, search=search)

    def _evaluate(self, parameters: Parameters, moments: Moments, keys: Key, horizon: float) -> Outcome:
        """The population's episodes, all fresh."""
        task = population_task(
            parameters,
            keys,
            n_environments=self.n_environments,
            n_episodes=self.episodes_per_member,
            standardizer=self.setting.standardizer(moments),
            horizon=horizon,
        )
        return self.runner.run(task)

    def _assess(self, trained: Training) -> tuple[Training, Outcome]:
        """Score the deployed network; keep it if it holds on fresh episodes; see whether the task is solved.

        A few episodes every generation pick candidates, and further episodes decide: a lucky first score keeps no
        network. The best score is still the largest of several means and so a little optimistic; ``score`` measures
        anew. The threshold counts as reached when the mean over at least ``SOLVED_EPISODES`` fresh episodes clears
        it by 1.645 standard errors.
        """
        search, best = trained.search, trained.best
        steps = 0

        def play(stream: Stream, first: int, count: int) -> Outcome:
            nonlocal steps
            outcome = self._play_deployed(search, stream, first, count)
            steps += outcome.n_steps
            return outcome

        screening = play(Stream.EVALUATION, 0, self.eval_episodes)
        screened = float(screening.fitness.mean())
        bar = self.score_threshold
        solved = False
        improves = self.keep_best and (best is None or screened > best.score)
        reaches = bar is not None and screened >= bar
        if improves or reaches:
            returns = play(Stream.CONFIRMATION, 0, self.confirm_episodes).fitness
            if bar is not None and returns.mean() >= bar:
                more = max(SOLVED_EPISODES - returns.size, 0)
                if more:
                    returns = np.append(returns, play(Stream.CONFIRMATION, returns.size, more).fitness)
                error = returns.std() / np.sqrt(returns.size)
                solved = bool(returns.mean() - ONE_SIDED_95 * error >= bar)
            score = float(returns.mean())
            if self.keep_best and (best is None or score > best.score or solved):
                best = Deployed(search.parameters, search.moments, score, search.generation)
        n_evaluation_steps = trained.n_evaluation_steps + steps
        solved_at = bar if solved else None
        return trained._replace(best=best, n_evaluation_steps=n_evaluation_steps, solved_at=solved_at), screening

    def _play_deployed(self, search: State, stream: Stream, first: int, count: int) -> Outcome:
        key = fold_in(fold_in(key_from_seed(self.seed), search.generation), np.uint32(2**32 - 1))
        numbers = np.arange(first, first + count)
        keys = fold_in(fold_in(fold_in(key, stream), np.arange(self.n_environments))[:, None, :], numbers)
        task = deployed_task(
            search.parameters,
            environment_seed(keys),
            membrane_key=deployment_key(self.seed),
            standardizer=self.setting.standardizer(search.moments),
            horizon=self.evaluation_horizon,
        )
        return self.runner.run(task)


def deployed_measures(outcome: Outcome) -> Record:
    """What ``history_`` holds of the deployed network's episodes; None where the environments do not report it."""
    velocity, position = (float(mean) for mean in outcome.travel.reshape(-1, 2).mean(axis=0))
    means = float(outcome.fitness.mean()), float(outcome.lengths.mean()), velocity, position
    return {name: mean if np.isfinite(mean) else None for name, mean in zip(DEPLOYED_MEASURES, means, strict=True)}


def deployment_key(seed: int) -> Key:
    """The key of the deployed network's initial membrane potentials: the same in every episode."""
    return fold_in(fold_in(key_from_seed(seed), np.uint32(2**32 - 1)), Stream.DEPLOYMENT)
