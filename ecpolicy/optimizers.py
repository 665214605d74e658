"""Optimizers: two pure functions over dictionaries of arrays, ``init(theta)`` and ``update(gradient, state, theta)``.

``update`` returns the step to add to the parameters, in the direction that increases the objective.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.float32]]


class OptimizerState(NamedTuple):
    """The rule, the number of updates made, and the moment estimates by name (empty for plain ascent)."""

    kind: str
    updates: int
    first: Arrays
    second: Arrays


class Optimizer(NamedTuple):
    """A gradient-ascent rule."""

    init: Callable[[Arrays], OptimizerState]
    update: Callable[[Arrays, OptimizerState, Arrays], tuple[Arrays, OptimizerState]]


def sgd(learning_rate: float) -> Optimizer:
    """Plain ascent, the paper's equation 14: ``step = learning_rate * gradient``."""

    def init(theta: Arrays) -> OptimizerState:
        return OptimizerState("sgd", 0, {}, {})

    def update(gradient: Arrays, state: OptimizerState, theta: Arrays) -> tuple[Arrays, OptimizerState]:
        rate = np.float32(learning_rate)
        return {name: rate * g for name, g in gradient.items()}, state._replace(updates=state.updates + 1)

    return Optimizer(init, update)


def adam(learning_rate: float, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    """Adam (Kingma and Ba, 2015), as the paper's released code applies it to connection probabilities."""

    def init(theta: Arrays) -> OptimizerState:
        zeros = {name: np.zeros_like(value) for name, value in theta.items()}
        return OptimizerState("adam", 0, zeros, zeros)

    def update(gradient: Arrays, state: OptimizerState, theta: Arrays) -> tuple[Arrays, OptimizerState]:
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
        return step, OptimizerState("adam", updates, first, second)

    return Optimizer(init, update)


def adamw(learning_rate: float, *, weight_decay: float) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): less ``learning_rate weight_decay theta``."""
    plain, shrink = adam(learning_rate), np.float32(learning_rate * weight_decay)

    def init(theta: Arrays) -> OptimizerState:
        return plain.init(theta)._replace(kind="adamw")

    def update(gradient: Arrays, state: OptimizerState, theta: Arrays) -> tuple[Arrays, OptimizerState]:
        step, after = plain.update(gradient, state, theta)
        return {name: part - shrink * theta[name] for name, part in step.items()}, after._replace(kind="adamw")

    return Optimizer(init, update)


OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {"adam": adam, "sgd": sgd}
