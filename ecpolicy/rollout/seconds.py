"""Where the time of a training goes: environments, networks, the update, the rest."""

from collections.abc import Callable
from functools import wraps
from time import perf_counter
from typing import NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

SHARES = "environment_share", "network_share", "update_share"  # in ``history_``; what is left of 1 is the rest


class Seconds(NamedTuple):
    """What playing took, in seconds of all workers together."""

    playing: float = 0.0  # in all
    environments: float = 0.0  # their steps and resets, and reading what they answered
    networks: float = 0.0  # drawing them, scaling observations, stepping

    def plus(self, other: "Seconds") -> "Seconds":
        """These and others together."""
        return Seconds(*(one + another for one, another in zip(self, other, strict=True)))

    def minus(self, other: "Seconds") -> "Seconds":
        """What came after others."""
        return Seconds(*(one - another for one, another in zip(self, other, strict=True)))


class Stopwatch:
    """Adds up the seconds of the calls that it times."""

    def __init__(self) -> None:
        self.total = 0.0

    def timed(self, call: Callable[P, R]) -> Callable[P, R]:
        """The call, timed from now on."""

        @wraps(call)
        def calling(*args: P.args, **kwargs: P.kwargs) -> R:
            began = perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.total += perf_counter() - began

        return calling


def shares(played: Seconds, update: float) -> dict[str, float]:
    """Shares of the seconds that workers played, and of those beside them, which the update took."""
    whole = max(played.playing + update, 1e-9)
    return dict(zip(SHARES, (part / whole for part in (played.environments, played.networks, update)), strict=True))
