"""Fitting by evolution: what the estimators that search a distribution of networks have in common."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from ecpolicy.callbacks import Callback, Chain, Progress
from ecpolicy.callbacks.protocol import chained
from ecpolicy.distributions import Distribution, Parameters
from ecpolicy.estimators.backends import Engine, check_seed, choose, engine, runner
from ecpolicy.estimators.base import DeployedPolicy
from ecpolicy.estimators.environments import Resolved, resolve
from ecpolicy.estimators.judging import Judge
from ecpolicy.estimators.loop import interrupts, train
from ecpolicy.estimators.observation_statistics import initial_moments
from ecpolicy.estimators.parameters import check_horizon, endless_episode, scheduled, seed_of
from ecpolicy.estimators.resumption import ResumeFrom, adopt, earlier_training, own_training
from ecpolicy.estimators.training import Record, Setting, Trainer, Training
from ecpolicy.fitness_shaping import FITNESS_SHAPINGS
from ecpolicy.history import appended
from ecpolicy.identity import known_different, told, with_length
from ecpolicy.networks import Network
from ecpolicy.optimizers import Optimizer
from ecpolicy.spaces import action_outputs, interchangeable, observation_size


class Evolving(Protocol):
    """What an estimator brings along: its parameters, checked, as objects."""

    def _check(self) -> Network:
        """Check the parameters; the network that they describe."""

    def _search(
        self, network: Network, obs_size: int, n_outputs: int, backend: str, n_env_steps: int = 0
    ) -> Distribution:
        """The search distribution over this network's matrices, after so many environment steps."""

    def _ascent(self) -> tuple[str, Callable[[int], Optimizer]]:
        """The name of the rule, and the optimizer after so many environment steps."""

    def _shown(self, network: Network, parameters: Parameters) -> dict[str, Any]:
        """The fitted attributes that show the deployed network."""


class Run(NamedTuple):
    """What a training has from its start to its end, however many fits it takes."""

    seed: int
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    notes: tuple[str, ...] = ()
    engine: str = ""

    @property
    def obs_size(self) -> int:
        """Numbers in a flattened observation."""
        return observation_size(self.observation_space)

    @property
    def n_outputs(self) -> int:
        """Outputs that the action space takes."""
        return action_outputs(self.action_space)


def fit(
    policy: Any,
    environments: Any,
    callbacks: Callback | Sequence[Callback] | None,
    resume_from: ResumeFrom | None,
    observation_statistics: Any,
) -> None:
    """Train ``policy`` until there is a reason to stop."""
    called = chained(callbacks)
    earlier, observation_statistics = earlier_training(policy, resume_from, observation_statistics)
    with (
        _trainer(policy, environments, earlier, observation_statistics) as (trainer, run, training),
        interrupts() as interrupted,
    ):
        if policy.verbose:
            called = Chain(called, Progress(int(policy.verbose)))
        if earlier is not None:
            adopt(policy, earlier)

        def step() -> None:
            nonlocal training
            training, record = trainer.advance(training, goes_on)
            _publish(policy, training, run, record)

        def goes_on(trained: Training) -> bool:
            return not _reason_to_stop(policy, trained, trainer.judge.threshold, interrupted)

        def reason(began: bool) -> str:
            nonlocal training
            if not began and earlier is not None:
                training = trainer.measure_again(training)
            end = _reason_to_stop(policy, training, trainer.judge.threshold, interrupted)
            if end and not began:  # parameters that choose the deployed network may have changed
                deploy(policy, policy._training, run)
            return end

        stopped = train(policy, called, continues=earlier is not None, step=step, reason=reason)
    if stopped == "interrupted":
        warnings.warn(f"Interrupted: fit ended after generation {policy.n_generations_}.", stacklevel=3)
    if stopped == "n_generations" and trainer.starting(training.starts):
        warnings.warn(
            f"n_generations={policy.n_generations} ended the fit before {trainer.n_starts} starts of "
            f"{trainer.start_env_steps} steps have ended, so that none was chosen. Go on with more generations.",
            stacklevel=3,
        )


