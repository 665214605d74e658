"""Ctrl-C during a fit: the first one ends it after the step under way."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ecpolicy.callbacks.writing import write_line
from ecpolicy.cleanup import cleaning_up

HEARD = "Ctrl-C: fit ends after the generation under way. Ctrl-C again ends it at once, without this generation."


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, in the main thread, and say so; the second one interrupts as usual.

    Where Ctrl-C is ignored it stays so, and a handler that was not set from Python, which could not be given back, is
    left in its place.
    """
    pressed = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        with suppress(OSError, ValueError, RuntimeError):  # it may have come in the middle of another line
            write_line(HEARD, sys.stderr)

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, handler)
    with cleaning_up(lambda: signal.signal(signal.SIGINT, previous)):
        yield lambda: pressed
