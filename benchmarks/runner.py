"""What the benchmarks share: sides that take turns, and the seconds of a call or of threads."""

import threading
import time

import numpy as np


def seconds(call, *args):
    """How long a call takes, and what it gives."""
    began = time.perf_counter()
    result = call(*args)
    return time.perf_counter() - began, result


def threaded(work, parts):
    """Seconds in which as many threads as there are parts do ``work(part)``."""
    threads = [threading.Thread(target=work, args=(part,)) for part in parts]

    def run():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return seconds(run)[0]


def in_turns(sides, rounds):
    """What each side's function gives in every round (rounds, ...), by the side's name.

    The order rotates, so that both sides of a ratio see the same state of the machine.
    """
    names, figures = list(sides), {name: [] for name in sides}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(sides[name]())
    return {name: np.array(each) for name, each in figures.items()}