def partial_fit(policy: Any, environments: Any) -> None:
    """Train ``policy`` for one generation more."""
    earlier = own_training(policy)
    with _trainer(policy, environments, earlier) as (trainer, run, training):
        if earlier is not None:
            training = trainer.measure_again(training)
        training, record = trainer.advance(training, lambda trained: False)
        _publish(policy, training, run, record)
    policy.stop_reason_ = "partial_fit"


@contextmanager
def _trainer(
    policy: Any, environments: Any, earlier: Any, observation_statistics: Any = None
) -> Iterator[tuple[Trainer, Run, Training]]:
    """Check everything; the trainer for these environments, whose workers end with the context, and where it starts.

    ``earlier`` is the policy whose training goes on, or None.
    """
    network = policy._check()
    resolved = resolve(environments)
    backend = choose(policy.backend, resolved)
    if earlier is None:
        check_seed(backend, policy.random_state)
    played_by = engine(policy.engine, backend, resolved)
    run = Run(
        seed=seed_of(policy.random_state) if earlier is None else earlier.seed_,
        observation_space=resolved.observation_space,
        action_space=resolved.action_space,
        notes=notes(policy, resolved, played_by),
        engine=played_by.name,
    )
    search = partial(policy._search, network, run.obs_size, run.n_outputs, backend)
    kind, optimizer = policy._ascent()
    if earlier is not None:
        _check_continuable(earlier, run, search(), kind)
        if earlier is not policy:
            warn_of_another_task(earlier, resolved.identities)
    moments = initial_moments(observation_statistics, resolved.observation_space, continues=earlier is not None)
    wanted, endless = check_horizon(policy.max_episode_steps), endless_episode(policy)
    threshold = resolved.reward_threshold if policy.score_threshold == "auto" else policy.score_threshold
    identities = tuple(
        identity if np.isfinite(limit) else with_length(identity, endless)
        for identity, limit in zip(resolved.identities, resolved.limits, strict=True)
    )
    n_starts, start_env_steps = int(getattr(policy, "n_starts", 1)), int(getattr(policy, "start_env_steps", 1))
    if n_starts > 1 and (policy.max_env_steps or np.inf) <= n_starts * start_env_steps:
        warnings.warn(
            f"max_env_steps={policy.max_env_steps} ends the fit before {n_starts} starts of {start_env_steps} steps "
            "have ended, so that none is chosen. Lower start_env_steps or n_starts.",
            stacklevel=5,  # the caller of the estimator's fit
        )
    with runner(
        backend,
        resolved,
        network,
        engine=played_by,
        n_jobs=policy.n_jobs,
        timeout=policy.timeout,
        chunk_size=policy.chunk_size,
    ) as episodes:
        trainer = Trainer(
            seed=run.seed,
            runner=episodes,
            judge=Judge(
                run.seed,
                resolved.horizons(otherwise=endless),
                threshold=None if threshold is None else float(threshold),
                eval_episodes=int(policy.eval_episodes),
                confirm_episodes=int(policy.confirm_episodes),
            ),
            setting=Setting(network, bool(policy.normalize_observations), float(policy.observation_clip), identities),
            distribution=search,
            optimizer=optimizer,
            fitness_shaping=FITNESS_SHAPINGS[policy.fitness_shaping],
            population_size=int(policy.population_size),
            episodes_per_member=int(policy.episodes_per_member),
            horizons=lambda n_env_steps: resolved.horizons(scheduled(wanted, n_env_steps), otherwise=endless),
            keep_best=bool(policy.keep_best),
            n_starts=n_starts,
            start_env_steps=start_env_steps,
        )
        yield trainer, run, trainer.start(moments) if earlier is None else trainer.resume(earlier._training)


def notes(policy: Any, resolved: Resolved, played_by: Engine) -> tuple[str, ...]:
    """How the environments were understood, and what does not play them, as far as it matters."""
    of_threshold = resolved.notes if policy.score_threshold == "auto" else ()
    return of_threshold if played_by.note is None else (*of_threshold, played_by.note)


