"""What is written while training goes on: where it cannot be, one warning says so, and training goes on."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class Excuse:
    """Warns once a fit that something could not be written, and why.

    Parameters
    ----------
    what : str
        Names it, as the subject of "could not be written".
    """

    def __init__(self, what: str) -> None:
        self._what, self._warned = what, False

    def forget(self) -> None:
        """Warn again: another fit begins."""
        self._warned = False

    @contextmanager
    def excused(self) -> Iterator[None]:
        """Turn an error of the block into the warning."""
        try:
            yield
        except Exception as error:
            if is_alarm(error):
                raise
            self(error)

    def __call__(self, error: Exception) -> None:
        """Warn of this error, unless one was warned of before."""
        if not self._warned:
            self._warned = True
            reason = str(error).rstrip(".") or "no reason given"
            warn(
                f"{self._what} could not be written: {type(error).__name__}: {reason}. Training goes on; there is no "
                "further warning in this fit."
            )


def is_alarm(error: Exception) -> bool:
    """Whether this is an OSError that the system did not make: a watchdog rang while something was being written."""
    return isinstance(error, TimeoutError) and error.errno is None


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn, also where standard error is closed: then nobody can be told."""
    with suppress(OSError, ValueError):
        warnings.warn(message, category, stacklevel=3)


def write_line(line: str, stream: TextIO | None) -> None:
    """Write a line and flush; a character that the stream's encoding does not have is replaced.

    Like ``print``, it does nothing where the stream is None, as standard output is in a program without a console.
    """
    if stream is None:
        return
    try:
        stream.write(f"{line}\n")
    except UnicodeEncodeError:
        replaced = line.replace("±", "+-").encode("ascii", "replace").decode("ascii")
        stream.write(f"{replaced}\n")
    stream.flush()


class ExcusedStream:
    """A stream whose failures are excused, to others just like the stream that it writes to."""

    def __init__(self, stream: TextIO, excuse: Excuse) -> None:
        self._stream, self._excuse = stream, excuse

    def write(self, text: str) -> int:
        """Write what can be written."""
        with self._excuse.excused():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with self._excuse.excused():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
