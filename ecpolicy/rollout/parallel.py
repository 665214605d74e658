"""Distributing episodes: fixed chunks of members, joblib workers, results that do not depend on either."""

import os
import signal
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, NamedTuple, Self

import gymnasium as gym
import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import get_active_backend
from numpy.typing import NDArray

from ecpolicy.distributions import Connections, Distribution, Parameters
from ecpolicy.networks import Network
from ecpolicy.normalization import Standardizer
from ecpolicy.random import Key, Stream, environment_seed, fold_in
from ecpolicy.rollout import host, vector
from ecpolicy.rollout.outcome import EpisodeError, Episodes, Outcome, below, beside
from ecpolicy.spaces import action_decoder, action_outputs, observation_encoder

MEMBERS_PER_TASK = 16  # part of the result: observation sums are added up within a task, then across tasks
EPISODES_PER_TASK = 2  # of the deployed network, which plays few: every worker should get some
ATTEMPTS = 3  # times a task is sent out before a lost worker is taken for the environment's fault

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


class Task(NamedTuple):
    """Members to draw and play: what travels to a worker."""

    parameters: Parameters
    keys: Key | None  # (members, 2) to draw members; None plays the deployed network
    membrane_keys: Key  # (members, environments, episodes, 2)
    seeds: NDArray[np.int64]  # (members, environments, episodes)
    standardizer: Standardizer
    horizon: float

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
    horizon: float,
) -> Task:
    """Fresh episodes for every member: initial potentials and environment seeds follow from the member's key."""
    plays = np.arange(n_environments * n_episodes).reshape(n_environments, n_episodes)
    stream = fold_in(keys, Stream.ENVIRONMENT)[:, None, None, :]
    membrane = fold_in(keys, Stream.MEMBRANE)[:, None, None, :]
    seeds = environment_seed(fold_in(stream, plays))
    return Task(parameters, keys, fold_in(membrane, plays), seeds, standardizer, horizon)


def deployed_task(
    parameters: Parameters, seeds: NDArray[np.int64], *, membrane_key: Key, standardizer: Standardizer, horizon: float
) -> Task:
    """Episodes of the deployed network: one per seed (environments, episodes), all from the same initial state."""
    per_episode = np.ascontiguousarray(seeds.T)[:, :, None]  # (episodes, environments, 1)
    membrane_keys = np.broadcast_to(membrane_key, (*per_episode.shape, 2))
    return Task(parameters, None, membrane_keys, per_episode, standardizer, horizon)


def is_instance(environment: Environment) -> bool:
    """Whether this is an environment and not what makes one."""
    return isinstance(environment, gym.Env | gym.vector.VectorEnv)


class Instances:
    """The environment instances of one process, made when first needed and kept between tasks."""

    def __init__(self, environments: Sequence[Environment]) -> None:
        self._given = environments
        self._made: list[list[AnyEnv]] = [[] for _ in environments]

    def of(self, index: int, wanted: int) -> list[AnyEnv]:
        """Up to ``wanted`` instances of an environment; exactly one of a VectorEnv, or where an instance was given."""
        given, made = self._given[index], self._made[index]
        if isinstance(given, gym.Env | gym.vector.VectorEnv):
            return [given]
        while len(made) < wanted and not (made and isinstance(made[0], gym.vector.VectorEnv)):
            environment = given()
            if any(environment is other for other in made):
                raise ValueError(
                    f"{given} returned the same environment twice. Make a new one in every call, or give the "
                    "environment itself."
                )
            made.append(environment)
        return made[:wanted]

    def close(self) -> None:
        """Close what was made here; instances that were given stay open."""
        for made in self._made:
            for environment in made:
                environment.close()
            made.clear()


def run_task(plan: Plan, task: Task, instances: Instances) -> Outcome:
    """Draw the task's members and play all their episodes."""
    members, n_environments, n_episodes = task.seeds.shape
    if task.keys is None:
        connections, owners = plan.distribution.mode(task.parameters), np.zeros(members, dtype=np.int64)
    else:
        connections, owners = plan.distribution.sample(task.parameters, task.keys), np.arange(members)
    return beside(
        [
            _play(plan, task, connections, instances, owners, index, episode)
            for index in range(n_environments)
            for episode in range(n_episodes)
        ]
    )


