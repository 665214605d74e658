"""Tasks on a Dask cluster."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from itertools import cycle
from queue import Empty, Queue
from time import monotonic
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import numpy as np

from ecpolicy.cleanup import cleaning_up
from ecpolicy.rollout.engines.engine import Arguments, Pull, Result, Unfinished, WorkersLost

if TYPE_CHECKING:
    from distributed import Client, Future


PATIENCE = 10.0  # seconds in which Dask should have copied a value to its workers, and after which they are counted
ABANDONED = 300.0  # seconds without any worker after which a Dask cluster is taken for dead


class DaskEngine:
    """A Dask cluster, which sends tasks of a lost worker to others by itself, up to its ``allowed-failures``."""

    attempts = 2
    in_this_process = False  # the workers of some clusters are threads of it, and still play environments of their own

    def __init__(self, client: "Client", timeout: float | None) -> None:
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

    def share(self, value: Result) -> "Future[Result]":
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

        done: Queue[Future[Result]] = Queue()
        pending: dict[Future[Result], int] = {}

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

    def _next(self, done: "Queue[Future[Result]]") -> "Future[Result]":
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
                    "(client.wait_for_workers), or start others and go on from a checkpoint. A LocalCluster gives up "
                    "workers that take long to start again: distributed.deploy.lost-worker-timeout (15s)."
                )
            if left <= 0:
                raise Unfinished

    def _submit(
        self, function: Callable[..., Result], calls: Mapping[int, Arguments], priority: int
    ) -> "list[Future[Result]]":
        """A future for every call.

        Of many tasks under a common name that it has not seen before, Dask holds those back that no worker is free for.
        Few tasks it deals out at once, and often several to the worker that it knows best: these are dealt out here.
        """
        run, work = uuid4().hex, partial(_apart, function)
        keys = [(f"play-{run}", number) for number in calls]
        arguments = [[list(shared), call] for *shared, call in calls.values()]
        threads = self._client.nthreads()
        if len(calls) > 2 * sum(threads.values()):
            return list(self._client.map(work, *zip(*arguments, strict=True), key=keys, priority=priority))
        slots = [
            worker for turn in range(max(threads.values(), default=0)) for worker in threads if turn < threads[worker]
        ]
        return [
            self._client.submit(
                work, shared, call, key=key, workers=worker, allow_other_workers=True, priority=priority
            )
            for key, (shared, call), worker in zip(keys, arguments, cycle(slots))
        ]

    def _restart_hanging(self, pending: Mapping["Future[Result]", int]) -> None:
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


def _apart(function: Callable[..., Result], shared: Arguments, call: object) -> Result:
    return function(*shared, call)


def _in_task() -> ModuleType | None:
    """Dask's module where this runs in one of its tasks, else None."""
    import distributed
    from dask.context import thread_state

    return distributed if hasattr(thread_state, "execution_state") else None
