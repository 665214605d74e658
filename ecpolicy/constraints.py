"""What a parameter may be, and tables of parameters: one entry each, which checks, files, help and docstrings read.

A constraint is called with the name and the value of a parameter: it gives the value back as a plain Python one, or
raises TypeError or ValueError, with what was given and what is wanted. As a string it is the type in a docstring.
"""

import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

Kind = TypeVar("Kind", bound=type)


class Constraint(Protocol):
    """What a value must be."""

    def __call__(self, name: str, value: object) -> Any:
        """The value of the parameter ``name``, checked."""


@dataclass(frozen=True)
class Number:
    """A finite real (or whole) number in [low, high], or (low, high] where ``open_low``."""

    low: float = -np.inf
    high: float = np.inf
    open_low: bool = False
    integer: bool = False

    def __call__(self, name: str, value: object) -> Any:
        """The number, a Python one."""
        if isinstance(value, Integral if self.integer else Real) and not isinstance(value, bool):
            number = int(value) if isinstance(value, Integral) else float(value)
            if not self.integer and abs(number) > sys.float_info.max:
                number = np.inf  # a whole number beyond all that a float holds
            if self.low <= number <= self.high and abs(number) != np.inf and not (self.open_low and number == self.low):
                return number if self.integer else float(number)
            error: type[Exception] = ValueError
        else:
            error = TypeError
        what = "an integer" if self.integer else "a number"
        raise error(f"{name} must be {what} in {self.interval}; got {value!r:.100}.")

    @property
    def interval(self) -> str:
        """As mathematics writes it."""
        left = "(" if self.open_low or self.low == -np.inf else "["
        return f"{left}{self.low}, {self.high}{')' if self.high == np.inf else ']'}"

    @property
    def kind(self) -> str:
        """The type's name."""
        return "int" if self.integer else "float"

    def __str__(self) -> str:
        return self.kind if (self.low, self.high) == (-np.inf, np.inf) else f"{self.kind} in {self.interval}"


Integer = partial(Number, integer=True)
POSITIVE = Number(0, open_low=True)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def __call__(self, name: str, value: object) -> bool:
        """The flag."""
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False; got {value!r}.")
        return bool(value)

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: Collection[str]

    def __call__(self, name: str, value: object) -> str:
        """The word."""
        if not isinstance(value, str) or value not in self.words:
            raise ValueError(f"{name} must be one of {sorted(self.words)}; got {value!r}.")
        return value

    def __str__(self) -> str:
        return f"{{{', '.join(map(_literal, self.words))}}}"


@dataclass(frozen=True)
class Schedule:
    """A number, or a sequence of pairs (n_env_steps, value) with rising first entries from 0; given as such pairs."""

    values: Number

    def __call__(self, name: str, value: object) -> list[tuple[int, float]]:
        """The pairs: environment steps from which a value holds, and the value."""
        if isinstance(value, Real):
            return [(0, self.values(name, value))]
        wanted = "a number, or pairs (n_env_steps, value) with rising whole n_env_steps that start at 0"
        message = f"{name} must be {wanted}; got {value!r}."
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError(message)
        schedule = []
        for pair in value:
            if not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], Integral):
                raise TypeError(message)
            schedule.append((int(pair[0]), self.values(f"{name} from step {pair[0]}", pair[1])))
        starts = [start for start, _ in schedule]
        if starts[:1] != [0] or sorted(set(starts)) != starts:
            raise ValueError(message)
        return schedule

    def __str__(self) -> str:
        return f"{self.values} or list of (n_env_steps, {self.values.kind})"


@dataclass(frozen=True)
class Either:
    """A value of these types as it is, or else one of a constraint."""

    types: tuple[type, ...]
    otherwise: Constraint
    words: str

    def __call__(self, name: str, value: object) -> Any:
        """The value."""
        return value if isinstance(value, self.types) else self.otherwise(name, value)

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Custom:
    """What a function checks."""

    words: str
    check: Callable[[str, object], object]

    def __call__(self, name: str, value: object) -> Any:
        """The value."""
        return self.check(name, value)

    def __str__(self) -> str:
        return self.words


def optional(constraint: Constraint) -> Either:
    """None, or what the constraint takes."""
    return Either((type(None),), constraint, f"{constraint} or None")


class Parameter(NamedTuple):
    """An entry of a table."""

    name: str
    default: object
    accepts: Constraint
    about: str  # what it is; the first sentence is the command line's help
    source: str = ""  # of the default or of the idea

    def check(self, value: object) -> Any:
        """The value, checked."""
        return self.accepts(self.name, value)

    @property
    def sentence(self) -> str:
        """The first sentence."""
        return self.about.partition(". ")[0].rstrip(".")

    def entry(self) -> str:
        """As numpydoc has it."""
        about = f"{self.about} Source: {self.source}." if self.source else self.about
        filled = textwrap.fill(about, 112, break_long_words=False, break_on_hyphens=False)
        return f"{self.name} : {self.accepts}, default {_literal(self.default)}\n{textwrap.indent(filled, '    ')}"


Table = Mapping[str, Parameter]


def meant(given: str, known: Iterable[str]) -> str:
    """A question that goes behind a message: the known name that was mistyped or abbreviated, or nothing.

    Signs and capitals do not count. ``popsize`` and ``size`` stand for ``population_size``: beginnings of its words, in
    order. Of several such names the shortest is taken.

    Examples
    --------
    >>> from ecpolicy.constraints import meant
    >>> meant("--popsize", ["--optimizer", "--population-size"])
    ' Did you mean --population-size?'
    """
    names = {_letters(name): name for name in reversed(list(known))}
    wanted = _letters(given)
    mistyped = [names[found] for found in difflib.get_close_matches(wanted, list(names), 1, 0.8)]
    abbreviated = sorted((name for name in names.values() if _abbreviates(wanted, _words(name))), key=len)
    alike = [names[found] for found in difflib.get_close_matches(wanted, list(names), 1)]
    return "".join(f" Did you mean {name}?" for name in [*mistyped, *abbreviated, *alike][:1])


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def _letters(name: str) -> str:
    return "".join(_words(name))


def _abbreviates(given: str, words: Sequence[str]) -> bool:
    """Whether this is beginnings of the words, in order; a word may be left out."""
    if not given or not words:
        return not given
    return any(
        words[0].startswith(given[:length]) and _abbreviates(given[length:], words[1:])
        for length in range(len(given), -1, -1)
    )


def table(*parameters: Parameter) -> dict[str, Parameter]:
    """Parameters by name."""
    return {parameter.name: parameter for parameter in parameters}


def check(parameters: Iterable[Parameter], settings: object) -> dict[str, Any]:
    """The attributes of ``settings`` that these parameters name, checked."""
    return {parameter.name: parameter.check(getattr(settings, parameter.name)) for parameter in parameters}


def documented(parameters: Table) -> Callable[[Kind], Kind]:
    """Write a table into the docstring of a class, where that says ``<parameters>``."""

    def write(kind: Kind) -> Kind:
        if kind.__doc__:  # python -OO has none
            entries = "\n".join(parameter.entry() for parameter in parameters.values())
            kind.__doc__ = inspect.cleandoc(kind.__doc__).replace("<parameters>", entries)
        return kind

    return write


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
