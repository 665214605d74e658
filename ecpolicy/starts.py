"""Several starts of a search, of which the best goes on: one that got stuck early costs a few steps, not all."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sklearn.base import clone

from ecpolicy.callbacks import Callback, Checkpoint
from ecpolicy.callbacks.protocol import chained
from ecpolicy.cleanup import cleaning_up
from ecpolicy.constraints import Integer
from ecpolicy.evolution import State
from ecpolicy.fitting.evolution_learner import fresh
from ecpolicy.fitting.resumption import ResumeFrom, adopt, earlier_training
from ecpolicy.policies.evolved import EvolvedPolicy
from ecpolicy.spaces import action_outputs

P = TypeVar("P", bound=EvolvedPolicy)

SCHEDULES = ("learning_rate", "eps", "max_episode_steps")
COMPARED = 0.25  # last share of a start's steps, whose populations speak for it: a single one is noise


class End(NamedTuple):
    """How a start ended."""

    generation: int
    n_env_steps: int
    score: float  # mean return of its last populations


def best_start(
    policy: P,
    environments: object,
    *,
    n_starts: int = 1,
    env_steps: int = 1_000_000,
    callbacks: Callback | Sequence[Callback] | None = None,
    resume_from: ResumeFrom | None = None,
    observation_statistics: object = None,
) -> P:
    """Fit a policy anew with several starts of its search: the one with the best populations goes on.

    Starts are compared by the mean return of the populations in the last quarter of their steps. Every start begins
    with fresh parameters and, as generations are counted on, draws populations of its own. The steps of all starts
    count, and so do their observations and the best network deployed so far; until the choice, schedules begin anew
    with every start.

    Parameters
    ----------
    policy : EvolvingConnectivityPolicy or ESPolicy
        It is fitted. Its ``max_env_steps``, if any, is for the starts and all that follows.
    environments : environment, or list of environments
        As for ``fit``.
    n_starts : int, default 1
        With one, this is ``policy.fit``.
    env_steps : int, default 1_000_000
        Environment steps of every start.
    callbacks : callable or sequence of callables, optional
        As for ``fit``; every start and what follows begins and finishes them. A
        :class:`ecpolicy.callbacks.Checkpoint` keeps the best start so far beside its file, in ``<name>.start.ecp``.
    resume_from : path-like or Checkpoint, optional
        As for ``fit``: go on from a file that such a Checkpoint has saved, during a start or after the choice.
    observation_statistics : VecNormalize or (mean, variance, count), optional
        As for ``fit``.

    Returns
    -------
    policy

    Raises
    ------
    TypeError, ValueError
        Where the policy has no search, or the numbers make no sense; and as for ``fit``.
    FileNotFoundError
        Where the best start so far is not beside the file to resume from; and as for ``fit``.

    Examples
    --------
    >>> from ecpolicy import EvolvingConnectivityPolicy, best_start
    >>> policy = EvolvingConnectivityPolicy(n_generations=6, population_size=16, random_state=0)
    >>> policy = best_start(policy, "CartPole-v1", n_starts=2, env_steps=600)
    >>> policy.n_generations_
    6
    """
    if not isinstance(policy, EvolvedPolicy):
        raise TypeError(f"best_start fits policies that evolve; got a {type(policy).__name__}.")
    for name, value in (("n_starts", n_starts), ("env_steps", env_steps)):
        Integer(1)(name, value)
    further: dict[str, Any] = {"resume_from": resume_from, "observation_statistics": observation_statistics}
    if n_starts == 1:
        policy.fit(environments, callbacks=callbacks, **further)
        return policy
    limit = np.inf if policy.max_env_steps is None else policy.max_env_steps
    if limit <= n_starts * env_steps:
        warnings.warn(
            f"max_env_steps={limit} ends the fit before {n_starts} starts of {env_steps} steps have ended, so that "
            "none is chosen. Lower env_steps or n_starts.",
            stacklevel=2,
        )
    start = clone(policy)
    earlier, _ = earlier_training(start, resume_from, None)
    if earlier is not None:
        adopt(start, earlier)
    itself = {"resume_from": start}
    called, best = chained(callbacks), None
    files = [_beside(callback) for callback in called.callbacks if isinstance(callback, Checkpoint)]
    with cleaning_up(lambda: adopt(policy, start)):
        while len(ends := _ends(start, n_starts, env_steps)) < n_starts or start.n_generations_ == ends[-1].generation:
            if ends and start.n_generations_ == ends[-1].generation:
                winner = max(ends, key=lambda end: end.score)
                if winner is ends[-1]:
                    best = start._training.search
                    for path in files:
                        start.save(path)
                elif best is None:
                    best = _kept(start, _beside(resume_from), winner)
                further = itself
                if len(ends) == n_starts:
                    _go_on_with(start, best)
                    break
                _go_on_with(start, _fresh(start))
            began = ends[-1].n_env_steps if ends else 0
            start.set_params(max_env_steps=min(began + env_steps, limit), **_later(policy, began))
            start.fit(environments, callbacks=called, **further)
            further = itself
            if start.stop_reason_ != "max_env_steps" or start.n_env_steps_ >= limit:
                if start.stop_reason_ == "n_generations":
                    warnings.warn(
                        f"n_generations={policy.n_generations} ended the fit before {n_starts} starts of {env_steps} "
                        "steps have ended, so that none was chosen. Go on with more generations.",
                        stacklevel=2,
                    )
                return policy
        start.set_params(max_env_steps=policy.max_env_steps, **_later(policy, 0))
        start.fit(environments, callbacks=called, **further)
        for path in files:
            path.unlink(missing_ok=True)
    return policy


def _ends(start: EvolvedPolicy, n_starts: int, env_steps: int) -> list[End]:
    """The starts that have ended, as the history tells."""
    ends: list[End] = []
    returns: list[float] = []
    for record in getattr(start, "history_", ()):
        if len(ends) == n_starts:
            break
        taken = record["n_env_steps"] - (ends[-1].n_env_steps if ends else 0)
        if taken > (1 - COMPARED) * env_steps:
            returns.append(record["return_mean"])
        if taken >= env_steps:
            ends.append(End(record["generation"], record["n_env_steps"], float(np.mean(returns))))
            returns = []
    return ends


def _fresh(start: EvolvedPolicy) -> State:
    """The state that another start begins with; what was observed so far is known."""
    training = start._training
    distribution = start._search(training.setting.network, start.n_features_in_, action_outputs(start.action_space_))
    optimizer = start._ascent()[1](0)
    return fresh(distribution, optimizer, start.seed_, training.search.moments, generation=training.generation)


def _go_on_with(start: EvolvedPolicy, search: State) -> None:
    """Let the training go on with another search; generations are counted on."""
    training = start._training
    start._training = training._replace(search=search._replace(generation=training.generation))


def _later(policy: EvolvedPolicy, steps: int) -> dict[str, object]:
    """The schedules of a policy, so many environment steps later."""
    given = {name: value for name, value in policy.get_params(deep=False).items() if name in SCHEDULES}
    return {
        name: [(at + steps if at else 0, part) for at, part in value] if isinstance(value, Sequence) else value
        for name, value in given.items()
    }


def _beside(saved: Any) -> Path:
    """Where the best start so far is kept: beside a checkpoint."""
    path = Path(getattr(saved, "path", saved))
    return path.with_name(f"{path.stem}.start{path.suffix}")


def _kept(start: P, path: Path, winner: End) -> State:
    """The search of the best start so far, as it was kept in a file."""
    kept, _ = earlier_training(clone(start), path, None)
    if kept is None or kept._training.generation != winner.generation:
        raise ValueError(f"{path} is not the start that ended with generation {winner.generation}.")
    search: State = kept._training.search
    return search
