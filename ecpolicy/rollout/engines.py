"""Engines that run tasks on workers: joblib's pools, a Dask cluster, a Ray cluster. No scheduler of our own.

Which one is ``joblib.parallel_config``'s choice. Dask and Ray are used through their own interfaces and not through
joblib's: joblib waits for ever where Dask gives a task up, and deals Ray's tasks out in turn, whoever is free.
"""

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache, partial
from itertools import cycle
from queue import Empty, Queue
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from uuid import uuid4

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import get_active_backend

from ecpolicy.cleanup import cleaning_up

Result = TypeVar("Result")
Pull = Callable[[], tuple[int, Sequence[Any]] | None]  # the next call: its number and its arguments, shared ones first

# Factor and seconds on top of the limit: workers that can interrupt a hanging environment should do so first and say
# where it hangs, and those that are just being started need time for that.
GRACE = 1.5, 30.0
PATIENCE = 10.0  # seconds in which Dask should have copied a value to its workers, and after which they are counted
ABANDONED = 300.0  # seconds without any worker after which a Dask cluster is taken for dead


class WorkersLost(Exception):  # noqa: N818 -- it is not the caller's error
    """A worker died, and with it the tasks that were not finished."""


class Unfinished(Exception):  # noqa: N818 -- whoever waits says what that means
    """No result came for too long."""


class Engine(Protocol):
    """Runs tasks on workers; a context manager that owns what it started."""

    attempts: (
        int  # times in a row that tasks are sent out without a result before their workers' deaths are their fault
    )
    in_this_process: bool  # workers are threads, which need no copies

    def __enter__(self) -> Self:
        """Get ready."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what was started."""

    def share(self, value: Any) -> Any:
        """Something to give to several tasks as an argument; the workers find the value in its place."""

    def run(self, function: Callable[..., Result], pull: Pull) -> Iterator[tuple[int, Result]]:
        """Results of ``function`` with the numbers of its calls, in any order, until ``pull`` has no further call.

        Whoever closes the iterator early does without the calls that have not begun.

        Raises
        ------
        WorkersLost
            To be run again, but for the results that came.
        Unfinished
            Where no result came for too long.
        """


def engine(n_jobs: int | None, *, timeout: float | None, threads: bool) -> Engine | None:
    """The engine that joblib's active backend means, or None to run tasks here.

    Parameters
    ----------
    n_jobs : int or None
        Workers as in joblib. A cluster decides by itself how many tasks run at once.
    timeout : float or None
        Seconds that a task may take.
    threads : bool
        Whether tasks can be run by threads of this process.
    """
    backend, _ = get_active_backend()
    limit = None if timeout is None else GRACE[0] * timeout + GRACE[1]
    kind = type(backend).__name__
    if n_jobs == 1:
        return None
    if kind == "DaskDistributedBackend":
        return DaskEngine(backend.client, limit)
    if kind == "RayBackend":
        return RayEngine(limit)
    if effective_n_jobs(n_jobs) == 1:
        return None
    if getattr(backend, "supports_sharedmem", False) and (not threads or getattr(backend, "nesting_level", 0)):
        return None  # below another joblib call, whose workers have the cores already
    return JoblibEngine(n_jobs, limit)


