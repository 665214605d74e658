"""Options whose values are checked as they are read, and what is said of a wrong command: one line, exit status 2."""

import argparse
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ecpolicy.constraints import Constraint, meant


class Parser(argparse.ArgumentParser):
    """Refuses options and commands that it does not know before anything else, and says which could be meant."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self.elsewhere: Mapping[str, str] = {}  # what to say of options that are something else's
        self.commands: Mapping[str, object] = {}
        self._negative_number_matcher = re.compile(r"-\.?\d")  # -1e3 and -1_000 as well, as in Python 3.14

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with argparse's result."""
        self._refuse_unknown(args)
        return super().parse_known_args(args, namespace)

    def _refuse_unknown(self, given: Sequence[str]) -> None:
        for word in given:
            if word == "--":
                return
            if not word.startswith("-"):
                if not self.commands:
                    continue
                if word not in self.commands:
                    there = f"The commands are {', '.join(self.commands)}."
                    self.error(f"There is no command {word!r}.{meant(word, self.commands)} {there}")
                return
            option = word.partition("=")[0]
            if re.match("--?[a-z]", option, re.IGNORECASE) and option not in self._option_string_actions:
                known = [name for name in self._option_string_actions if name not in ("-h", "--help")]
                self.error(f"There is no option {option}.{self.elsewhere.get(option) or meant(option, known)}")

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        end = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"{self.prog}: error: {message}{end} See {self.prog} --help.\n")


class Checked(argparse.Action):
    """Stores a value that a constraint accepts, as TOML or Python writes it; another one is refused by the option."""

    def __init__(self, *, accepts: Constraint, **settings: Any) -> None:
        super().__init__(**settings)
        self._accepts = accepts

    def __call__(self, parser: Any, namespace: object, values: Any, option: str | None = None) -> None:
        """Store the value."""
        value = value_of(values)
        try:
            self._accepts(str(option), value)
        except (TypeError, ValueError) as error:
            parser.error(str(error))
        setattr(namespace, self.dest, value)


def add_value(parser: argparse._ActionsContainer, option: str, accepts: Constraint, **settings: Any) -> None:
    """Add an option for a value that a constraint accepts."""
    parser.add_argument(option, action=Checked, accepts=accepts, **{"metavar": "N", **settings})


def value_of(text: str) -> object:
    """A value as TOML or Python has it, or else the text itself."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return tomllib.loads(f"value = {text}", parse_float=number)["value"]
    except tomllib.TOMLDecodeError:
        return text


def number(text: str) -> float | int:
    """A number that TOML takes for a float; 1e6 is a whole one."""
    value = float(text)
    return int(value) if "." not in text and value.is_integer() else value


def option_of(name: str) -> str:
    """The option that sets a parameter."""
    return f"--{name.replace('__', '-').replace('_', '-')}"
