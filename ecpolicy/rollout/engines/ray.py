"""Tasks on a Ray cluster."""

from collections.abc import Callable, Iterator
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ecpolicy.cleanup import cleaning_up
from ecpolicy.rollout.engines.engine import Pull, Result, Unfinished, WorkersLost

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.remote_function import RemoteFunction


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

    def share(self, value: Result) -> "ObjectRef[Result]":
        """A reference into the object store, whence every node takes the value once."""
        import ray

        return ray.put(value)

    def run(self, function: Callable[..., Result], pull: Pull) -> Iterator[tuple[int, Result]]:
        """Results with their numbers, in any order."""
        import ray

        pending: dict[ObjectRef[Result], int] = {}

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
def _remote(function: Callable[..., object]) -> "RemoteFunction":
    """Ray's form of a function; made once, as Ray keeps every one that is made."""
    import ray

    made: RemoteFunction = ray.remote(num_cpus=1, max_retries=3)(function)
    return made
