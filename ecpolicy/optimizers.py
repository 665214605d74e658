"""Optimizers: two pure functions over dictionaries of arrays, ``init(theta)`` and ``update(gradient, state, theta)``.

``update`` returns the step to add to the parameters, in the direction that increases the objective. The state is a tree
of the optimizer's own, of arrays and numbers in named tuples, dicts and tuples: what ``init`` returns says which names,
types, dtypes and shapes it keeps, and that is what model files are held against. Whole numbers in it are counts. Where
a state is a named tuple with a method ``is_sound``, files whose state it denies are refused.

``OPTIMIZERS["momentum"] = momentum`` makes a function ``momentum(learning_rate) -> Optimizer`` known by this name, to
fits and to files.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.float32]]
OptimizerState = Any  # of an optimizer's own


class Optimizer(NamedTuple):
    """A gradient-ascent rule."""

    init: Callable[[Arrays], OptimizerState]
    update: Callable[[Arrays, OptimizerState, Arrays], tuple[Arrays, OptimizerState]]


class SGDState(NamedTuple):
    """The number of updates made."""

    updates: int


class AdamState(NamedTuple):
    """The number of updates made, and the moment estimates by name."""

    updates: int
    first: Arrays
    second: Arrays

    def is_sound(self) -> bool:
        """Whether these can be moments: the second ones are of squares."""
        return all(bool((part >= 0).all()) for part in self.second.values())


def sgd(learning_rate: float) -> Optimizer:
    """Plain ascent, the paper's equation 14: ``step = learning_rate * gradient``."""

    def init(theta: Arrays) -> SGDState:
        return SGDState(0)

    def update(gradient: Arrays, state: SGDState, theta: Arrays) -> tuple[Arrays, SGDState]:
        rate = np.float32(learning_rate)
        return {name: rate * g for name, g in gradient.items()}, SGDState(state.updates + 1)

    return Optimizer(init, update)


def adam(learning_rate: float, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Adam (Kingma and Ba, 2015), as the paper's released code applies it to connection probabilities."""

    def init(theta: Arrays) -> AdamState:
        zeros = {name: np.zeros_like(value) for name, value in theta.items()}
        return AdamState(0, zeros, zeros)

    def update(gradient: Arrays, state: AdamState, theta: Arrays) -> tuple[Arrays, AdamState]:
        updates = state.updates + 1
        b1, b2, rest1, rest2 = (np.float32(b) for b in (beta1, beta2, 1 - beta1, 1 - beta2))
        first = {name: b1 * state.first[name] + rest1 * g for name, g in gradient.items()}
        second = {name: b2 * state.second[name] + rest2 * g * g for name, g in gradient.items()}
        rate = np.float32(learning_rate / (1 - beta1**updates))
        correction = np.float32(1 / (1 - beta2**updates))
        step = {}
        for name in gradient:
            deviation: NDArray[np.float32] = np.sqrt(second[name] * correction)
            step[name] = rate * first[name] / (deviation + np.float32(epsilon))
        return step, AdamState(updates, first, second)

    return Optimizer(init, update)


def adamw(learning_rate: float, *, weight_decay: float) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): less ``learning_rate weight_decay theta``."""
    plain, shrink = adam(learning_rate), np.float32(learning_rate * weight_decay)

    def update(gradient: Arrays, state: AdamState, theta: Arrays) -> tuple[Arrays, AdamState]:
        step, after = plain.update(gradient, state, theta)
        return {name: part - shrink * theta[name] for name, part in step.items()}, after

    return Optimizer(plain.init, update)


OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {"adam": adam, "sgd": sgd}
