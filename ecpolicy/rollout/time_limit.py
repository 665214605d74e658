"""A limit on the time that episodes may take, for environments that hang."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from types import FrameType
from typing import Any

AT_ONCE = 1e-6  # seconds, the shortest time that the clock can be set to
OURS = 1_234_567.875  # seconds, an interval by which our own setting of the clock is known


class TimeLimitError(TimeoutError):
    """Episodes took longer than the limit."""


def can_limit() -> bool:
    """Whether :func:`time_limit` limits anything here.

    It is a POSIX timer, which only the main thread can use, and its handler must be one that can be given back, which
    one that was not set from Python cannot.
    """
    return (
        threading.current_thread() is threading.main_thread()
        and hasattr(signal, "setitimer")
        and signal.getsignal(signal.SIGALRM) is not None
    )


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeLimitError in what takes longer, wherever it is.

    Where :func:`can_limit` says no there is no limit from within, and whoever waits for the result must stop waiting.
    Code that never comes back to the Python interpreter is not interrupted.

    Another one's alarm, such as a watchdog's, rings when it is due, by its own handler. What that handler raises leaves
    the block as it is, also where something in between has taken it for an error of an environment.
    """
    if not can_limit() or (seconds is None and not callable(signal.getsignal(signal.SIGALRM))):
        yield
        return
    clock = _SharedClock(seconds)
    rang = None
    try:
        clock.take()
        yield
    except Exception as error:
        if clock.raised not in _behind(error):
            raise
        rang = clock.raised
    finally:
        clock.give_back()
    if rang is not None:
        raise rang from rang.__cause__  # without what was made of it as its context


def _behind(error: BaseException | None) -> list[BaseException]:
    """An error and those that led to it."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is other for other in found):
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found


class _SharedClock:
    """The one alarm clock of a process, set to what is due first: the limit, or the alarm of whoever had it before.

    Parameters
    ----------
    seconds : float or None
        The limit; None for none.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._deadline = inf if seconds is None else monotonic() + seconds
        self._due, self._interval = inf, 0.0  # of the other alarm
        self._handler: Any = None  # likewise
        self._set_to = inf
        self._ours, self._changing_hands = False, False
        self.raised: BaseException | None = None  # what the other one's handler raised last

    def take(self) -> None:
        """Set the clock, unless the other alarm will have ended the process before the limit."""
        now, other = monotonic(), signal.getitimer(signal.ITIMER_REAL)
        if signal.getsignal(signal.SIGALRM) == signal.SIG_DFL and 0 < other[0] <= self._deadline - now:
            return
        self._changing_hands = True
        try:
            other = signal.setitimer(signal.ITIMER_REAL, 0)  # nothing rings while the handlers are changed
            self._handler = signal.signal(signal.SIGALRM, self._ring)  # what is pending rings before, by its handler
        except BaseException:
            signal.setitimer(signal.ITIMER_REAL, *other)
            raise
        again = signal.setitimer(signal.ITIMER_REAL, 0)  # which may have set it
        left, self._interval = again if again[0] else other
        self._due = now + left if left else inf
        self._ours, self._changing_hands = True, False
        self._set()

    def give_back(self) -> None:
        """Set the clock to what is left of the other alarm, and give back its handler."""
        if not self._ours:
            return
        self._changing_hands = True
        left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
        as_set = left == 0 if self._set_to == inf else abs(interval - OURS) < 2 * AT_ONCE
        if not as_set:  # what runs inside has set the clock anew, as one puts a watchdog off
            self._due, self._interval = monotonic() + left if left else inf, interval
        if signal.getsignal(signal.SIGALRM) == self._ring:  # else it has put a handler of its own there
            signal.signal(signal.SIGALRM, self._handler)
        self._ours, self._changing_hands = False, False
        if self._due < inf:
            signal.setitimer(signal.ITIMER_REAL, max(self._due - monotonic(), AT_ONCE), self._interval)

    def _set(self) -> None:
        self._set_to = min(self._deadline, self._due)
        if self._set_to == inf:
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            signal.setitimer(signal.ITIMER_REAL, max(self._set_to - monotonic(), AT_ONCE), OURS)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        """Whose alarm it is: the limit's, the other one's, or neither's, as where a program sends the signal."""
        if self._changing_hands:
            return  # what is due rings afterwards
        now = monotonic() + AT_ONCE
        if self._ours and self._deadline <= now and self._deadline < self._due:
            self._deadline = inf
            self._set()
            raise TimeLimitError(f"the episodes of a task took longer than timeout={self._seconds} s")
        if self._due <= now:  # the next one is due at a later interval, if there is one
            self._due += ((now - self._due) // self._interval + 1) * self._interval if self._interval else inf
        self._ring_theirs(frame)

    def _ring_theirs(self, frame: FrameType | None) -> None:
        """Let the other one's handler do what it does, with the clock in its hands meanwhile."""
        ours = self._ours
        self.give_back()
        try:
            if callable(self._handler):
                self._handler(signal.SIGALRM, frame)
            elif self._handler == signal.SIG_DFL:
                signal.raise_signal(signal.SIGALRM)
        except BaseException as error:
            self.raised = error
            raise
        finally:
            if ours:
                self.take()


def failure(error: Exception) -> str:
    """What an environment did wrong, in words: "hangs: ..." or "raised ZeroDivisionError: ..."."""
    return f"hangs: {error}" if isinstance(error, TimeLimitError) else f"raised {type(error).__name__}: {error}"
