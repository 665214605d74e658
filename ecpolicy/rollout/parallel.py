"""Distributing episodes: fixed chunks of members, joblib workers, results that do not depend on either."""

import os
import signal
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Any, NamedTuple, Self

import cloudpickle
import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from ecpolicy.cleanup import clean_up, cleaning_up
from ecpolicy.distributions import Connections, Distribution, Parameters
from ecpolicy.networks import Network
from ecpolicy.normalization import Standardizer
from ecpolicy.random import Key, Stream, environment_seed, fold_in
from ecpolicy.rollout import host, pool, vector
from ecpolicy.rollout.engines import Unfinished, WorkersLost, engine
from ecpolicy.rollout.exclusive import exclusively, shared
from ecpolicy.rollout.outcome import EpisodeError, Episodes, Outcome, below, beside
from ecpolicy.rollout.spaces_kept import SpacesKept
from ecpolicy.rollout.time_limit import can_limit, failure, time_limit
from ecpolicy.spaces import action_decoder, action_outputs, observation_encoder

MEMBERS_PER_TASK = 16  # part of the result: observation sums are added up within a task, then across tasks
EPISODES_PER_TASK = 2  # of the deployed network, which plays few: every worker should get some

AnyEnv = gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any]
Environment = AnyEnv | Callable[[], AnyEnv]


class Plan(NamedTuple):
    """What stays the same for a whole fit or score; a worker gets it with every task."""

    environments: tuple[Environment, ...]
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    network: Network
    distribution: Distribution
    vectorized: bool  # some environment is a VectorEnv
    timeout: float | None = None  # seconds that a task may take
    identities: tuple[str, ...] = ()  # of the environments, see :mod:`ecpolicy.identity`
    registrations: tuple[EnvSpec, ...] = ()  # of ids that callables may look up and workers may not know


class Task(NamedTuple):
    """Members to draw and play: what travels to a worker."""

    parameters: Parameters
    keys: Key | None  # (members, 2) to draw members; None plays the deployed network
    membrane_keys: Key  # (members, environments, episodes, 2)
    seeds: NDArray[np.int64]  # (members, environments, episodes)
    standardizer: Standardizer
    horizons: tuple[float, ...]  # steps after which an episode is cut, by environment

    def rows(self, chunk: slice) -> "Task":
        """The task of some of the members."""
        keys = None if self.keys is None else self.keys[chunk]
        return self._replace(keys=keys, membrane_keys=self.membrane_keys[chunk], seeds=self.seeds[chunk])


def population_task(
    parameters: Parameters,
    keys: Key,
    *,
    n_environments: int,
    n_episodes: int,
    standardizer: Standardizer,
    horizons: tuple[float, ...],
) -> Task:
    """Fresh episodes for every member: initial potentials and environment seeds follow from the member's key."""
    plays = np.arange(n_environments * n_episodes).reshape(n_environments, n_episodes)
    stream = fold_in(keys, Stream.ENVIRONMENT)[:, None, None, :]
    membrane = fold_in(keys, Stream.MEMBRANE)[:, None, None, :]
    seeds = environment_seed(fold_in(stream, plays))
    return Task(parameters, keys, fold_in(membrane, plays), seeds, standardizer, horizons)


def deployed_task(
    parameters: Parameters,
    seeds: NDArray[np.int64],
    *,
    membrane_key: Key,
    standardizer: Standardizer,
    horizons: tuple[float, ...],
) -> Task:
    """Episodes of the deployed network: one per seed (environments, episodes), all from the same initial state."""
    per_episode = np.ascontiguousarray(seeds.T)[:, :, None]  # (episodes, environments, 1)
    membrane_keys = np.broadcast_to(membrane_key, (*per_episode.shape, 2))
    return Task(parameters, None, membrane_keys, per_episode, standardizer, horizons)


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


def run_task(plan: Plan, task: Task, instances: Instances) -> Outcome:
    """Draw the task's members and play all their episodes."""
    members, n_environments, n_episodes = task.seeds.shape
    if task.keys is None:
        connections, owners = plan.distribution.mode(task.parameters), np.zeros(members, dtype=np.int64)
    else:
        connections, owners = plan.distribution.sample(task.parameters, task.keys), np.arange(members)
    with time_limit(plan.timeout):
        made = [instances.of(index, min(members, MEMBERS_PER_TASK)) for index in range(n_environments)]
    with exclusively(environment for each in made for environment in each), time_limit(plan.timeout):
        return beside(
            [
                _play(plan, task, connections, instances, made[index], owners, index, episode)
                for index in range(n_environments)
                for episode in range(n_episodes)
            ]
        )


def _play(
    plan: Plan,
    task: Task,
    connections: Connections,
    instances: Instances,
    made: Sequence[AnyEnv],
    owners: NDArray[np.int64],
    index: int,
    episode: int,
) -> Outcome:
    """One episode of every member on one of the environments."""
    keys, seeds = np.ascontiguousarray(task.membrane_keys[:, index, episode]), task.seeds[:, index, episode]
    episodes = Episodes(owners, keys, seeds, task.horizons[index])
    batch = host.Batch(plan.network, connections, episodes, task.standardizer, action_outputs(plan.action_space))
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


