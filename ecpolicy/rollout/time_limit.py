"""A limit on the time that episodes may take, for environments that hang."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TimeLimitError(TimeoutError):
    """Episodes took longer than the limit."""


def can_limit() -> bool:
    """Whether :func:`time_limit` limits anything here: it is a POSIX timer, which only the main thread can use."""
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeLimitError in what takes longer, wherever it is.

    Where :func:`can_limit` says no there is no limit from within, and whoever waits for the result must stop waiting.
    Code that never comes back to the Python interpreter is not interrupted.
    """
    if seconds is None or not can_limit():
        yield
        return

    def expire(number: int, frame: Any) -> None:
        raise TimeLimitError(f"the episodes of a task took longer than timeout={seconds} s")

    handler = signal.signal(signal.SIGALRM, expire)
    earlier = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *earlier)
        signal.signal(signal.SIGALRM, handler)


def failure(error: Exception) -> str:
    """What an environment did wrong, in words: "hangs: ..." or "raised ZeroDivisionError: ..."."""
    return f"hangs: {error}" if isinstance(error, TimeLimitError) else f"raised {type(error).__name__}: {error}"
