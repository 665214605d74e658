"""Environments are played by one thread at a time, whoever the threads belong to."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

_guard = threading.Lock()
_locks: dict[int, tuple[object, threading.RLock, list[int]]] = {}  # by an environment's id: it, its lock, its users


@contextmanager
def exclusively(environments: Iterable[object]) -> Iterator[None]:
    """Wait until no other thread plays any of these environments, and keep others waiting until the block ends.

    Wrappers of one environment are one environment, and a vector environment is all that it steps in this process.
    Locks are taken in one order, so that no two threads wait for each other; a thread that has one may take it again.
    """
    cores = {id(core): core for made in environments for core in _cores(made)}
    with ExitStack() as stack:
        for _, core in sorted(cores.items(), key=lambda item: item[0]):
            stack.enter_context(_locked(core))
        yield


@contextmanager
def _locked(core: object) -> Iterator[None]:
    with _guard:
        _, lock, users = _locks.setdefault(id(core), (core, threading.RLock(), [0]))
        users[0] += 1
    try:
        with lock:
            yield
    finally:
        with _guard:
            users[0] -= 1
            if not users[0]:
                del _locks[id(core)]


def shared(environment: object, others: Iterable[object]) -> bool:
    """Whether an environment is one of the others, in other wrappers perhaps."""
    cores = _cores(environment)
    return any(core is another for other in others for another in _cores(other) for core in cores)


def _cores(environment: object) -> list[object]:
    """What is stepped: the environment without wrappers, and the sub-environments in it."""
    core = getattr(environment, "unwrapped", environment)
    inner = getattr(core, "envs", None)
    return [core, *(getattr(one, "unwrapped", one) for one in inner)] if isinstance(inner, list | tuple) else [core]