def _retire(which: Callable[[Instances], bool]) -> None:
    for instances in list(_working):
        if which(instances):
            _working.discard(instances)
            instances.retire()


Finalize(None, _retire, [lambda _: True], exitpriority=10)  # worker processes do not run what atexit knows


@dataclass(frozen=True, slots=True)
class Call:
    """What differs from one task to the next: keys and seeds. The plan and the parameters are shared."""

    token: str  # of the fit
    parent: int  # process that sends
    task: Task  # without parameters


def work(plan: Plan | bytes, parameters: Parameters, call: Call) -> Outcome:
    """Play a task on a worker. A pickled plan gives each of its threads environments of their own."""
    instances = _kept.fits.pop(call.token, None)
    if instances is None:
        elsewhere = os.getpid() != call.parent
        if elsewhere and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
        plan = unpacked(plan) if isinstance(plan, bytes) else plan
        instances = Instances(plan, call.token, in_worker=elsewhere)
        while len(_kept.fits) >= FITS_KEPT:
            _retire({_kept.fits.pop(next(iter(_kept.fits)))}.__contains__)
        _working.add(instances)
    _kept.fits[call.token] = instances
    with instances.in_use():
        return run_task(instances.plan, call.task._replace(parameters=parameters), instances)


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


class Runner:
    """Plays tasks, here or on workers; a context manager that owns the environments and the workers.

    Parameters
    ----------
    plan : Plan
    n_jobs : int or None
        As in joblib; ``joblib.parallel_config`` chooses the backend. A vector environment is always played here, and so
        is an instance where workers are threads, which cannot share it.
    """

    def __init__(self, plan: Plan, n_jobs: int | None) -> None:
        self._plan = plan
        self._here = Instances(plan)
        given = any(is_instance(environment) for environment in plan.environments)
        self._engine = None if plan.vectorized else engine(n_jobs, timeout=plan.timeout, threads=not given)
        self._sent = packed(plan) if self._engine is not None and not self._engine.in_this_process else plan
        if plan.timeout is not None and self._engine is None and not can_limit():
            warnings.warn(
                f"timeout={plan.timeout} has no effect: only the main thread can interrupt an environment, and only "
                "where SIGALRM has no handler that was set from other than Python. Fit in the main thread, or on "
                "workers (n_jobs).",
                RuntimeWarning,
                stacklevel=2,
            )
        self._token = uuid.uuid4().hex
        self._shared: list[tuple[Any, Any]] = []  # the plan and the last parameters, each with what workers get for it

    def __enter__(self) -> Self:
        if self._engine is not None:
            self._engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        engine = self._engine
        clean_up(
            lambda: None if engine is None else engine.__exit__(kind, error, traceback),
            self._here.close,
            lambda: _retire(lambda instances: instances.token == self._token),  # where workers were threads
            error=error,
        )

    def run(self, task: Task) -> Outcome:
        """Play a task in fixed chunks of members and put the outcomes together in member order."""
        size = EPISODES_PER_TASK if task.keys is None else MEMBERS_PER_TASK
        members = task.seeds.shape[0]
        if self._plan.vectorized:
            size = members
        chunks = [task.rows(slice(start, start + size)) for start in range(0, members, size)]
        if self._engine is None:
            return below([run_task(self._plan, chunk, self._here) for chunk in chunks])
        return below(self._run_on_workers(task.parameters, chunks))

    def _run_on_workers(self, parameters: Parameters, chunks: Sequence[Task]) -> list[Outcome]:
        """Send the chunks out; those that a lost worker took with it are sent again."""
        assert self._engine is not None
        calls = [Call(self._token, os.getpid(), chunk._replace(parameters={})) for chunk in chunks]
        done: dict[int, Outcome] = {}
        failures = 0
        while len(done) < len(calls):
            before = len(done)
            try:
                shared = self._share(self._sent, parameters)
                missing = {i: call for i, call in enumerate(calls) if i not in done}
                for number, outcome in self._engine.run(work, shared, missing):
                    done[number] = outcome  # noqa: PERF403 -- kept when a worker is lost on the way
            except WorkersLost as error:
                self._shared.clear()
                failures = 1 if len(done) > before else failures + 1
                if failures == self._engine.attempts:
                    raise EpisodeError(
                        f"Workers died {failures} times over the same episodes, the first of them started with "
                        f"reset(seed={calls[min(missing)].task.seeds.flat[0]}): the environment kills its process, or "
                        f"memory is short. {error}"
                    ) from error
            except Unfinished as error:
                waiting = [int(calls[i].task.seeds.flat[0]) for i in missing if i not in done]
                raise EpisodeError(
                    f"No worker finished its episodes within timeout={self._plan.timeout} s: an environment hangs, or "
                    f"the limit is too short. Unfinished are the tasks that begin with reset(seed=...) {waiting[:8]}."
                ) from error
        return [done[i] for i in range(len(calls))]

    def _share(self, *values: Any) -> list[Any]:
        """What workers get for these values; each is shared once as long as it is the same object."""
        assert self._engine is not None
        known = {id(value): shared for value, shared in self._shared}  # the values are kept, so their ids are theirs
        self._shared = [
            (value, known[id(value)] if id(value) in known else self._engine.share(value)) for value in values
        ]
        return [shared for _, shared in self._shared]
