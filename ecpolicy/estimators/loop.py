"""The loop of ``fit``, whatever a step of it is: callbacks, reasons to stop, Ctrl-C, and nothing lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ecpolicy.callbacks.protocol import Chain
from ecpolicy.callbacks.view import TrainingView
from ecpolicy.cleanup import cleaning_up


def train(
    policy: Any, callbacks: Chain, *, continues: bool, step: Callable[[], None], reason: Callable[[bool], str]
) -> str:
    """Step until there is a reason to stop; the reason, also in ``policy.stop_reason_``.

    Parameters
    ----------
    policy : estimator
    callbacks : Chain
        Called after every step.
    continues : bool
        Whether the policy holds an earlier training that this one goes on from.
    step : callable
        Trains a generation and publishes it in the policy.
    reason : callable (began) -> str
        Why there is no further step, or an empty string; ``began`` says whether there was one.
    """
    view = TrainingView(policy, continues=continues)
    began, stopped = False, "error"

    def finish() -> None:
        if began or continues:
            policy.stop_reason_ = stopped
        if began:
            callbacks.finish(view)

    with cleaning_up(finish):
        try:
            callbacks.begin(view)
            while not (end := reason(began)):
                step()
                began = True
                if callbacks(view):
                    end = "callback"
                    break
            stopped = end
        except KeyboardInterrupt:
            stopped = "interrupted"
            raise
    return stopped


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, in the main thread; the second one interrupts as usual.

    Where Ctrl-C is ignored it stays so, and a handler that was not set from Python, which could not be given back, is
    left in its place.
    """
    pressed = False

    def handler(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, handler)
    with cleaning_up(lambda: signal.signal(signal.SIGINT, previous)):
        yield lambda: pressed
