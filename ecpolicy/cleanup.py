"""Clean-up that never hides what went wrong: the first error is the one that is raised, later ones are its notes."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def clean_up(*steps: Callable[[], object], error: BaseException | None = None) -> None:
    """Do all these steps, whatever happens in them; raise the first error, with a note for each later one.

    For ``__exit__``: ``clean_up(self._pool.close, self._log.close, error=error)``. A warning that a filter turns into
    an error is an error like others. What ends a program and is no Exception (Ctrl-C, SystemExit) is raised in any
    case, after all steps; the errors before it are its notes, or its context.

    Parameters
    ----------
    *steps : callable ()
    error : BaseException, optional
        What is on its way already. It stays the error: the steps' own become its notes, and nothing is raised.

    Examples
    --------
    >>> def fail(what):
    ...     raise OSError(f"no {what}")
    >>> try:
    ...     clean_up(lambda: fail("disk"), lambda: fail("network"))
    ... except OSError as first:
    ...     print(first, first.__notes__)
    no disk ['While cleaning up: OSError: no network']
    """
    first = error
    for step in steps:
        try:
            step()
        except BaseException as found:
            if first is None:
                first = found
            elif isinstance(first, Exception) and not isinstance(found, Exception):
                if first is not error:  # that one becomes the context
                    _note(found, first)
                first = found
            elif found is not first:
                _note(first, found)
    if first is not None and first is not error:
        raise first


@contextmanager
def cleaning_up(*steps: Callable[[], object]) -> Iterator[None]:
    """Do these steps when the block ends, however it ends, as :func:`clean_up` does: in place of ``finally``."""
    try:
        yield
    except BaseException as error:
        clean_up(*steps, error=error)
        raise
    clean_up(*steps)


def _note(error: BaseException, later: BaseException) -> None:
    error.add_note("While cleaning up: " + "".join(traceback.format_exception_only(later)).strip())
