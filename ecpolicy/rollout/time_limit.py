"""A limit on the time that episodes may take, for environments that hang."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TimeLimitError(TimeoutError):
    """Episodes took longer than the limit."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeLimitError in what takes longer, wherever it is.

    Done by a POSIX timer, which only the main thread can use: elsewhere there is no limit from within, and whoever
    waits for the result must stop waiting. Code that never comes back to the Python interpreter is not interrupted.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
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
