"""What whoever plays chunks of episodes has: environments, kept from one chunk to the next, here or in a worker."""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing.util import Finalize
from time import perf_counter
from typing import NamedTuple

import cloudpickle
import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from ecpolicy.cleanup import clean_up, cleaning_up
from ecpolicy.distributions import Connections
from ecpolicy.networks import Network
from ecpolicy.rollout import gymnasium as host
from ecpolicy.rollout import pool, vector
from ecpolicy.rollout.episodes import CHUNK, Networks, Table
from ecpolicy.rollout.exclusive import exclusively, shared
from ecpolicy.rollout.mujoco.player import Player, play_natively
from ecpolicy.rollout.mujoco.robot import Robot
from ecpolicy.rollout.outcome import EpisodeError, Episodes, Outcome, beside
from ecpolicy.rollout.seconds import Seconds
from ecpolicy.rollout.spaces_kept import SpacesKept
from ecpolicy.rollout.time_limit import failure, time_limit
from ecpolicy.spaces import action_decoder, action_outputs, observation_encoder
from ecpolicy.untyped import Env, Space, VectorEnv

AnyEnv = Env | VectorEnv
Environment = AnyEnv | Callable[[], AnyEnv]


class Plan(NamedTuple):
    """What stays the same for a whole fit or score; a worker gets it with every task."""

    environments: tuple[Environment, ...]
    observation_space: Space
    action_space: Space
    network: Network
    vectorized: bool  # some environment is a VectorEnv
    timeout: float | None = None  # seconds that a chunk may take
    identities: tuple[str, ...] = ()  # of the environments, see :mod:`ecpolicy.identity`
    registrations: tuple[EnvSpec, ...] = ()  # of ids that callables may look up and workers may not know
    robots: tuple[Robot, ...] = ()  # the environments, where all of them are played natively


def is_instance(environment: Environment) -> bool:
    """Whether this is an environment and not what makes one."""
    return isinstance(environment, gym.Env | gym.vector.VectorEnv)


class Instances:
    """The environment instances of one worker, made when first needed and kept between tasks of a fit."""

    def __init__(self, plan: Plan, token: str = "", *, in_worker: bool = False) -> None:
        self.plan, self._in_worker = plan, in_worker
        self.token = token  # of the fit
        for spec in plan.registrations:
            gym.registry.setdefault(spec.id, spec)
        self._made: list[list[AnyEnv]] = [[] for _ in plan.environments]
        self._playing, self._retired = threading.Lock(), False
        self.check_spaces = SpacesKept(plan.observation_space, plan.action_space)

    def of(self, index: int, wanted: int) -> list[AnyEnv]:
        """Up to ``wanted`` instances of an environment; exactly one of a VectorEnv, or where an instance was given."""
        given, made = self.plan.environments[index], self._made[index]
        if isinstance(given, gym.Env | gym.vector.VectorEnv):
            return [given]
        while len(made) < wanted and not (made and isinstance(made[0], gym.vector.VectorEnv)):
            made.append(make(given, made, in_worker=self._in_worker))
        return made[:wanted]

    @cached_property
    def player(self) -> Player:
        """What plays natively, where the plan is of robots."""
        return player(self.plan)

    def close(self) -> None:
        """Close what was made here; instances that were given stay open."""
        made, self._made = self._made, [[] for _ in self.plan.environments]
        close_all(environment for each in made for environment in each)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a task is played; only one can be."""
        with cleaning_up(lambda: self.retire() if self._retired else None), self._playing:
            yield

    def retire(self) -> None:
        """Close now or, where a task is being played in another thread, when that ends."""
        self._retired = True
        if self._playing.acquire(blocking=False):
            with cleaning_up(self._playing.release):
                self.close()


def make(factory: Callable[[], AnyEnv], made: Sequence[AnyEnv], *, in_worker: bool = False) -> AnyEnv:
    """A further environment of a callable, beside those that it has made.

    Raises
    ------
    EpisodeError
        Where it cannot make one here: what the caller's script registers or sets may be unknown to a worker process.
    ValueError
        Where it is one of the others, in whatever wrappers.
    """
    try:
        environment = factory()
    except Exception as error:
        hint = (
            " It was called in a worker process, which does not run your script: what that registers, sets or changes "
            "must be done in a module that the callable imports."
        )
        raise EpisodeError(
            f"{factory} could not make an environment: it {failure(error)}.{hint if in_worker else ''}"
        ) from error
    if shared(environment, made):
        raise ValueError(
            f"{factory} returned the same environment twice. Make a new one in every call, or give the environment "
            "itself."
        )
    return environment


def close_all(environments: Iterable[AnyEnv]) -> None:
    """Close environments; one that cannot be closed is a warning, so that the others are, and no training is lost."""
    clean_up(*(partial(_close, environment) for environment in environments))


def _close(environment: AnyEnv) -> None:
    try:
        environment.close()
    except Exception as error:
        warnings.warn(
            f"{environment} could not be closed: it raised {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )


def player(plan: Plan) -> Player:
    """What plays the plan's robots natively, in one thread."""
    return Player(plan.robots, plan.network, plan.observation_space, plan.action_space)


