"""Augmented Random Search (Mania et al., 2018, version V2-t) on this library's engine: a rival for reproduce.py.

Equal to sb3-contrib's ARS but for the engine and the random numbers: linear policies of normalised observations, pairs
of opposite directions, the best of them weighted by their difference in return over its deviation, plain ascent.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from ecpolicy import ESPolicy
from ecpolicy.fitness_shaping import Utility
from ecpolicy.networks import Shape
from ecpolicy.networks.network import Settings
from ecpolicy.optimizers import sgd

SCALE = 2.0**16


class NoState(NamedTuple):
    """Linear policies have no memory."""


@numba.njit(cache=True)
def multiply(weights, owners, rows, x, output):
    for row in rows:
        for j in range(output.shape[1]):
            total = np.float32(0)
            for i in range(x.shape[1]):
                total += x[row, i] * weights[owners[row], i, j]
            output[row, j] = total


@dataclass(frozen=True, repr=False)
class Linear(Settings):
    """``output = x W``, with W zero at the start."""

    def shapes(self, obs_size, n_outputs):
        return {"weights": Shape(obs_size, n_outputs)}

    def initial_scales(self, obs_size, n_outputs):
        return {"weights": 0.0}

    def initial_state(self, keys, n_outputs):
        return NoState()

    def step(self, connections, state, x, output, *, owners, rows):
        multiply(connections["weights"], owners, rows, x, output)


def best_directions(fitness, n_top):
    """Differences of pairs over the deviation of the returns that are used, for the ``n_top`` best pairs; else 0."""
    pairs = fitness.reshape(-1, 2)
    best = np.argsort(-pairs.max(axis=1), kind="stable")[:n_top]
    difference = np.zeros(len(pairs))
    difference[best] = (pairs[best, 0] - pairs[best, 1]) / max(pairs[best].std(), 1e-9)
    weights = np.rint(difference * SCALE).astype(np.int32)
    return Utility(np.stack([weights, -weights], axis=1).reshape(-1), SCALE)


def ars(*, learning_rate, delta_std, n_delta, n_top, **parameters):
    """A policy that is trained by ARS, with sb3-contrib's names."""

    class ARS(ESPolicy):
        def _shaping(self):
            return lambda fitness: best_directions(fitness, n_top)

        def _rules(self):
            return {"sgd": sgd}

        def _ascent(self):  # the library's gradient is divided by the pairs and delta_std, ARS's step by n_top
            return "sgd", lambda n_env_steps: sgd(learning_rate * n_delta * delta_std / n_top)

    return ARS(network=Linear(), population_size=2 * n_delta, sigma=delta_std, **parameters)