def _check_continuable(earlier: Any, run: Run, distribution: Distribution, kind: str) -> None:
    """Raise where the earlier training does not fit these environments or parameters."""
    check_same_spaces(earlier, run)
    search = earlier._training.search
    trained = {name: p.shape for name, p in search.parameters.items()}
    wanted = {name: (shape.pre, shape.post) for name, shape in distribution.shapes.items()}
    if trained != wanted:
        raise ValueError(f"Training so far was of matrices {trained}; the parameters now say {wanted}.")
    if kind != search.optimizer.kind:
        raise ValueError(f"Training so far used optimizer {search.optimizer.kind!r}; it cannot go on with {kind!r}.")


def check_same_spaces(policy: Any, given: Run | Resolved) -> None:
    """Raise where the earlier training was for other spaces."""
    for name in ("observation_space", "action_space"):
        if not interchangeable(getattr(policy, f"{name}_"), getattr(given, name)):
            raise ValueError(
                f"Training so far was for the {name} {getattr(policy, f'{name}_')}, the environment has "
                f"{getattr(given, name)}. Fit without warm_start to start anew."
            )


def warn_of_another_task(earlier: Any, identities: Sequence[str]) -> None:
    """Say so where a saved training goes on with other environments than it had."""
    before = earlier._training.setting.environments
    if len(before) == len(identities) and not any(map(known_different, before, identities)):
        return
    names = [", ".join(dict.fromkeys(map(told, each))) for each in (before, identities)]
    alike = " (of the same name, but with other settings or code)" if names[0] == names[1] else ""
    warnings.warn(
        f"resume_from continues a training on {names[0]}; the environment is now {names[1]}{alike}. The network that "
        "was kept is measured on it anew.",
        stacklevel=6,  # the caller of the estimator's fit
    )


def _reason_to_stop(policy: Any, training: Training, threshold: float | None, interrupted: Callable[[], bool]) -> str:
    """Why there is no further generation, or an empty string."""
    if threshold is not None and training.solved_at is not None and training.solved_at >= threshold:
        return "score_threshold"
    if training.search.generation >= policy.n_generations:
        return "n_generations"
    if policy.max_env_steps is not None and training.n_env_steps >= policy.max_env_steps:
        return "max_env_steps"
    return "interrupted" if interrupted() and training.search.generation > 0 else ""


def _publish(policy: Any, training: Training, run: Run, record: Record) -> None:
    """Make a finished generation the fitted state."""
    first = training.search.generation == 1
    further = {
        "history_": appended([] if first else policy.history_, record),
        "seed_": run.seed,
        "observation_space_": run.observation_space,
        "action_space_": run.action_space,
        "n_features_in_": run.obs_size,
        "notes_": list(run.notes),
        "engine_": run.engine,
        "stop_reason_": None,
    }
    if first:
        further["_n_sampled"] = 0
    deploy(policy, training, run, **further)


def deploy(policy: Any, training: Training, run: Run, **further: Any) -> None:
    """Act with the best network, or with the last.

    Everything is made first and set, with ``further`` attributes, in one step that Ctrl-C cannot come into.
    """
    search, setting = training.search, training.setting
    parameters, moments, generation = search.parameters, search.moments, search.generation
    if policy.keep_best and training.best is not None:
        parameters, moments, _, generation, *_ = training.best
    distribution = policy._search(setting.network, run.obs_size, run.n_outputs, "numpy")
    standardizer = setting.standardizer(moments)
    deployed = DeployedPolicy.of(setting.network, distribution, parameters, standardizer, run.action_space, run.seed)
    vars(policy).update(
        further
        | policy._shown(setting.network, parameters)
        | {
            "_training": training,
            "_deployed": deployed,
            "deployed_generation_": generation,
            "n_env_steps_": training.n_env_steps,
            "n_generations_": search.generation,
        }
    )
