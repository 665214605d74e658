"""Evolving Connectivity: the paper's algorithm on one screen."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ecpolicy.distributions import Distribution, Parameters
from ecpolicy.fitness_shaping import FitnessShaping
from ecpolicy.normalization import Moments
from ecpolicy.optimizers import Optimizer, OptimizerState
from ecpolicy.random import Key, fold_in
from ecpolicy.rollout.outcome import Outcome

Evaluate = Callable[[Parameters, Moments, Key], Outcome]


class State(NamedTuple):
    """The search between two generations: all that a later generation depends on, apart from the seed."""

    generation: int
    parameters: Parameters
    optimizer: OptimizerState
    moments: Moments


def generation(
    state: State,
    *,
    key: Key,
    population_size: int,
    evaluate: Evaluate,
    distribution: Distribution,
    fitness_shaping: FitnessShaping,
    optimizer: Optimizer,
) -> tuple[State, Outcome]:
    """One generation: draw a population, evaluate it, climb the natural gradient (equations 8 to 14).

    Parameters
    ----------
    state : State
    key : Key
        The run's key; member m of this generation draws from ``fold_in(fold_in(key, generation), m)``.
    population_size : int
    evaluate : callable (parameters, moments, keys) -> Outcome
        Draws the members with these keys, plays their episodes and returns their returns.
    distribution, fitness_shaping, optimizer
        The three choices of the algorithm.

    Returns
    -------
    (State, Outcome)
        The state after the update, and the population's episodes.
    """
    keys = member_keys(key, state.generation, population_size)
    outcome = evaluate(state.parameters, state.moments, keys)
    utility = fitness_shaping(outcome.fitness)
    gradient = distribution.gradient(state.parameters, keys, utility)
    step, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters)
    parameters = distribution.project({name: p + step[name] for name, p in state.parameters.items()})
    moments = state.moments.merge(outcome.moments)
    return State(state.generation + 1, parameters, optimizer_state, moments), outcome


def member_keys(key: Key, generation: int, population_size: int) -> Key:
    """The keys (population_size, 2) that the members of a generation are drawn from."""
    return fold_in(fold_in(key, generation), np.arange(population_size))
