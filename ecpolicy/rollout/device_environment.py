"""What an environment of Brax or MuJoCo Playground is, as far as programs on a device look at it."""

import copy
import sys
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array

from ecpolicy.identity import same
from ecpolicy.rollout.outcome import TRAVEL


class State(Protocol):
    """What programs look at of the state of an environment; it is a tree of arrays."""

    obs: Array | Mapping[str, Array]
    reward: Array
    done: Array


class Environment(Protocol):
    """What programs ask of an environment."""

    action_size: int

    def reset(self, rng: Array) -> State:
        """The state at the start of an episode."""

    def step(self, state: State, action: Array) -> State:
        """The next state."""


class Snapshot:
    """An environment as a key: equal to those with the same content, see :mod:`ecpolicy.identity`.

    It keeps a copy, which no later change of the environment reaches: programs are traced again for other sizes. What
    cannot be compared or copied is equal to itself alone.
    """

    def __init__(self, environment: Environment, identity: str | None) -> None:
        self.environment, self._content = environment, identity
        if identity is None or not same([identity], [identity]):
            self._content = None
            return
        try:
            self.environment = copy.deepcopy(environment, {id(module): module for module in list(sys.modules.values())})
        except Exception:  # of the environment's own
            self._content = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Snapshot) and self._content is not None and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


def observation(state: State) -> Array:
    """The observation that a policy sees: Playground also has privileged ones."""
    seen: Array = state.obs["state"] if isinstance(state.obs, Mapping) else state.obs
    return seen


def sizes(environment: Environment) -> tuple[int, int]:
    """Sizes of an observation and of an action; nothing is computed.

    Raises
    ------
    ValueError
        Where the environment is not one environment, or its observation not a flat array.
    """
    state = jax.eval_shape(environment.reset, jax.random.PRNGKey(0))
    if isinstance(state.obs, Mapping) and "state" not in state.obs:
        raise ValueError(f'The environment observes {sorted(state.obs)}; wanted an array, or a "state" among them.')
    shape = observation(state).shape
    if len(shape) != 1 or shape[0] == 0 or state.done.shape != ():
        raise ValueError(
            f"The environment's observation has shape {shape} and its done shape {state.done.shape}; wanted (n,) and "
            "(). Give the environment itself, without a wrapper that makes a batch of it."
        )
    return shape[0], int(environment.action_size)


def travel(state: State) -> tuple[Array, Array]:
    """The x-velocity and the x-position that locomotion tasks report in their metrics; NaN for others."""
    metrics = getattr(state, "metrics", None)
    if not isinstance(metrics, Mapping) or not set(TRAVEL) <= set(metrics):
        unknown = jnp.full(jnp.shape(state.reward), jnp.nan, jnp.float32)
        return unknown, unknown
    return metrics[TRAVEL[0]].astype(jnp.float32), metrics[TRAVEL[1]].astype(jnp.float32)
