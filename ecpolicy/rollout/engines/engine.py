"""What an engine is to those who give it tasks."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

Result = TypeVar("Result")
Arguments = Sequence[object]  # of a call, shared ones first
Pull = Callable[[], tuple[int, Arguments] | None]  # the next call: its number and its arguments


class WorkersLost(Exception):  # noqa: N818 -- it is not the caller's error
    """A worker died, and with it the tasks that were not finished."""


class Unfinished(Exception):  # noqa: N818 -- whoever waits says what that means
    """No result came for too long."""


class Engine(Protocol):
    """Runs tasks on workers; a context manager that owns what it started."""

    attempts: int  # times in a row that tasks may go out without a result before their workers' deaths are their fault
    in_this_process: bool  # workers are threads, which need no copies

    def __enter__(self) -> Self:
        """Get ready."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what was started."""

    def share(self, value: object) -> object:
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
