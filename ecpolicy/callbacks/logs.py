"""The history as a table and as TensorBoard's curves, while it grows."""

import csv
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecpolicy.callbacks.view import TrainingView
from ecpolicy.callbacks.writing import Excuse
from ecpolicy.history import Record
from ecpolicy.optional import require

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

# Names under which Stable-Baselines3 logs the same quantities, so that its curves and ours fall into one chart.
TAGS = {
    "return_mean": "rollout/ep_rew_mean",
    "episode_length": "rollout/ep_len_mean",
    "deployed_return": "eval/mean_reward",
}


class CSVLog:
    """Write ``history_`` to a CSV file, a row a generation. The file always holds the history, no more and no less.

    Rows that cannot be written, as where the disk is full, do not end the training: the first time in a fit is a
    RuntimeWarning, and they are added as soon as there is room again.

    Parameters
    ----------
    path : path-like
        Written anew when a fit begins, with the generations that are there already where it is a continued one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._rows, self._size = 0, 0  # generations and bytes that the file holds
        self._names: list[str] = []  # of its columns
        self._excuse = Excuse(f"The log {self._path}")

    def begin(self, view: TrainingView) -> None:
        """Write the generations before this fit; raise OSError where that cannot be done."""
        self._excuse.forget()
        self._rows, self._size = 0, 0
        with self._path.open("wb"):
            pass
        self._write(list(getattr(view, "history_", [])) if view.continues else [])

    def __call__(self, view: TrainingView) -> None:
        """Add a row, and those that could not be added before."""
        with self._excuse.excused():
            self._write(view.history_)

    def finish(self, view: TrainingView) -> None:
        """Try once more where rows are missing."""
        if self._rows < len(view.history_):
            self(view)

    def _write(self, history: Sequence[Record]) -> None:
        """Make the file hold this history."""
        if not self._path.exists() or self._path.stat().st_size < self._size:  # someone has removed or emptied it
            self._path.touch()
            self._rows, self._size = 0, 0
        names = list(history[-1]) if history else []
        if names != self._names:  # a training of an earlier version goes on with further columns
            self._rows, self._size, self._names = 0, 0, names
        text = StringIO(newline="")
        writer = csv.writer(text)
        missing = history[self._rows :]
        if self._rows == 0 and missing:
            writer.writerow(missing[0])
        writer.writerows(record.values() for record in missing)
        try:
            with self._path.open("r+b") as stream:
                stream.seek(self._size)
                stream.write(text.getvalue().encode())
                stream.flush()
                size = stream.tell()
                if os.fstat(stream.fileno()).st_size > size:
                    stream.truncate()  # what others have added, or half a row
        except BaseException:
            with suppress(OSError):
                os.truncate(self._path, self._size)
            raise
        self._rows, self._size = len(history), size


class TensorBoardLog:
    """Log ``history_`` for TensorBoard, over environment steps. Needs ``pip install "ecpolicy[tensorboard]"``.

    Returns, episode lengths and the deployed network's score have the names that Stable-Baselines3 gives them; the rest
    is under ``ecpolicy/``.

    A log that cannot be written, as where the disk is full or the folder cannot be made, does not end the training: the
    first time in a fit is a RuntimeWarning. It is tried again, less and less often and at the end, and is then written
    anew with all generations of the fit.

    Parameters
    ----------
    folder : path-like
        Made where it is missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = str(folder)
        self._writer: SummaryWriter | None = None
        self._done, self._before = 0, 0  # environment steps and generations before this fit
        self._rows = 0  # generations that the writer was given
        self._failures, self._next_try = 0, 0  # the latter a generation
        self._excuse = Excuse(f"TensorBoard's log in {self._folder}")
        require("tensorboardX", "TensorBoardLog", extra="tensorboard")

    def begin(self, view: TrainingView) -> None:
        """Note where the fit begins."""
        self._excuse.forget()
        self._let_go()
        history = view.history_ if view.continues else []
        self._before, self._done = len(history), history[-1]["n_env_steps"] if history else 0
        self._rows = self._before
        self._failures, self._next_try = 0, 0

    def __call__(self, view: TrainingView) -> None:
        """Log one generation; what an interrupted fit logged beyond its last checkpoint is marked as obsolete."""
        if len(view.history_) < self._next_try:
            return
        with self._excuse.excused():
            try:
                self._write(view.history_)
            except BaseException:
                self._let_go()
                self._rows, self._next_try = self._before, len(view.history_) + 2**self._failures
                self._failures += 1
                raise

    def finish(self, view: TrainingView) -> None:
        """Close the log; where generations are missing, try once more before."""
        if self._rows < len(view.history_):
            self._next_try = 0
            self(view)
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._excuse.excused():
                try:
                    self._check(writer)
                    writer.close()
                except BaseException:
                    _abandon(writer)
                    raise

    def _write(self, history: Sequence[Record]) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            # A queue without an end: one that is full would wait for ever for a thread that an error has ended. A name
            # of its own: two files of one second would have the same.
            purge_step = self._done + 1 if self._done or self._failures else None
            suffix = f".{self._failures:03}" if self._failures else ""
            self._writer = SummaryWriter(self._folder, purge_step=purge_step, max_queue=0, filename_suffix=suffix)
        for record in history[self._rows :]:
            self._check(self._writer)
            for name, value in record.items():
                if value is not None and name != "n_env_steps":
                    self._writer.add_scalar(TAGS.get(name, f"ecpolicy/{name}"), value, record["n_env_steps"])
        self._writer.flush()
        self._rows = len(history)

    def _check(self, writer: "SummaryWriter") -> None:
        """Raise OSError where an error has ended the thread that writes, which does not tell."""
        thread = getattr(_events(writer), "_worker", None)
        if isinstance(thread, threading.Thread) and not thread.is_alive():
            raise OSError("the thread that writes it has ended by an error")

    def _let_go(self) -> None:
        """Abandon the writer, if there is one."""
        writer, self._writer = self._writer, None
        if writer is not None:
            _abandon(writer)


def _events(writer: "SummaryWriter") -> Any:
    """What tensorboardX's writer hands events to; None where it has no such part."""
    return getattr(getattr(writer, "file_writer", None), "event_writer", None)


def _abandon(writer: "SummaryWriter") -> None:
    """Close a writer that failed, as far as it can be; the end of the program must not wait for what it holds."""
    with suppress(Exception):
        _events(writer)._event_queue.cancel_join_thread()
    with suppress(Exception):
        writer.close()
