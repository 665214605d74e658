"""A live view of training in the terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ecpolicy.callbacks.progress import Progress, gait, score
from ecpolicy.callbacks.symptoms import hint, is_stuck
from ecpolicy.callbacks.view import TrainingView
from ecpolicy.history import Record
from ecpolicy.optional import require
from ecpolicy.rollout.seconds import SHARES

if TYPE_CHECKING:
    from rich.live import Live as Screen
    from rich.panel import Panel

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 60  # columns of the curve
LONGEST = 10_000  # generations in it


class Live(Progress):
    """Show the training as one panel, drawn again after every generation; lines where no terminal can draw it.

    The panel has the returns of the population and of the deployed network with their curve, the steps, their speed and
    the time left, and, of 1-bit networks, how much the connections still vary ("entropy", in bits per connection; 1 at
    the start, 0 where nothing varies) and how many of the deployed ones the last update changed ("flips").

    "time for" says where the time of the generation went, in shares of the seconds of all workers together: stepping
    and resetting environments; drawing and stepping networks; the update of the search; the rest, such as Python
    between two steps. It is missing where environments run in JAX, as one compiled program steps all.

    All of it is in ``history_`` too, and so in :class:`CSVLog` and :class:`TensorBoardLog`: the shares are
    "environment_share", "network_share" and "update_share".

    Parameters
    ----------
    every : int
        Generations between drawings, or lines.
    stream : text file
        Standard output by default.

    Raises
    ------
    ImportError
        Where rich is missing: ``pip install "ecpolicy[live]"``.
    """

    def __init__(self, every: int = 1, stream: TextIO | None = None) -> None:
        super().__init__(every, stream)
        require("rich", "Live", extra="live")
        self._screen: Screen | None = None

    def _open(self, view: TrainingView) -> None:
        """Take the terminal, where there is one."""
        from rich.console import Console
        from rich.live import Live as Screen

        console = Console(file=sys.stdout if self._stream is None else self._stream)
        if console.is_terminal and console.encoding.startswith("utf"):
            self._screen = Screen(console=console, auto_refresh=False)
            with self._excuse.excused():
                self._screen.start()
        super()._open(view)

    def _show(self, view: TrainingView, record: Record, time: str, fraction: float) -> None:
        """Draw the panel, or print the line."""
        if self._screen is None:
            super()._show(view, record, time, fraction)
            return
        with self._excuse.excused():
            self._screen.update(self._panel(view, record, time, fraction), refresh=True)

    def finish(self, view: TrainingView) -> None:
        """Give the terminal back; the last panel stays."""
        screen, self._screen = self._screen, None
        if screen is not None:
            with self._excuse.excused():
                screen.stop()
        super().finish(view)

    def _panel(self, view: TrainingView, record: Record, time: str, fraction: float) -> "Panel":
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        figures = Table.grid(padding=(0, 3))
        for name, value in self._figures(record, time).items():
            figures.add_row(Text(name, "dim"), value)
        deployed = [value for entry in view.history_[-LONGEST:] if (value := entry["deployed_return"]) is not None]
        parts: list[Any] = [figures, ProgressBar(total=1.0, completed=fraction, width=WIDTH)]
        if deployed:
            between = f"deployed, from {score(min(deployed))} to {score(max(deployed))}:"
            parts[1:1] = [Text(f"\n{between}", "dim"), Text(curve(deployed, WIDTH), "cyan")]
        if is_stuck(view.history_):
            advice = f"No better network for a while{hint(view)}; see 'It does not learn'."
            parts.append(Text(self.speak(advice), "yellow"))
        engine = f", engine {view.engine_}" if getattr(view, "engine_", None) else ""
        return Panel(Group(*parts), title=f"generation {record['generation']}{engine}", expand=False)

    def _figures(self, record: Record, time: str) -> dict[str, str]:
        spread = f" ± {record['return_std']:.2f}, best {record['return_max']:.2f}" if "return_std" in record else ""
        figures = {
            "population": f"{score(record['return_mean'])}{spread}",
            "deployed": f"{score(record['deployed_return'])}{gait(record)}",
            "best deployed": score(record["best_deployed_return"]),
            "steps": f"{record['n_env_steps']:,}, {self._speed(record):,.0f} a second",
            "time": time,
        }
        if record.get("entropy") is not None:
            figures["entropy"] = f"{record['entropy']:.3f} bits per connection"
            figures["flips"] = f"{record['flips']:,} connections"
        if record.get(SHARES[0]) is not None:
            figures["time for"] = time_for(record)
        return figures


def time_for(record: Record) -> str:
    """Where the time of a generation went."""
    parts = [record[name] for name in SHARES]
    named = zip(("environments", "networks", "update", "rest"), [*parts, 1 - sum(parts)], strict=True)
    return ", ".join(f"{name} {share:.0%}" for name, share in named)


def curve(values: Sequence[float], width: int) -> str:
    """Numbers as a line of blocks, at most ``width`` wide; where several share one, it is their mean."""
    low, high, n = min(values), max(values), min(width, len(values))
    parts = (values[i * len(values) // n : (i + 1) * len(values) // n] for i in range(n))
    scale = (len(BLOCKS) - 1) / (high - low or 1)
    return "".join(BLOCKS[round((sum(part) / len(part) - low) * scale)] for part in parts)
