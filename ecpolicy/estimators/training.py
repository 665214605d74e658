"""What surrounds a generation in ``fit``: several starts, the best network so far, the record."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ecpolicy.distributions import Distribution, Parameters
from ecpolicy.estimators.backends import Plays
from ecpolicy.estimators.judging import Judge, deployed_measures
from ecpolicy.estimators.starts import Starts, end_start
from ecpolicy.evolution import State, generation
from ecpolicy.fitness_shaping import FitnessShaping
from ecpolicy.identity import alike
from ecpolicy.networks import Network
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.optimizers import Optimizer
from ecpolicy.random import Key, Stream, key_from_seed, reserved_key
from ecpolicy.rollout.outcome import Outcome, mean_and_std
from ecpolicy.rollout.parallel import population_task

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
    environments: tuple[str, ...]  # identities, with the length of episodes that have no time limit

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
    judge: Judge
    distribution: Callable[[int], Distribution]  # after so many environment steps
    optimizer: Callable[[int], Optimizer]  # likewise
    fitness_shaping: FitnessShaping
    population_size: int
    episodes_per_member: int
    horizons: Callable[[int], tuple[float, ...]]  # likewise, by environment
    setting: Setting
    keep_best: bool
    n_starts: int
    start_env_steps: int

    def start(self, moments: Moments) -> Training:
        """The state before the first generation, with the moments of observations made before it."""
        return Training(self.setting, self._fresh(moments))

    def _fresh(self, moments: Moments) -> State:
        distribution = self.distribution(0)
        parameters = distribution.project(distribution.init(reserved_key(self.seed, Stream.START)))
        return State(0, parameters, self.optimizer(0).init(parameters), moments)

    def resume(self, training: Training) -> Training:
        """Go on from a training, which does not count as solved before it is measured again.

        A best start of another setting, or on environments that cannot be compared, does not count, nor does a network
        with connections that are no longer allowed.
        """
        best = training.best
        if best is not None:
            allowed = self.distribution(self._clock(training)).project(best.parameters)
            if any(((p > 0.5) != (allowed[name] > 0.5)).any() for name, p in best.parameters.items()):
                best = None
        before, now = training.setting, self.setting
        changed = before._replace(environments=()) != now._replace(environments=())
        if changed or not alike(before.environments, now.environments):
            training = training._replace(starts=training.starts._replace(best=None))
        return training._replace(setting=self.setting, best=best)

    def measure_again(self, training: Training) -> Training:
        """Measure the network that was kept, or said to solve the task, on what is trained on now.

        Its episodes are those of the first time. On the same task its score is therefore the same bit for bit, and
        nothing is counted twice; on another task it is compared with further networks on equal terms.
        """
        search, best = training.search, training.best if self.keep_best else None
        if best is not None:
            kept = best.parameters, self.setting.standardizer(best.moments), best.generation
        elif training.solved_at is not None:
            kept = search.parameters, self.setting.standardizer(search.moments), search.generation
        else:
            return training._replace(best=None)
        score, solved, n_steps = self.judge.confirm(*kept)
        again = best is None or score == best.score
        return training._replace(
            best=None if best is None else best._replace(score=score),
            solved_at=self.judge.threshold if solved else None,
            n_evaluation_steps=training.n_evaluation_steps + (0 if again else n_steps),
        )

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
            evaluate=lambda parameters, moments, keys: self._evaluate(parameters, moments, keys, self.horizons(steps)),
            distribution=distribution,
            fitness_shaping=self.fitness_shaping,
            optimizer=self.optimizer(steps),
        )
        trained = training._replace(search=search, n_env_steps=training.n_env_steps + population.n_steps)
        check_finite(search)
        trained, deployed = self._assess(trained)
        fitness, measures = population.fitness, deployed_measures(deployed)
        mean, std = mean_and_std(fitness)
        trained = trained._replace(starts=trained.starts._replace(last=mean))
        record = {
            "generation": search.generation,
            "return_mean": mean,
            "return_std": std,
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

    def _evaluate(self, parameters: Parameters, moments: Moments, keys: Key, horizons: tuple[float, ...]) -> Outcome:
        """The population's episodes, all fresh."""
        task = population_task(
            parameters,
            keys,
            n_environments=len(horizons),
            n_episodes=self.episodes_per_member,
            standardizer=self.setting.standardizer(moments),
            horizons=horizons,
        )
        return self.runner.run(task)

    def _assess(self, trained: Training) -> tuple[Training, Outcome]:
        """Score the deployed network and keep it if it is the best; the episodes that tell how it does now."""
        search, best = trained.search, trained.best
        standardizer = self.setting.standardizer(search.moments)
        score = (-np.inf if best is None else best.score) if self.keep_best else np.inf
        verdict = self.judge.assess(search.parameters, standardizer, search.generation, score)
        if self.keep_best and verdict.beats(score):
            best = Deployed(search.parameters, search.moments, verdict.score, search.generation)
        assessed = trained._replace(
            best=best,
            n_evaluation_steps=trained.n_evaluation_steps + verdict.n_steps,
            solved_at=self.judge.threshold if verdict.solved else None,
        )
        return assessed, verdict.screening


def check_finite(search: State) -> None:
    """Raise FloatingPointError where an update has left the range of float32."""
    moments = search.optimizer
    for part in (search.parameters, moments.first, moments.second):
        bad = [name for name, values in part.items() if not np.isfinite(values).all()]
        if bad:
            raise FloatingPointError(
                f"Generation {search.generation} made {bad} infinite or NaN; the policy is that of the generation "
                "before. Give a smaller learning_rate or weight_decay."
            )
