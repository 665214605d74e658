"""Evolving Connectivity: the paper's algorithm on one screen."""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from ecpolicy.distributions import Distribution, Parameters
from ecpolicy.fitness_shaping import FitnessShaping
from ecpolicy.normalization import Moments
from ecpolicy.optimizers import Optimizer, OptimizerState
from ecpolicy.random import Key, fold_in, key_from_seed
from ecpolicy.rollout.outcome import Outcome

Evaluate = Callable[[Parameters, Moments, Key], Outcome]


class State(NamedTuple):
    """The search between two generations: all that a later generation depends on, apart from the seed."""

    generation: int  # those that were finished
    parameters: Parameters  # of the distribution, (pre, post) by name
    optimizer: OptimizerState
    moments: Moments  # of the observations that members acted upon

    @classmethod
    def start(
        cls, distribution: Distribution, optimizer: Optimizer, moments: Moments | None = None, *, key: Key | None = None
    ) -> Self:
        """The search before its first generation.

        Parameters
        ----------
        distribution : Distribution
        optimizer : Optimizer
        moments : Moments, optional
            Of observations made before; None for a simulator that scales its observations itself.
        key : Key, optional
            What a distribution with a random start, such as :class:`ecpolicy.distributions.Gaussian`, draws it from.

        Returns
        -------
        State
        """
        parameters = distribution.project(distribution.init(key_from_seed(0) if key is None else key))
        return cls(0, parameters, optimizer.init(parameters), Moments.empty(0) if moments is None else moments)


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
    key : ndarray of uint32, shape (2,)
        The run's key, ``ecpolicy.random.key_from_seed(seed)``; member m of this generation draws from
        ``fold_in(fold_in(key, state.generation), m)``.
    population_size : int
        Members N; an even number for a Gaussian, whose members come in pairs.
    evaluate : callable (parameters, moments, keys) -> Outcome
        Draws the members with these keys, (N, 2), plays their episodes and tells what came of them:
        ``Outcome.of(returns)`` will do.
    distribution : Distribution
        :class:`ecpolicy.distributions.Bernoulli`, :class:`ecpolicy.distributions.Gaussian`, or whatever has their
        methods.
    fitness_shaping : callable (fitness) -> Utility
        :func:`ecpolicy.fitness_shaping.centered_ranks`, or another function of the N mean returns.
    optimizer : Optimizer
        :func:`ecpolicy.optimizers.adam` and the like.

    Returns
    -------
    (State, Outcome)
        The state after the update, and the population's episodes.

    Examples
    --------
    Sixteen connections, of which the first eight should be there and the others not:

    >>> import numpy as np
    >>> from ecpolicy.distributions import Bernoulli
    >>> from ecpolicy.evolution import State, generation
    >>> from ecpolicy.fitness_shaping import centered_ranks
    >>> from ecpolicy.networks.layout import unpack
    >>> from ecpolicy.networks import Shape
    >>> from ecpolicy.optimizers import adam
    >>> from ecpolicy.random import key_from_seed
    >>> from ecpolicy.rollout.outcome import Outcome
    >>> bernoulli, climb = Bernoulli({"bits": Shape(1, 16)}), adam(0.1)
    >>> def evaluate(rho, moments, keys):
    ...     bits = unpack(bernoulli.sample(rho, keys)["bits"], 16)[:, 0]
    ...     return Outcome.of(bits[:, :8].sum(axis=1) - bits[:, 8:].sum(axis=1))
    >>> state = State.start(bernoulli, climb)
    >>> for _ in range(20):
    ...     state, outcome = generation(
    ...         state, key=key_from_seed(0), population_size=64, evaluate=evaluate, distribution=bernoulli,
    ...         fitness_shaping=centered_ranks, optimizer=climb,
    ...     )
    >>> np.round(state.parameters["bits"][0, [0, 7, 8, 15]])
    array([1., 1., 0., 0.], dtype=float32)
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