class JoblibEngine:
    """A pool of joblib: loky's processes, threads, or another registered backend."""

    attempts = 5

    def __init__(self, n_jobs: int | None, timeout: float | None) -> None:
        # No more than twice the workers at once: what waits in loky's queue when it is aborted makes its thread fail.
        # No shared memory for large arrays (max_nbytes): joblib would keep those of every generation until the end.
        self.in_this_process = bool(getattr(get_active_backend()[0], "supports_sharedmem", False))
        settings: dict[str, Any] = {
            "n_jobs": n_jobs,
            "timeout": timeout,
            "batch_size": 1,
            "pre_dispatch": "2*n_jobs",
            "max_nbytes": None,
        }
        try:
            self._parallel = Parallel(return_as="generator_unordered", **settings)
        except ValueError:  # multiprocessing returns lists only
            self._parallel = Parallel(**settings)

    def __enter__(self) -> Self:
        self._parallel.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._parallel.__exit__(kind, error, traceback)

    def share(self, value: Any) -> Any:
        """The value itself, which goes through a pipe with every task."""
        return value

    def run(self, function: Callable[..., Result], pull: Pull) -> Iterator[tuple[int, Result]]:
        """Results with their numbers, in any order."""
        with warnings.catch_warnings():
            # loky warns where it replaces a worker that has grown. It does so in a thread that an error would end, and
            # the fit would wait for ever: the warning stays one, whatever the filters say.
            warnings.filterwarnings("always", "A worker stopped while some jobs", UserWarning)
            yield from self._run(function, pull)

    def _run(self, function: Callable[..., Result], pull: Pull) -> Iterator[tuple[int, Result]]:
        try:
            results = self._parallel(delayed(_numbered)(i, function, *given) for i, given in iter(pull, None))
            for result in results:
                try:
                    yield result
                except GeneratorExit:  # joblib would end its workers
                    for _ in results:
                        pass
                    raise
        except (TerminatedWorkerError, BrokenProcessPool) as error:
            raise WorkersLost(str(error)) from error
        except multiprocessing.TimeoutError as error:  # no subclass of the built-in one
            raise Unfinished from error


def _numbered(number: int, function: Callable[..., Result], *arguments: Any) -> tuple[int, Result]:
    return number, function(*arguments)


class DaskEngine:
    """A Dask cluster, which sends tasks of a lost worker to others by itself, up to its ``allowed-failures``."""

    attempts = 2
    in_this_process = False  # the workers of some clusters are threads of it, and still play environments of their own

    def __init__(self, client: Any, timeout: float | None) -> None:
        self._client, self._timeout = client, timeout
        self._outer = _in_task()  # of a search, whose thread would keep the tasks below waiting
        self._priority = 0 if self._outer is None else 1  # these first, before the search begins with further fits

    def __enter__(self) -> Self:
        if self._outer is not None:
            self._outer.secede()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._outer is not None:
            self._outer.rejoin()

    def share(self, value: Any) -> Any:
        """A future of the value, made by a task: scattered data would be lost with its worker, a task is run again.

        Every worker gets a copy beforehand, or Dask would give the tasks that need it to the one worker that has it.
        """
        future = self._client.submit(_itself, value, key=(f"shared-{uuid4().hex}", 0), priority=self._priority)
        with suppress(Exception):  # a worker may die meanwhile; the tasks get the value all the same
            self._client.replicate([future], callback_timeout=PATIENCE)
        return future

    def run(self, function: Callable[..., Result], pull: Pull) -> Iterator[tuple[int, Result]]:
        """Results with their numbers, in any order."""
        from dask.distributed import KilledWorker

        done: Queue[Any] = Queue()
        pending: dict[Any, int] = {}

        def submit(priority: int) -> None:
            calls = dict(iter(pull, None))
            for future, number in zip(self._submit(function, calls, priority), calls, strict=True):
                pending[future] = number
                future.add_done_callback(done.put)

        with cleaning_up(lambda: self._client.cancel(list(pending))):
            try:
                submit(self._priority)
                while pending:
                    future = self._next(done)
                    yield pending.pop(future), future.result()
                    submit(self._priority + 1)  # what is asked for later is waited for
            except (KilledWorker, CancelledError) as error:
                raise WorkersLost(str(error)) from error
            except Unfinished:
                self._restart_hanging(pending)
                raise

    def _next(self, done: "Queue[Any]") -> Any:
        """The next future that is done; raises Unfinished after the limit, RuntimeError without any worker."""
        began = staffed = monotonic()
        while True:
            left = np.inf if self._timeout is None else began + self._timeout - monotonic()
            try:
                return done.get(timeout=min(max(left, 0.0), PATIENCE))
            except Empty:
                staffed = monotonic() if self._client.nthreads() else staffed
            if monotonic() - staffed > ABANDONED:
                raise RuntimeError(
                    f"The Dask cluster has had no worker for {ABANDONED:.0f} s. Wait for its workers before fit "
                    "(client.wait_for_workers), or start others and go on from a checkpoint."
                )
            if left <= 0:
                raise Unfinished

    def _submit(self, function: Callable[..., Any], calls: Mapping[int, Sequence[Any]], priority: int) -> list[Any]:
        """A future for every call.

        Of many tasks under a common name that it has not seen before, Dask holds those back that no worker is free for.
        Few tasks it deals out at once, and often several to the worker that it knows best: these are dealt out here.
        """
        run, work = uuid4().hex, partial(_apart, function)
        keys = [(f"play-{run}", number) for number in calls]
        arguments = [[list(shared), call] for *shared, call in calls.values()]
        threads = self._client.nthreads()
        if len(calls) > 2 * sum(threads.values()):
            futures: list[Any] = self._client.map(work, *zip(*arguments, strict=True), key=keys, priority=priority)
            return futures
        slots = [
            worker for turn in range(max(threads.values(), default=0)) for worker in threads if turn < threads[worker]
        ]
        return [
            self._client.submit(
                work, shared, call, key=key, workers=worker, allow_other_workers=True, priority=priority
            )
            for key, (shared, call), worker in zip(keys, arguments, cycle(slots))
        ]

    def _restart_hanging(self, pending: Mapping[Any, int]) -> None:
        """A thread cannot be ended: end the workers that are at these tasks; their nannies start others."""
        keys = {future.key for future in pending}
        at_them = [worker for worker, busy in self._client.processing().items() if keys.intersection(busy)]
        with suppress(Exception):  # they may die before they answer
            self._client.run(_exit_soon, os.getpid(), workers=at_them, on_error="ignore", callback_timeout=PATIENCE)


