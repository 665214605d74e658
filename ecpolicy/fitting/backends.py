"""Which code plays the episodes and adds up the population: strings become objects here."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from numbers import Integral
from typing import NamedTuple, Protocol, TypeVar

from joblib import effective_n_jobs

from ecpolicy.distributions import WeightedNoise, WeightedSum, host_noise
from ecpolicy.environments import Resolved
from ecpolicy.identity import told
from ecpolicy.networks import Network
from ecpolicy.networks.numba import bits as host
from ecpolicy.optional import require
from ecpolicy.rollout.episodes import Play, Table
from ecpolicy.rollout.mujoco.robot import Robot
from ecpolicy.rollout.outcome import Outcome
from ecpolicy.rollout.runner import Runner
from ecpolicy.rollout.seconds import Seconds
from ecpolicy.rollout.workers import Plan

T = TypeVar("T")


class Machine(Protocol):
    """How much of the machine is used, as a policy has it."""

    n_jobs: int | None
    timeout: float | None
    chunk_size: int | None


class Plays(Protocol):
    """What plays episodes; see :class:`ecpolicy.rollout.runner.Runner`."""

    plays_beside: bool  # whether episodes ahead fill what others leave idle

    @property
    def seconds(self) -> Seconds | None:
        """That playing has taken so far, of all workers together; None where its parts cannot be told apart."""

    def run(
        self, play: Play[T], ahead: Table | None = None, wanted: Callable[[T | None], bool] = lambda result: True
    ) -> tuple[T, Outcome | Exception | None]:
        """What ``play`` came to, and what came of the episodes played ahead beside it."""


def choose(backend: str, resolved: Resolved) -> str:
    """Choose "numpy" or "jax": "auto" is what the environments suit.

    Raises
    ------
    ImportError, ValueError
        Where JAX is wanted and missing, or the environments run in JAX alone.
    """
    if resolved.on_device and backend == "numpy":
        raise ValueError(
            'Environments of Brax and MuJoCo Playground are JAX programs: give backend="jax" or "auto", not "numpy".'
        )
    if resolved.on_device or backend == "jax":
        require("jax", 'backend="jax"')
        return "jax"
    return "numpy"


def check_seed(backend: str, random_state: object) -> None:
    """Raise where several JAX processes would each draw a seed of their own."""
    if backend == "jax" and not isinstance(random_state, Integral):
        import jax

        if jax.process_count() > 1:
            raise ValueError(
                f"{jax.process_count()} JAX processes train together: random_state must be an integer, the same in "
                f"all of them; got {random_state!r}."
            )


def weighted_sum(backend: str, n_jobs: int | None) -> WeightedSum:
    """What adds up a population's connections, on the host in as many threads as there are workers here."""
    if backend == "numpy":
        n_threads = 1 if n_jobs in (None, 1) else min(effective_n_jobs(n_jobs), os.cpu_count() or 1)
        return partial(host.weighted_sum, n_threads=n_threads)
    from ecpolicy.networks.xla import bits as device

    return device.weighted_sum


def weighted_noise(backend: str) -> WeightedNoise:
    """What adds up a population's noise."""
    if backend == "numpy":
        return host_noise
    from ecpolicy.networks.xla import bits as device

    return device.weighted_noise


class Engine(NamedTuple):
    """What plays the episodes."""

    name: str  # "mujoco", "gymnasium" or "jax"
    robots: tuple[Robot, ...] = ()  # the environments, where they are played natively
    note: str | None = None  # why robots are not, for people


def engine(wanted: str, backend: str, resolved: Resolved) -> Engine:
    """The engine for these environments: the native one plays all of them, or none.

    Raises
    ------
    ValueError
        Where ``wanted`` is "mujoco" and one of them is not a robot that it knows; it says why.
    """
    reasons = [robot for robot in resolved.robots if isinstance(robot, str)]
    if backend == "jax":
        reasons = reasons or ['backend="jax" steps the networks in XLA']
    if wanted == "mujoco" and reasons:
        raise ValueError(
            f'engine="mujoco" does not play this environment: {reasons[0]}. It plays the robots of Gymnasium as '
            'gymnasium.make makes them; give engine="auto" to let Gymnasium play the others.'
        )
    if resolved.on_device:
        return Engine("jax")
    if wanted == "gymnasium" or not reasons:
        robots = tuple(robot for robot in resolved.robots if not isinstance(robot, str))
        return Engine("gymnasium") if wanted == "gymnasium" else Engine("mujoco", robots)
    are_robots = all(told(identity).startswith("gymnasium.envs.mujoco.") for identity in resolved.identities)
    return Engine("gymnasium", note=f"The engine is Gymnasium, not MuJoCo's: {reasons[0]}." if are_robots else None)


def runner(
    machine: Machine, backend: str, resolved: Resolved, network: Network, engine: Engine
) -> AbstractContextManager[Plays]:
    """What plays episodes of this network on these environments; a context manager."""
    if backend == "jax" and not resolved.on_device:
        from ecpolicy.networks.xla.twins import OnDevice

        network = OnDevice(network)
    plan = Plan(
        resolved.environments,
        resolved.observation_space,
        resolved.action_space,
        network,
        resolved.vectorized,
        None if machine.timeout is None else float(machine.timeout),
        resolved.identities,
        resolved.registrations,
        engine.robots,
    )
    if resolved.on_device:
        from ecpolicy.rollout.device import DeviceRunner

        return DeviceRunner(plan, machine.chunk_size)
    return Runner(plan, machine.n_jobs)
