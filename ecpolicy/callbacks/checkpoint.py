"""Checkpoints: files from which an interrupted fit goes on as if nothing had happened."""

import os
import shutil
from contextlib import suppress
from functools import partial
from numbers import Real
from pathlib import Path
from time import monotonic

from ecpolicy.callbacks.protocol import check_count
from ecpolicy.callbacks.view import TrainingView
from ecpolicy.callbacks.writing import is_alarm, warn
from ecpolicy.cleanup import clean_up
from ecpolicy.files.archive import as_path, check_writable, is_there


class Checkpoint:
    """Save the training every few generations, every few seconds and at the end; ``resume_from`` goes on from there.

    ``fit(environment, callbacks=[checkpoint], resume_from=checkpoint)`` starts anew where there is no file yet and goes
    on from the newest one otherwise, so that the same command can be run again after a crash. The result is that of an
    uninterrupted fit, bit for bit.

    Every save is atomic. A save that fails (a full disk) is a warning that leaves all files as they are, and training
    goes on; the next one is tried as soon as it is due. If the last one fails, the fit ends with the error, and the
    policy keeps all it has learnt.

    Parameters
    ----------
    path : path-like
        The newest checkpoint, by convention ending in ``.ecp``. Its folder must exist. A symbolic link is followed.
    every : int or None
        Generations between saves; None for by time alone.
    seconds : float or None
        Save also where the last save is this long ago. Whatever is given first makes a save due.
    keep : int
        Files kept, the newest one included. Older ones are ``<name>.1.ecp``, ``<name>.2.ecp`` and so on.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, every: int | None = 1, seconds: float | None = None, keep: int = 1
    ) -> None:
        if every is None and seconds is None:
            raise ValueError("every and seconds are both None: give one of them, or both.")
        if every is not None:
            check_count("every", every, "generations")
        if seconds is not None and (not isinstance(seconds, Real) or seconds <= 0):
            raise ValueError(f"seconds must be a positive number; got {seconds!r}.")
        check_count("keep", keep, "files")
        self.path = as_path(path)
        self._every, self._seconds, self._keep = every, seconds, keep
        self._saved_at = monotonic()
        self._saved_generation: int | None = None

    def files(self) -> list[Path]:
        """The checkpoints that exist, newest first."""
        return [path for path in (self._older(number) for number in range(self._keep)) if is_there(path)]

    def begin(self, view: TrainingView) -> None:
        """Raise OSError now and not after hours where the folder cannot be written to."""
        check_writable(self.path)
        self._saved_at, self._saved_generation = monotonic(), None

    def __call__(self, view: TrainingView) -> None:
        """Save where it is due."""
        generation = view.history_[-1]["generation"]
        counted = self._every is not None and generation % self._every == 0
        timed = self._seconds is not None and monotonic() - self._saved_at >= self._seconds
        if counted or timed:
            try:
                self._save(view)
            except (OSError, ValueError) as error:  # no room, or more than a file may hold
                if is_alarm(error):
                    raise
                warn(f"{error} Training goes on.")

    def finish(self, view: TrainingView) -> None:
        """Save what the fit ends with."""
        self._save(view)

    def _save(self, view: TrainingView) -> None:
        generation = view.history_[-1]["generation"]
        before = self._second_name() if generation != self._saved_generation else None
        try:
            view.save(self.path)
        except BaseException as error:
            if before is not None:
                clean_up(partial(before.unlink, missing_ok=True), error=error)
            raise
        if before is not None:
            for number in range(self._keep - 1, 1, -1):
                with suppress(FileNotFoundError):
                    self._older(number - 1).replace(self._older(number))
            before.replace(self._older(1))
        self._saved_at, self._saved_generation = monotonic(), generation

    def _second_name(self) -> Path | None:
        """The newest file under a second name, under which it stays when it is replaced; None where none is kept."""
        if self._keep == 1 or not is_there(self.path):
            return None
        spare = self.path.with_name(f".{self._older(1).name}.tmp")
        spare.unlink(missing_ok=True)
        try:
            os.link(self.path.resolve(), spare)  # where a symbolic link leads, which would be the new file's as well
        except OSError:  # a file system without hard links
            shutil.copy2(self.path, spare)
        return spare

    def _older(self, number: int) -> Path:
        """The file ``number`` saves before the newest."""
        return self.path if number == 0 else self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")
