"""Values on the command line, and the settings of environments."""

import argparse
import inspect
import re
import tomllib
from typing import Any

from ecpolicy.environments import BRAX, registered_ids
from ecpolicy.estimators.base import BasePolicy
from ecpolicy.ids import without_module
from ecpolicy.tuned_settings import Tuned

UNLIMITED = 2**31 - 1  # generations, where the environment steps are limited


def defaults(estimator: Any) -> dict[str, Any]:
    """An estimator's parameters with their defaults."""
    return {name: p.default for name, p in inspect.signature(estimator).parameters.items()}


def descriptions(estimator: Any) -> dict[str, str]:
    """What an estimator's docstring says of each parameter: its first sentence, or its type where there is none."""
    found: dict[str, str] = {}
    section = (inspect.getdoc(estimator) or "").partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^(\w[\w, ]*?)(?: : (.*))?\n((?:[ ]+.*\n?)*)", section, flags=re.MULTILINE)
    for names, kind, description in entries:
        plain = re.sub(r":\w+:`(?:\w+\.)*([^`]*)`|``", r"\1", " ".join(description.split()))
        text = re.split(r"(?<=\.) ", plain)[0].rstrip(".") or kind.partition(", default")[0]
        found |= dict.fromkeys(names.split(", "), text)
    return found


def value_of(text: str) -> Any:
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


def environment_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What --env-setting says."""
    settings = {}
    for item in arguments.env_setting:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ValueError(f"--env-setting takes NAME=VALUE, got {item!r}.")
        settings[name] = value_of(text)
    return settings


def made_with(environment_id: str, settings: dict[str, Any]) -> Any:
    """What a policy takes as the environment of this id with these settings."""
    if not settings:
        return environment_id
    if environment_id.startswith(BRAX):
        raise ValueError(f"Settings of an environment are for Gymnasium's, not for {environment_id}.")
    return Tuned(environment_id, {}, settings, {}).environment


def file_name(environment_id: str) -> str:
    """Where a policy of this environment is saved by default, without the signs that stand for something in paths."""
    return f"{re.sub('[:/]', '-', without_module(environment_id))}.ecp"


def add_environment(parser: argparse.ArgumentParser) -> None:
    """The options that :func:`environment_of` reads."""
    parser.add_argument("--env", metavar="ID", help="an environment id, such as Hopper-v5 or "
                        "module:Id-v0; by default what it was trained on")  # fmt: skip
    parser.add_argument("--env-setting", action="append", default=[], metavar="NAME=VALUE", help="of the environment")


def environment_of(policy: BasePolicy, arguments: argparse.Namespace) -> Any:
    """The environment that was asked for, or the registered one of the training."""
    known = [arguments.env] if arguments.env is not None else registered_ids(policy.environments_)
    if len(known) != 1:
        raise ValueError(
            f"{arguments.path} does not say one registered environment: name it, --env ID, or --env MODULE:ID where "
            "the import of a module registers it."
        )
    return made_with(known[0], environment_settings(arguments))
