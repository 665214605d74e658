"""Checks of constructor parameters: what was given, what is wanted."""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def check_number(
    name: str, value: Any, *, low: float, high: float = np.inf, integer: bool = False, open_low: bool = False
) -> None:
    """Raise unless ``value`` is a real (or whole) number in [low, high], or (low, high] where ``open_low``."""
    kind = Integral if integer else Real
    inside = isinstance(value, kind) and not isinstance(value, bool) and low <= float(value) <= high
    if not inside or (open_low and value == low):
        what = "an integer" if integer else "a number"
        left = "(" if open_low else "["
        right = ")" if high == np.inf else "]"
        error = ValueError if isinstance(value, kind) and not isinstance(value, bool) else TypeError
        raise error(f"{name} must be {what} in {left}{low}, {high}{right}; got {value!r}.")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise unless ``value`` is one of the choices."""
    choices = sorted(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {choices}; got {value!r}.")


def check_horizon(name: str, value: Any) -> list[tuple[int, float]]:
    """A training horizon as a schedule: pairs (environment steps from which it holds, steps per episode).

    Accepts None (no horizon), a number of steps, or a sequence of such pairs with rising first entries from 0.
    """
    if value is None:
        return [(0, np.inf)]
    if isinstance(value, Integral) and not isinstance(value, bool):
        check_number(name, value, low=1, integer=True)
        return [(0, float(value))]
    message = (
        f"{name} must be a number of steps, None, or pairs (n_env_steps, horizon) with rising n_env_steps that start "
        f"at 0, such as [(0, 200), (3_000_000, 1000)]; got {value!r}."
    )
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise TypeError(message)
    schedule = []
    for pair in value:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(part, Integral) for part in pair):
            raise TypeError(message)
        schedule.append((int(pair[0]), float(pair[1])))
    starts = [start for start, _ in schedule]
    if starts[0] != 0 or sorted(set(starts)) != starts or min(steps for _, steps in schedule) < 1:
        raise ValueError(message)
    return schedule


def seed_of(random_state: Any) -> int:
    """A seed below 2**64 from an int, a NumPy generator or random state, or fresh entropy for None."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**64, dtype=np.uint64))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**63, dtype=np.int64))
    check_number("random_state", random_state, low=0, high=2**64 - 1, integer=True)
    return int(random_state)