def _play(
    plan: Plan,
    task: Task,
    connections: Connections,
    instances: Instances,
    owners: NDArray[np.int64],
    index: int,
    episode: int,
) -> Outcome:
    """One episode of every member on one of the environments."""
    keys, seeds = np.ascontiguousarray(task.membrane_keys[:, index, episode]), task.seeds[:, index, episode]
    episodes = Episodes(owners, keys, seeds, task.horizon)
    batch = host.Batch(plan.network, connections, episodes, task.standardizer, action_outputs(plan.action_space))
    made = instances.of(index, owners.size)
    decode = action_decoder(plan.action_space)
    first = made[0]
    if isinstance(first, gym.vector.VectorEnv):
        return vector.play(first, batch, episodes, observation_space=plan.observation_space, decode=decode)
    single = [environment for environment in made if isinstance(environment, gym.Env)]
    return host.play(single, batch, episodes, encode=observation_encoder(plan.observation_space), decode=decode)


class _Kept(threading.local):
    """In a joblib worker: the environments of the fit that it last worked for, as making them is slow."""

    token = ""
    instances = Instances(())


_kept = _Kept()


def _run_in_worker(token: str, parent: int, plan: Plan, number: int, task: Task) -> tuple[int, Outcome]:
    if _kept.token != token:
        if os.getpid() != parent and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
        _kept.instances.close()
        _kept.token, _kept.instances = token, Instances(plan.environments)
    return number, run_task(plan, task, _kept.instances)


def _shares_memory() -> bool:
    """Whether joblib's active backend runs workers in this process."""
    backend, _ = get_active_backend()
    return bool(getattr(backend, "supports_sharedmem", False))


def _joblib(n_jobs: int | None) -> Parallel:
    """A joblib pool: one task at a time to whoever is free; results as they come, where the backend can."""
    try:
        return Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    except ValueError:  # multiprocessing returns lists only
        return Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="all")


class Runner:
    """Plays tasks, here or on joblib workers; a context manager that owns the environments and the workers.

    Parameters
    ----------
    plan : Plan
    n_jobs : int or None
        As in joblib; ``joblib.parallel_config`` chooses the backend. A vector environment is always played here, and so
        is an instance where workers are threads, which cannot share it.
    """

    def __init__(self, plan: Plan, n_jobs: int | None) -> None:
        self._plan = plan
        self._here = Instances(plan.environments)
        self._parallel: Parallel | None = None
        if effective_n_jobs(n_jobs) > 1 and not plan.vectorized:
            shared = any(is_instance(environment) for environment in plan.environments) and _shares_memory()
            self._parallel = None if shared else _joblib(n_jobs)
        self._token = uuid.uuid4().hex

    def __enter__(self) -> Self:
        if self._parallel is not None:
            self._parallel.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._parallel is not None:
            self._parallel.__exit__(kind, error, traceback)
        self._here.close()

    def run(self, task: Task) -> Outcome:
        """Play a task in fixed chunks of members and put the outcomes together in member order."""
        size = EPISODES_PER_TASK if task.keys is None else MEMBERS_PER_TASK
        members = task.seeds.shape[0]
        if self._plan.vectorized:
            size = members
        chunks = [task.rows(slice(start, start + size)) for start in range(0, members, size)]
        if self._parallel is None:
            return below([run_task(self._plan, chunk, self._here) for chunk in chunks])
        return below(self._run_parallel(chunks))

    def _run_parallel(self, chunks: Sequence[Task]) -> list[Outcome]:
        """Send the chunks out; those that a lost worker took with it are sent again."""
        assert self._parallel is not None
        done: dict[int, Outcome] = {}
        for attempt in range(1, ATTEMPTS + 1):
            missing = [i for i in range(len(chunks)) if i not in done]
            try:
                jobs = (delayed(_run_in_worker)(self._token, os.getpid(), self._plan, i, chunks[i]) for i in missing)
                for number, outcome in self._parallel(jobs):
                    done[number] = outcome  # noqa: PERF403 -- kept when a worker is lost on the way
                break
            except (TerminatedWorkerError, BrokenProcessPool) as error:
                if attempt == ATTEMPTS:
                    raise EpisodeError(
                        f"Workers died {ATTEMPTS} times over the same episodes: the environment kills its process, or "
                        f"memory is short. {error}"
                    ) from error
        return [done[i] for i in range(len(chunks))]
