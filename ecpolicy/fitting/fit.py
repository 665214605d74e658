"""One fit for all estimators: check, resolve, start or go on, advance, publish, stop."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ecpolicy.callbacks import Callback, Chain, Progress
from ecpolicy.callbacks.protocol import chained
from ecpolicy.callbacks.symptoms import gives_up, left_to_chance, nothing_to_learn
from ecpolicy.callbacks.view import TrainingView
from ecpolicy.cleanup import cleaning_up
from ecpolicy.environments import Resolved, other_spaces, resolve
from ecpolicy.fitting.backends import check_seed, choose, engine, runner
from ecpolicy.fitting.deployed import Deployable, DeployedPolicy
from ecpolicy.fitting.interrupts import interrupts
from ecpolicy.fitting.judge import Judge
from ecpolicy.fitting.learner import Learner, Run, T, Trainable
from ecpolicy.fitting.observation_statistics import initial_moments
from ecpolicy.fitting.resumption import ResumeFrom, adopt, earlier_training, own_training
from ecpolicy.history import Record, appended
from ecpolicy.identity import known_different, told
from ecpolicy.random import seed_of
from ecpolicy.spaces import action_outputs
from ecpolicy.untyped import Space


def fit(
    policy: Trainable[T],
    environments: object,
    callbacks: Callback | Sequence[Callback] | None,
    resume_from: ResumeFrom | None,
    observation_statistics: object,
) -> None:
    """Train until there is a reason to stop; whatever happens, nothing that was published is lost."""
    called = chained(callbacks)
    earlier, observation_statistics = earlier_training(policy, resume_from, observation_statistics)
    with (
        _learning(policy, environments, earlier, observation_statistics) as (run, learner, training),
        interrupts() as interrupted,
    ):
        if policy.verbose:
            called = Chain(called, Progress(int(policy.verbose) * policy.eval_every))
        if earlier is not None:
            adopt(policy, earlier)
        view, began, stopped = TrainingView(policy, continues=earlier is not None), False, "error"

        def reason(training: T) -> str:
            return _reason_to_stop(policy, training, run.judge.threshold, interrupted)

        def finish() -> None:
            if began or earlier is not None:
                policy.stop_reason_ = stopped
            if began:
                called.finish(view)

        with cleaning_up(finish):
            try:
                called.begin(view)
                if earlier is not None:
                    training = learner.measure_again(training)
                    if reason(training):  # parameters that choose the deployed network may have changed
                        deploy(policy, earlier._training, run.resolved.action_space, run.seed)
                while not (end := reason(training)):
                    training, record = learner.advance(training, lambda training: not reason(training))
                    _publish(policy, training, run, record)
                    began = True
                    history, episodes = vars(policy)["history_"], vars(policy).get("episodes_per_member")
                    if symptom := nothing_to_learn(history) or gives_up(history) or left_to_chance(history, episodes):
                        warnings.warn(symptom, stacklevel=3)
                    if called(view):
                        end = f"callback {called.stopped_by}"
                        break
                stopped = end
            except KeyboardInterrupt:
                stopped = "interrupted"
                raise
    if stopped == "interrupted":
        warnings.warn(f"Interrupted: fit ended after generation {training.generation}.", stacklevel=3)


def partial_fit(policy: Trainable[T], environments: object) -> None:
    """Train for one step more."""
    earlier = own_training(policy)
    with _learning(policy, environments, earlier) as (run, learner, training):
        if earlier is not None:
            training = learner.measure_again(training)
        training, record = learner.advance(training, lambda training: False)
        _publish(policy, training, run, record)
    policy.stop_reason_ = "partial_fit"


@contextmanager
def _learning(
    policy: Trainable[T], environments: object, earlier: Trainable[T] | None, observation_statistics: object = None
) -> Iterator[tuple[Run, Learner[T], T]]:
    """Check everything; what trains, until the context ends, and where it starts.

    ``earlier`` is the policy whose training goes on, or None.
    """
    network, resolved = policy._check(), resolve(environments)
    policy._check_environments(resolved)
    backend = choose(policy.backend, resolved)
    if earlier is None:
        check_seed(backend, policy.random_state)
    else:
        _check_same_spaces(earlier, resolved)
    moments = initial_moments(observation_statistics, resolved.observation_space, continues=earlier is not None)
    played_by = engine(policy.engine, backend, resolved)
    seed = seed_of(policy.random_state) if earlier is None else earlier.seed_
    threshold = resolved.reward_threshold if policy.score_threshold == "auto" else policy.score_threshold
    judge = Judge(
        seed,
        resolved.horizons(otherwise=policy._endless_episode()),
        threshold=None if threshold is None else float(threshold),
        eval_episodes=int(policy.eval_episodes),
        confirm_episodes=int(policy.confirm_episodes),
    )
    with ExitStack() as closing:
        episodes = closing.enter_context(runner(policy, backend, resolved, network, played_by))
        run = Run(network, resolved, backend, played_by, seed, episodes, judge)
        learner = policy._learner(run, closing)
        training = learner.start(moments) if earlier is None else learner.resume(earlier._training)
        if earlier is not None and earlier is not policy:
            _warn_of_another_task(earlier, resolved.identities)
        yield run, learner, training


def _check_same_spaces(earlier: Trainable[T], resolved: Resolved) -> None:
    """Raise where the earlier training was for other spaces."""
    for name, trained, given in other_spaces(earlier, resolved):
        raise ValueError(
            f"Training so far was for the {name} {trained}, the environment has {given}. Fit without warm_start to "
            "start anew."
        )


def _warn_of_another_task(earlier: Trainable[T], identities: Sequence[str]) -> None:
    """Say so where a saved training goes on with other environments than it had."""
    before = earlier.environments_
    if len(before) == len(identities) and not any(map(known_different, before, identities)):
        return
    names = [", ".join(dict.fromkeys(map(told, each))) for each in (before, identities)]
    alike = " (of the same name, but with other settings or code)" if names[0] == names[1] else ""
    warnings.warn(
        f"resume_from continues a training on {names[0]}; the environment is now {names[1]}{alike}. The network that "
        "was kept is measured on it anew.",
        stacklevel=6,  # the caller of the estimator's fit
    )


def _reason_to_stop(policy: Trainable[T], training: T, threshold: float | None, interrupted: Callable[[], bool]) -> str:
    """Why there is no further step, or an empty string."""
    if threshold is not None and training.solved_at is not None and training.solved_at >= threshold:
        return "score_threshold"
    if training.generation >= policy._most_generations():
        return "n_generations"
    if policy.max_env_steps is not None and training.n_env_steps >= policy.max_env_steps:
        return "max_env_steps"
    return "interrupted" if interrupted() and training.generation > 0 else ""


def _publish(policy: Trainable[T], training: T, run: Run, record: Record) -> None:
    """Make a finished step the fitted state."""
    first, resolved = training.generation == 1, run.resolved
    of_threshold = resolved.notes if policy.score_threshold == "auto" else ()
    further: dict[str, object] = {
        "history_": appended([] if first else vars(policy)["history_"], record),
        "observation_space_": resolved.observation_space,
        "n_features_in_": run.sizes[0],
        "notes_": [*of_threshold, *([] if run.engine.note is None else [run.engine.note])],
        "engine_": run.engine.name,
        "stop_reason_": None,
    }
    if first:
        further["_n_sampled"] = 0
    deploy(policy, training, resolved.action_space, run.seed, **further)


def deploy(policy: Trainable[T], training: T, action_space: Space, seed: int, **further: object) -> None:
    """Act with the best network of a training, or the last."""
    chosen = policy._deployable(training, action_outputs(action_space))
    act_with(policy, chosen, training, action_space, seed, n_env_steps_=training.n_env_steps, **further)


def act_with(
    policy: Trainable[T], chosen: Deployable, training: object, action_space: Space, seed: int, **further: object
) -> None:
    """Act with a network.

    Everything is made first and set, with ``further`` attributes, in one step that Ctrl-C cannot come into.
    """
    deployed = DeployedPolicy.of(chosen, action_space, seed)
    own = {"_training": training, "_deployed": deployed, "action_space_": action_space, "seed_": seed}
    vars(policy).update({**further, **chosen.shown, **own})
