"""Progress lines."""

import sys
from collections.abc import Callable
from time import perf_counter
from typing import TextIO

from ecpolicy.callbacks.protocol import check_count
from ecpolicy.callbacks.symptoms import STUCK, hint, is_stuck, stands_still
from ecpolicy.callbacks.view import TrainingView
from ecpolicy.callbacks.writing import Excuse, write_line
from ecpolicy.history import Record


class Progress:
    """Print one line per reported generation: returns, the deployed network's score, steps/s and the time left.

    The ``notes_`` of the fit go before the first line, and what plays the episodes stands at its end.

    A line that cannot be printed does not end the training: the first of a fit is a RuntimeWarning. Characters that the
    stream's encoding does not have are replaced.

    Parameters
    ----------
    every : int
        Generations between lines.
    stream : text file
        Standard output by default.
    """

    def __init__(self, every: int = 1, stream: TextIO | None = None) -> None:
        self.speak: Callable[[str], str] = str  # puts advice into the words of whoever shows it
        check_count("every", every, "generations")
        self._every = every
        self._stream = stream
        self._began = perf_counter()
        self._first: Record | None = None
        self._engine = ""
        self._told = False  # where help is
        self._excuse = Excuse("A line of progress")

    def __call__(self, view: TrainingView) -> None:
        """Show the generation where it is due."""
        record = view.history_[-1]
        if self._first is None:
            self._first = view.history_[-2] if len(view.history_) > 1 else {"generation": 0, "n_env_steps": 0}
            self._began = perf_counter() - record["seconds"]
            self._open(view)
        fraction = self._fraction(view, record)
        if record["generation"] % self._every == 0 or fraction == 1:
            elapsed = perf_counter() - self._began
            left = f"at most {duration(elapsed * (1 - fraction) / fraction)} left" if 0 < fraction < 1 else "done"
            self._show(view, record, f"{duration(elapsed)}, {left}", fraction)

    def _open(self, view: TrainingView) -> None:
        """Say what goes before the first generation."""
        self._engine = f" | engine {view.engine_}" if getattr(view, "engine_", None) else ""
        for note in getattr(view, "notes_", ()):
            self._print(note)

    def _show(self, view: TrainingView, record: Record, time: str, fraction: float) -> None:
        """Show a generation."""
        stuck = is_stuck(view.history_)
        total = f"/{view.n_generations}" if hasattr(view, "n_generations") and view.max_env_steps is None else ""
        spread = f" ± {record['return_std']:.2f}, max {record['return_max']:.2f}" if "return_std" in record else ""
        self._print(
            f"generation {record['generation']:>4}{total} | return {score(record['return_mean']):>9}{spread}"
            f" | deployed {score(record['deployed_return']):>9}{gait(record)}, "
            f"best {score(record['best_deployed_return'])}{f' for {STUCK} generations and more' if stuck else ''}"
            f" | {record['n_env_steps']:>10,} steps, {self._speed(record):>7,.0f}/s | {time}"
            f"{self._engine}"
        )
        self._engine = ""
        if stuck and not self._told:
            self._told = True
            advice = f"No better network for a while{hint(view)}; see 'It does not learn' in the documentation."
            self._print(self.speak(advice))

    def _print(self, line: str) -> None:
        with self._excuse.excused():
            write_line(line, sys.stdout if self._stream is None else self._stream)

    def finish(self, view: TrainingView) -> None:
        """Forget this fit, so that the next one is timed anew."""
        self._first, self._told = None, False
        self._excuse.forget()

    def _fraction(self, view: TrainingView, record: Record) -> float:
        """Share of this fit that is over, by generations or by steps, whichever ends it first."""
        assert self._first is not None
        share = 0.0
        if hasattr(view, "n_generations"):  # SurrogateGradientPPOPolicy counts steps alone
            generations = record["generation"] - self._first["generation"]
            share = generations / (view.n_generations - self._first["generation"])
        if view.max_env_steps is not None:
            done = record["n_env_steps"] - self._first["n_env_steps"]
            share = max(share, done / max(view.max_env_steps - self._first["n_env_steps"], 1))
        return min(float(share), 1.0)

    def _speed(self, record: Record) -> float:
        assert self._first is not None
        steps = int(record["n_env_steps"]) - int(self._first["n_env_steps"])
        return steps / (perf_counter() - self._began)


def score(value: float | None) -> str:
    """A return, or that there is none."""
    return "none" if value is None else f"{value:.2f}"


def gait(record: Record) -> str:
    """How fast the deployed network goes, on locomotion tasks."""
    velocity = record.get("deployed_x_velocity")
    if velocity is None:
        return ""
    return f" at {velocity:.2f} m/s" + (", standing still" if stands_still(record) else "")


def duration(seconds: float) -> str:
    """Seconds as people say them: "2 min 05 s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
