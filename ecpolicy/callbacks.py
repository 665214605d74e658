"""Callbacks for ``fit``: callables that get the policy after every generation and may stop training.

A callback is called as ``callback(policy)``; ``policy.history_[-1]`` is the generation just finished. Returning True
ends the fit. A callback that has a method ``finish`` gets it called with the policy when the fit ends, however it ends,
unless no generation was finished.
"""

import os
import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, TextIO

Callback = Callable[[Any], bool | None]


def checked(callbacks: Sequence[Callback] | None) -> list[Callback]:
    """The callbacks as a list; raises TypeError where one cannot be called."""
    called = list(callbacks or [])
    for callback in called:
        if not callable(callback):
            raise TypeError(f"callbacks must be callables that take the policy; got {callback!r}.")
    return called


class Checkpoint:
    """Save the policy every few generations and at the end; load the file and fit on with ``warm_start=True``.

    Parameters
    ----------
    path : path-like
        Replaced atomically at every save.
    every : int
        Generations between saves.
    """

    def __init__(self, path: str | os.PathLike[str], *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be a number of generations, at least 1; got {every}.")
        self._path, self._every = path, every

    def __call__(self, policy: Any) -> None:
        """Save where it is due."""
        if policy.history_[-1]["generation"] % self._every == 0:
            policy.save(self._path)

    def finish(self, policy: Any) -> None:
        """Save what the fit ends with."""
        policy.save(self._path)


class Progress:
    """Print one line per reported generation: returns, the deployed network's score, steps/s and the time left.

    Parameters
    ----------
    every : int
        Generations between lines.
    stream : text file
        Standard output by default.
    """

    def __init__(self, every: int = 1, stream: TextIO | None = None) -> None:
        self._every = every
        self._stream = stream
        self._began = perf_counter()
        self._first: dict[str, Any] | None = None

    def __call__(self, policy: Any) -> None:
        """Print the line where it is due."""
        record = policy.history_[-1]
        if self._first is None:
            self._first = policy.history_[-2] if len(policy.history_) > 1 else {"generation": 0, "n_env_steps": 0}
            self._began = perf_counter() - record["seconds"]
        elapsed = perf_counter() - self._began
        fraction = self._fraction(policy, record)
        if record["generation"] % self._every and fraction < 1:
            return
        total = f"/{policy.n_generations}" if hasattr(policy, "n_generations") else ""
        spread = f" ± {record['return_std']:.2f}, max {record['return_max']:.2f}" if "return_std" in record else ""
        left = f"at most {_duration(elapsed * (1 - fraction) / fraction)} left" if 0 < fraction < 1 else "done"
        print(
            f"generation {record['generation']:>4}{total} | return {_score(record['return_mean']):>9}{spread}"
            f" | deployed {_score(record['deployed_return']):>9}, best {_score(record['best_deployed_return'])}"
            f" | {record['n_env_steps']:>10,} steps, {self._speed(record):>7,.0f}/s | {_duration(elapsed)}, {left}",
            file=self._stream or sys.stdout,
            flush=True,
        )

    def finish(self, policy: Any) -> None:
        """Forget this fit, so that the next one is timed anew."""
        self._first = None

    def _fraction(self, policy: Any, record: dict[str, Any]) -> float:
        """Share of this fit that is over, by generations or by steps, whichever ends it first."""
        assert self._first is not None
        share = 0.0
        if hasattr(policy, "n_generations"):  # SurrogateGradientPPOPolicy counts steps alone
            generations = record["generation"] - self._first["generation"]
            share = generations / (policy.n_generations - self._first["generation"])
        if policy.max_env_steps is not None:
            done = record["n_env_steps"] - self._first["n_env_steps"]
            share = max(share, done / max(policy.max_env_steps - self._first["n_env_steps"], 1))
        return min(float(share), 1.0)

    def _speed(self, record: dict[str, Any]) -> float:
        assert self._first is not None
        steps = int(record["n_env_steps"]) - int(self._first["n_env_steps"])
        return steps / (perf_counter() - self._began)


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