def _exit_soon(client: int) -> None:
    """End this process after it has answered, unless it is the client's own, in which a worker can be a thread."""
    if os.getpid() != client:
        threading.Timer(0.1, os._exit, [1]).start()


def _itself(value: Result) -> Result:
    return value


def _apart(function: Callable[..., Result], shared: Sequence[Any], call: Any) -> Result:
    return function(*shared, call)


def _in_task() -> Any:
    """Dask's module where this runs in one of its tasks, else None."""
    import distributed.utils

    dask: Any = distributed
    return dask if hasattr(dask.utils.thread_state, "execution_state") else None


class RayEngine:
    """A Ray cluster, which sends tasks of a lost worker to others by itself, up to three times."""

    attempts = 2
    in_this_process = False

    def __init__(self, timeout: float | None) -> None:
        import ray

        self._timeout = timeout
        if not ray.is_initialized():  # connect to the cluster that RAY_ADDRESS names, or start one on this machine
            ray.init()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def share(self, value: Any) -> Any:
        """A reference into the object store, whence every node takes the value once."""
        import ray

        return ray.put(value)

    def run(self, function: Callable[..., Result], pull: Pull) -> Iterator[tuple[int, Result]]:
        """Results with their numbers, in any order."""
        import ray

        pending: dict[Any, int] = {}

        def submit() -> None:
            pending.update((_remote(function).remote(*given), number) for number, given in iter(pull, None))

        def cancel() -> None:
            for reference in pending:
                ray.cancel(reference, force=True)

        with cleaning_up(cancel):
            try:
                submit()
                while pending:
                    done, _ = ray.wait(list(pending), num_returns=1, timeout=self._timeout)
                    if not done:
                        raise Unfinished
                    for reference in done:
                        yield pending.pop(reference), ray.get(reference)
                    submit()
            except ray.exceptions.RayTaskError as error:
                raise error.cause or error from None
            except ray.exceptions.RayError as error:
                raise WorkersLost(str(error)) from error


@cache
def _remote(function: Callable[..., Any]) -> Any:
    """Ray's form of a function; made once, as Ray keeps every one that is made."""
    import ray

    return ray.remote(num_cpus=1, max_retries=3)(function)
