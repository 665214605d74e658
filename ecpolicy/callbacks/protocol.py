"""What a callback is, and several as one."""

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral

from ecpolicy.callbacks.view import TrainingView
from ecpolicy.cleanup import clean_up

Callback = Callable[[TrainingView], bool | None]


def check_count(name: str, value: object, of: str) -> None:
    """Raise ValueError unless a parameter of a callback is a number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"{name} must be a number of {of}, at least 1; got {value!r}.")


class Chain:
    """Several callbacks as one: what ``fit`` calls, and what to give to a search.

    scikit-learn takes a list with as many entries as there are environments for data and splits it; a chain it leaves
    alone.

    Parameters
    ----------
    *callbacks : callable
        All are called, in this order; training ends where one of them returns True.
    """

    def __init__(self, *callbacks: Callback) -> None:
        for callback in callbacks:
            if not callable(callback) or isinstance(callback, type):
                hint = ", a class: make an instance of it" if isinstance(callback, type) else ""
                raise TypeError(
                    f"callbacks must be callables that take a view of the training; got {callback!r}{hint}."
                )
        self.callbacks = callbacks
        self.stopped_by = ""  #: the callbacks by whose wish training ends

    def begin(self, view: TrainingView) -> None:
        """Begin with each."""
        for callback in self.callbacks:
            getattr(callback, "begin", _nothing)(view)

    def __call__(self, view: TrainingView) -> bool:
        """Call each; whether training is to end."""
        wanting = [callback for callback in self.callbacks if callback(view)]
        self.stopped_by = ", ".join(map(_name, wanting))
        return bool(wanting)

    def finish(self, view: TrainingView) -> None:
        """Finish with each, even where another one raises: the first error is raised, later ones are its notes."""
        clean_up(*(partial(_finish, callback, view) for callback in self.callbacks))


def chained(callbacks: Callback | Sequence[Callback] | None) -> Chain:
    """What was given as ``callbacks``, one or several, as a chain.

    Raises
    ------
    TypeError
    """
    if callbacks is None:
        return Chain()
    if callable(callbacks):
        return Chain(callbacks)
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a callable or a sequence of callables; got {callbacks!r}.")
    return Chain(*callbacks)


def _name(callback: Callback) -> str:
    if isinstance(callback, Chain):
        return callback.stopped_by
    return str(getattr(callback, "__name__", type(callback).__name__))


def _finish(callback: Callback, view: TrainingView) -> None:
    getattr(callback, "finish", _nothing)(view)


def _nothing(view: TrainingView) -> None:
    return None
