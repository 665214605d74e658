"""What surrounds a generation in ``fit``: the best network so far, the record."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np
from scipy.special import entr

from ecpolicy.distributions import Distribution, Parameters
from ecpolicy.evolution import State, generation, member_keys
from ecpolicy.files.codec import array, count, following, known, like, number, optional
from ecpolicy.fitness_shaping import FitnessShaping
from ecpolicy.fitting.backends import Plays
from ecpolicy.fitting.judge import SHARE, Judge, Verdict, deployed_measures
from ecpolicy.history import Record
from ecpolicy.networks import Network
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.optimizers import Optimizer
from ecpolicy.random import Stream, fold_in, key_from_seed, reserved_key
from ecpolicy.rollout.episodes import Networks, Table, playing, population
from ecpolicy.rollout.outcome import Outcome, mean_and_std
from ecpolicy.rollout.seconds import Stopwatch, shares
from ecpolicy.trees import leaves

MOST_EPISODES = 10**9
LAST_GENERATION = 2**32 - 2


class Deployed(NamedTuple):
    """A network worth deploying: its probabilities and observation moments, and the score that it was kept for."""

    parameters: Parameters
    moments: Moments
    score: float
    generation: int
    low: float  # what a better network must beat, see :class:`ecpolicy.fitting.judge.Judge`
    episodes: int | None  # of each environment that the score was first measured on; None in files that do not say


class Setting(NamedTuple):
    """What a training is of, apart from the seed."""

    network: Network
    normalize_observations: bool
    observation_clip: float
    environments: tuple[str, ...]  # identities, with the length of episodes that have no time limit
    optimizer: str  # the rule's name

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

    @property
    def generation(self) -> int:
        """The last generation."""
        return self.search.generation

    def is_sound(self) -> bool:
        """Whether the best network is one of the search's."""
        return self.best is None or self.best.generation <= self.generation


def schema(setting: Setting, distribution: Distribution, optimizer: Optimizer, obs_size: int) -> Training:
    """What a file holds of a training, for :mod:`ecpolicy.files.codec`."""
    parameters = {name: array("<f4", *limits) for name, limits in distribution.limits.items()}
    moments = Moments(count(), array("<f8", (obs_size,)), array("<f8", (obs_size,), low=0))
    state = following(lambda search: like(optimizer.init(search["parameters"])))
    low = following(lambda best: known(best["score"]))  # a loaded network is measured again
    best = Deployed(parameters, moments, number(), count(LAST_GENERATION), low, optional(count(MOST_EPISODES)))
    search = State(count(LAST_GENERATION), parameters, state, moments)
    return Training(known(setting), search, optional(best), count(), count(), optional(number()))


def fresh(
    distribution: Distribution, optimizer: Optimizer, seed: int, moments: Moments, *, generation: int = 0
) -> State:
    """The state that a search begins with after so many generations of others, each from a key of its own."""
    key = reserved_key(seed, Stream.START)
    start = State.start(distribution, optimizer, moments, key=fold_in(key, generation) if generation else key)
    return start._replace(generation=generation)


class Ahead(NamedTuple):
    """A population that was played before the generation that it follows was published."""

    search: State  # that it follows
    played: Outcome | Exception  # an error is raised where its generation would have been