def play(plan: Plan, chunk: Table, instances: Instances) -> Outcome:
    """Draw the members of a chunk and play all their episodes."""
    if plan.robots:
        return play_natively(instances.player, chunk)
    began = perf_counter()
    connections, owners = chunk.draw()
    drawing = perf_counter() - began
    indices = [int(index) for index in chunk.environments[: chunk.episodes]]
    with time_limit(plan.timeout):
        made = {index: instances.of(index, min(chunk.members, CHUNK)) for index in dict.fromkeys(indices)}
    with exclusively(environment for each in made.values() for environment in each), time_limit(plan.timeout):
        outcome = beside(
            [
                _play(plan, chunk, connections, owners, instances, made[index], number)
                for number, index in enumerate(indices)
            ]
        )
    _, environments, networks = outcome.seconds
    return outcome._replace(seconds=Seconds(perf_counter() - began, environments, networks + drawing))


def _play(
    plan: Plan,
    chunk: Table,
    connections: Connections,
    owners: NDArray[np.int64],
    instances: Instances,
    made: Sequence[AnyEnv],
    number: int,
) -> Outcome:
    """One episode of every member, on one of the environments."""
    rows = slice(number, None, chunk.episodes)
    keys, seeds = np.ascontiguousarray(chunk.membrane_keys[rows]), np.ascontiguousarray(chunk.seeds[rows])
    episodes = Episodes(owners, keys, seeds, float(chunk.horizons[number]))
    batch = host.Batch(
        plan.network, connections, episodes, chunk.networks.standardizer, action_outputs(plan.action_space)
    )
    first = made[0]
    if isinstance(first, gym.vector.VectorEnv):
        instances.check_spaces(first)
        decode = action_decoder(first.single_action_space)
        play = pool.play if pool.is_pool(first) else vector.play
        return play(first, batch, episodes, observation_space=plan.observation_space, decode=decode)
    single = [environment for environment in made if isinstance(environment, gym.Env)]
    encode, decode = observation_encoder(plan.observation_space), action_decoder(first.action_space)
    return host.play(single, batch, episodes, encode=encode, decode=decode, check=instances.check_spaces)


class _Kept(threading.local):
    """In a worker: the environments of the fits that it last worked for, as making them is slow."""

    def __init__(self) -> None:
        self.fits: dict[str, Instances] = {}  # by token, the latest used last


FITS_KEPT = 4  # a fit and what its callbacks evaluate take turns

_kept = _Kept()
_working: set[Instances] = set()  # what workers in this process have


def retire(which: Callable[[Instances], bool]) -> None:
    """Close what workers in this process have kept."""
    for instances in list(_working):
        if which(instances):
            _working.discard(instances)
            instances.retire()


Finalize(None, retire, [lambda _: True], exitpriority=10)  # worker processes do not run what atexit knows


@dataclass(frozen=True, slots=True)
class Call:
    """What differs from one chunk to the next: keys and seeds. The plan and the networks are shared."""

    token: str  # of the fit
    parent: int  # process that sends
    chunk: Table  # without networks


def work(plan: Plan | bytes, networks: Networks, call: Call) -> Outcome:
    """Play a chunk on a worker. A pickled plan gives each of its threads environments of their own."""
    instances = _kept.fits.pop(call.token, None)
    if instances is None:
        elsewhere = os.getpid() != call.parent
        if elsewhere and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
            if hasattr(signal, "pthread_sigmask"):  # it was held back while the worker started
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        plan = unpacked(plan) if isinstance(plan, bytes) else plan
        instances = Instances(plan, call.token, in_worker=elsewhere)
        while len(_kept.fits) >= FITS_KEPT:
            retire({_kept.fits.pop(next(iter(_kept.fits)))}.__contains__)
        _working.add(instances)
    _kept.fits[call.token] = instances
    with instances.in_use():
        chunk = call.chunk._replace(networks=networks)
        return play(instances.plan, chunk, instances)


def packed(plan: Plan) -> bytes:
    """A plan for worker processes, pickled once.

    Raises
    ------
    ValueError
        Where something in it cannot be pickled.
    """
    try:
        pickled: bytes = cloudpickle.dumps(plan)
    except Exception as error:
        raise ValueError(
            f"The environments or the network cannot be sent to worker processes: {error}. Give an id or a callable "
            "that makes the environment, or n_jobs=1."
        ) from error
    return pickled


def unpacked(pickled: bytes) -> Plan:
    """The plan, with arrays that can be written to; raises EpisodeError where it needs what is not known here."""
    try:
        plan: Plan = cloudpickle.loads(pickled)
    except Exception as error:
        raise EpisodeError(
            f"A worker cannot load the environments or the network: {type(error).__name__}: {error}. Define them in a "
            "module that workers import, too."
        ) from error
    return plan
