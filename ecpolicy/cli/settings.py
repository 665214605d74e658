"""Values on the command line, and the settings of environments."""

import argparse
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import ecpolicy
from ecpolicy.constraints import Choice, Parameter
from ecpolicy.ids import without_module
from ecpolicy.networks import NETWORKS, Settings
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.registered import BRAX, registered_ids
from ecpolicy.tuned_settings import Tuned

PRETRAINED = "pretrained:"  # what stands before an environment's id in the place of a file
UNLIMITED = 2**31 - 1  # generations, where the environment steps are limited


class Method(NamedTuple):
    """A way to train: an estimator, and the networks that it can have, the default first."""

    estimator: type[BasePolicy]
    networks: tuple[str, ...]


METHODS = {
    "ec": Method(ecpolicy.EvolvingConnectivityPolicy, ("rsnn", "integer-rsnn")),
    "es": Method(ecpolicy.ESPolicy, ("real-rsnn", "gru", "lstm")),
    "ppo": Method(ecpolicy.SurrogateGradientPPOPolicy, ("real-rsnn",)),
}


def non_default(policy: BasePolicy) -> dict[str, object]:
    """The parameters of a policy that are not the default."""
    given = policy.get_params(deep=False)
    return {
        name: value for name, value in given.items() if isinstance(value, dict) or value != policy.table[name].default
    }


def parameter_options(method: Method) -> dict[str, Parameter]:
    """What an option or a file sets: the parameters, and as ``network__n_neurons`` and so on the network's settings."""
    found = dict(method.estimator.table)
    about = f"{', '.join(method.networks)}."
    found["network"] = Parameter("network", method.networks[0], Choice(method.networks), f"The network: {about}")
    for kind in reversed(method.networks):  # of those that several have, the default's counts
        for name, parameter in NETWORKS[kind].table.items():
            found[f"network__{name}"] = parameter
    return found


def with_network(parameters: Mapping[str, object], method: Method) -> dict[str, object]:
    """Parameters for the estimator: the network's name and settings, put together."""
    settings = {name[9:]: value for name, value in parameters.items() if name.startswith("network__")}
    found = {name: value for name, value in parameters.items() if not name.startswith("network__")}
    network = found.get("network", method.networks[0])
    if not isinstance(network, Settings):
        network = NETWORKS[Choice(method.networks)("network", network)]()
    if settings or "network" in found:
        found["network"] = network.set_params(**settings)
    return found


def plain(about: str) -> str:
    """A sentence of a table, without what Sphinx reads."""
    return re.sub(r":\w+:`(?:\w+\.)*([^`]*)`|``", r"\1", about)


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


def environment_settings(arguments: argparse.Namespace) -> dict[str, object]:
    """What --env-setting says."""
    settings = {}
    for item in arguments.env_setting:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ValueError(f"--env-setting takes NAME=VALUE, got {item!r}.")
        settings[name] = value_of(text)
    return settings


def made_with(environment_id: str, settings: dict[str, object]) -> object:
    """What a policy takes as the environment of this id with these settings."""
    if not settings:
        return environment_id
    if environment_id.startswith(BRAX):
        raise ValueError(f"Settings of an environment are for Gymnasium's, not for {environment_id}.")
    return Tuned(environment_id, {}, settings, {}).environment


def add_policy(
    parser: argparse.ArgumentParser, name: str = "path", further: str = "", nargs: str | None = None
) -> None:
    """The argument of a command for a saved policy, or with ``nargs="+"`` for several."""
    about = f"a saved policy, or {PRETRAINED}Hopper-v5 for one that comes with the package{further}"
    parser.add_argument(name, type=Path, metavar="path", nargs=nargs, help=about)


def saved_policy(path: Path) -> BasePolicy:
    """The policy of this file, or the pretrained one."""
    given = str(path)
    if given.startswith(PRETRAINED):
        return ecpolicy.pretrained(given.removeprefix(PRETRAINED))
    return ecpolicy.load(path)


def file_name(environment_id: str) -> str:
    """Where a policy of this environment is saved by default, without the signs that stand for something in paths."""
    return f"{re.sub('[:/]', '-', without_module(environment_id))}.ecp"


def add_environment(parser: argparse.ArgumentParser) -> None:
    """The options that :func:`environment_of` reads."""
    parser.add_argument("--env", metavar="ID", help="an environment id, such as Hopper-v5 or "
                        "module:Id-v0; by default what it was trained on")  # fmt: skip
    parser.add_argument("--env-setting", action="append", default=[], metavar="NAME=VALUE", help="of the environment")


def environment_of(policy: BasePolicy, arguments: argparse.Namespace) -> object:
    """The environment that was asked for, or the registered one of the training."""
    known = [arguments.env] if arguments.env is not None else registered_ids(policy.environments_)
    if len(known) != 1:
        raise ValueError(
            f"{arguments.path} does not say one registered environment: name it, --env ID, or --env MODULE:ID where "
            "the import of a module registers it."
        )
    return made_with(known[0], environment_settings(arguments))