@dataclass
class EvolutionLearner:
    """The parts of a fit that do not change from one generation to the next, and what has been played ahead."""

    seed: int
    runner: Plays
    judge: Judge
    distribution: Callable[[int], Distribution]  # after so many environment steps
    optimizer: Callable[[int], Optimizer]  # likewise
    fitness_shaping: FitnessShaping
    population_size: int
    episodes_per_member: int
    common_episodes: bool
    horizons: Callable[[int], tuple[float, ...]]  # likewise, by environment
    setting: Setting
    keep_best: bool
    ahead: Ahead | None = None
    waiting: Stopwatch = field(default_factory=Stopwatch)  # for episodes, in the generation under way

    def start(self, moments: Moments) -> Training:
        """The state before the first generation, with the moments of observations made before it."""
        return Training(self.setting, fresh(self.distribution(0), self.optimizer(0), self.seed, moments))

    def resume(self, training: Training) -> Training:
        """Go on from a training of the same matrices and rule.

        A best network with connections that are no longer allowed does not count.
        """
        self._check_continuable(training)
        best = training.best
        if best is not None:
            allowed = self.distribution(training.n_env_steps).project(best.parameters)
            if any(((p > 0.5) != (allowed[name] > 0.5)).any() for name, p in best.parameters.items()):
                best = None
        return training._replace(setting=self.setting, best=best)

    def _check_continuable(self, training: Training) -> None:
        trained = {name: p.shape for name, p in training.search.parameters.items()}
        wanted = {name: limits.shape for name, limits in self.distribution(0).limits.items()}
        if trained != wanted:
            said = f"Training so far was of matrices {trained}; the parameters now say {wanted}."
            raise ValueError(f"{said} Fit without warm_start to start anew.")
        before, now = training.setting.optimizer, self.setting.optimizer
        if before != now:
            said = f"Training so far used optimizer {before!r}; it cannot go on with {now!r}."
            raise ValueError(f"{said} Fit without warm_start to start anew.")

    def measure_again(self, training: Training) -> Training:
        """Measure the network that was kept, or said to solve the task, on what is trained on now.

        Its episodes are those of the first time. On the same task its score is therefore the same bit for bit, and
        nothing is counted twice; on another task it is compared with further networks on equal terms.
        """
        search, best = training.search, training.best if self.keep_best else None
        if best is not None:
            kept: Deployed | State = best
        elif training.solved_at is not None:
            kept = search
        else:
            return training._replace(best=None)
        networks = self._networks(kept.parameters, kept.moments, training.n_env_steps)
        episodes = None if best is None else best.episodes
        found, _ = self.runner.run(self.judge.confirm(networks, kept.generation, episodes=episodes))
        again = best is None or found.score == best.score
        return training._replace(
            best=None if best is None else best._replace(score=found.score, low=found.low),
            solved_at=self.judge.threshold if found.solved else None,
            n_evaluation_steps=training.n_evaluation_steps + (0 if again else found.n_steps),
        )

    def advance(self, training: Training, goes_on: Callable[[Training], bool]) -> tuple[Training, Record]:
        """One generation, then the score of the network that it leads to.

        ``goes_on`` says of the training after the generation whether a further one is wanted: its population is then
        played beside the deployed network's episodes.
        """
        began, before = perf_counter(), self.runner.seconds
        self.waiting = Stopwatch()
        ahead, self.ahead = self.ahead, None
        played = ahead.played if ahead is not None and ahead.search is training.search else None
        steps = training.n_env_steps
        distribution = self.distribution(steps)
        search, members = generation(
            training.search._replace(parameters=self._allowed(training)),
            key=key_from_seed(self.seed),
            population_size=self.population_size,
            evaluate=partial(self._play, training, played),
            distribution=distribution,
            fitness_shaping=self.fitness_shaping,
            optimizer=self.optimizer(steps),
        )
        check_finite(search)
        fitness, n_env_steps = members.fitness, training.n_env_steps + members.n_steps
        mean, std = mean_and_std(fitness)
        trained = training._replace(search=search, n_env_steps=n_env_steps)
        trained, deployed = self._assess(trained, goes_on)
        measures = deployed_measures(deployed)
        record = {
            "generation": search.generation,
            "return_mean": mean,
            "return_std": std,
            "return_min": float(fitness.min()),
            "return_max": float(fitness.max()),
            "episode_length": float(members.lengths.mean()),
            **(search_measures(training.search.parameters, search.parameters) if distribution.packed else {}),
            **measures,
            "best_deployed_return": trained.best.score if trained.best else measures["deployed_return"],
            "n_env_steps": trained.n_env_steps,
            "n_evaluation_steps": trained.n_evaluation_steps,
            "seconds": (elapsed := perf_counter() - began),
        }
        if before is not None and (now := self.runner.seconds) is not None:
            record |= shares(now.minus(before), elapsed - self.waiting.total)
        return trained, record

    def _allowed(self, training: Training) -> Parameters:
        """The parameters to draw from, which differ where the limits changed since the generation before."""
        parameters = training.search.parameters
        allowed = self.distribution(training.n_env_steps).project(parameters)
        same = all(np.array_equal(allowed[name], p) for name, p in parameters.items())
        return parameters if same else allowed

    def _networks(self, parameters: Parameters, moments: Moments, steps: int) -> Networks:
        return Networks(self.distribution(steps).sampler(parameters), self.setting.standardizer(moments))

    def _population(self, training: Training) -> Table:
        """The episodes of the next generation's members, all fresh."""
        search, steps = training.search, training.n_env_steps
        networks = self._networks(self._allowed(training), search.moments, steps)
        keys = member_keys(key_from_seed(self.seed), search.generation, self.population_size)
        return population(
            networks, keys, n_episodes=self.episodes_per_member, horizons=self.horizons(steps),
            common=self.common_episodes,
        )  # fmt: skip

    def _play(self, training: Training, played: Outcome | Exception | None, *_: object) -> Outcome:
        """The outcome of the next generation's population, unless it has been played already."""
        if isinstance(played, Exception):
            raise played
        return played or self.waiting.timed(self.runner.run)(playing(self._population(training)))[0]

    def _assess(self, trained: Training, goes_on: Callable[[Training], bool]) -> tuple[Training, Outcome]:
        """Score the deployed network and keep it if it is the best; the episodes that tell how it does now."""
        search, best = trained.search, trained.best
        to_beat = (-np.inf if best is None else best.low) if self.keep_best else np.inf

        def wanted(verdict: Verdict | None) -> bool:
            return goes_on(trained) and not (verdict is not None and verdict.solved)

        ahead = self._population(trained) if self.runner.plays_beside and wanted(None) else None
        networks = self._networks(search.parameters, search.moments, trained.n_env_steps)
        if ahead is not None and self._allowed(trained) is search.parameters:
            networks = ahead.networks  # the same ones, which workers get once
        allowance = SHARE * trained.n_env_steps - trained.n_evaluation_steps
        judging = self.judge.assess(networks, search.generation, to_beat, allowance)
        verdict, played = self.waiting.timed(self.runner.run)(judging, ahead, wanted)
        self.ahead = None if played is None else Ahead(search, played)
        if self.keep_best and verdict.beats(to_beat):
            score, low, _, _, episodes = verdict.confirmed
            best = Deployed(search.parameters, search.moments, score, search.generation, low, episodes)
        assessed = trained._replace(
            best=best,
            n_evaluation_steps=trained.n_evaluation_steps + verdict.n_steps,
            solved_at=self.judge.threshold if verdict.solved else None,
        )
        return assessed, verdict.screening


def search_measures(before: Parameters, after: Parameters) -> dict[str, object]:
    """How much connections still vary, in bits per connection, and how many of the deployed ones an update changed."""
    bits = sum(float((entr(p) + entr(1 - p)).sum(dtype=np.float64)) for p in after.values()) / np.log(2)
    flips = sum(int(((before[name] > 0.5) != (p > 0.5)).sum()) for name, p in after.items())
    return {"entropy": bits / sum(p.size for p in after.values()), "flips": flips}


def check_finite(search: State) -> None:
    """Raise FloatingPointError where an update has left the range of float32."""
    for part in (search.parameters, search.optimizer):
        floats = [(name, values) for name, values in leaves(part) if np.asarray(values).dtype.kind == "f"]
        bad = [name for name, values in floats if not np.isfinite(values).all()]
        if bad:
            raise FloatingPointError(
                f"Generation {search.generation} made {bad} infinite or NaN; the policy is that of the generation "
                "before. Give a smaller learning_rate or weight_decay."
            )
