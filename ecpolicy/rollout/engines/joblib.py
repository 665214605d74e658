"""Tasks on a pool of joblib."""

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Self

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import get_active_backend

from ecpolicy.rollout.engines.engine import Pull, Result, Unfinished, WorkersLost


class JoblibEngine:
    """A pool of joblib: loky's processes, threads, or another registered backend."""

    attempts = 5

    def __init__(self, n_jobs: int | None, timeout: float | None) -> None:
        # No more than twice the workers at once: what waits in loky's queue when it is aborted makes its thread fail.
        # No shared memory for large arrays (max_nbytes): joblib would keep those of every generation until the end.
        self.in_this_process = bool(getattr(get_active_backend()[0], "supports_sharedmem", False))
        settings: dict[str, object] = {
            "n_jobs": n_jobs,
            "timeout": timeout,
            "batch_size": 1,
            "pre_dispatch": "2*n_jobs",
            "max_nbytes": None,
        }
        self._lazy = True  # results come one by one
        try:
            self._parallel = Parallel(return_as="generator_unordered", **settings)
        except ValueError:  # multiprocessing returns lists only
            self._parallel, self._lazy = Parallel(**settings), False

    def __enter__(self) -> Self:
        self._parallel.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._parallel.__exit__(kind, error, traceback)

    def share(self, value: Result) -> Result:
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
            tasks = (delayed(_numbered)(i, function, *given) for i, given in iter(pull, None))
            with _ctrl_c_held_back() if self._lazy and not self.in_this_process else nullcontext():
                results = self._parallel(tasks)  # which starts workers that there are not yet
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


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Hold Ctrl-C back for a moment. Processes that are started meanwhile never get it, while they start neither."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which loky's workers need; Python 3.11 lets signals through when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _numbered(number: int, function: Callable[..., Result], *arguments: object) -> tuple[int, Result]:
    return number, function(*arguments)
