"""Values on the command line, and the settings of environments."""

import argparse
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gymnasium.envs.registration import EnvSpec, load_env_creator

import ecpolicy
from ecpolicy.cli.parsing import option_of, value_of
from ecpolicy.constraints import Choice, Parameter, meant
from ecpolicy.files.archive import check_writable
from ecpolicy.ids import changed_spec, registered_spec, without_module
from ecpolicy.integrators import with_integrator
from ecpolicy.networks import NETWORKS, Settings
from ecpolicy.policies.parameterised import SETTINGS
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.pretrained_policies import pretrained_file
from ecpolicy.registered import BRAX, registered_ids

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
SET_OTHERWISE = {"random_state": "--seed", "verbose": "--every", "warm_start": "--resume"}
FAMILIAR = {"lr": "--learning-rate", "timesteps": "--max-env-steps", "total_timesteps": "--max-env-steps"}  # elsewhere
WORD_ENDS = r"(?![\w/]|\.\w)"
SPOKEN = {  # words of the library's messages, and what the command line has for them; one word alone may be any word
    "Fit without warm_start": "Give --overwrite",
    "fit without resume_from": "give --overwrite",
    "name must be a C": "--name must be a C",
    **{rf"network={kind.__name__}\(\)": f"--network {name}" for name, kind in NETWORKS.items()},
    **{f"network__{name}{WORD_ENDS}": option_of(f"network__{name}") for name in SETTINGS},
    **{f"{name}{WORD_ENDS}": option_of(f"network__{name}") for name in SETTINGS if "_" in name},
    "healthy_reward=": "--env-setting healthy_reward=",
    **{
        f"{name}{WORD_ENDS if '_' in name else '(?==)'}": option_of(name)
        for method in METHODS.values()
        for name in method.estimator.table
        if name != "network"
    },
    **{f"{name}{WORD_ENDS}": option for name, option in SET_OTHERWISE.items() if "_" in name},
    "resume_from": "--resume",
    "n_episodes": "--episodes",
    "first_step": "--first-step",
}
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


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


def spoken(message: str) -> str:
    """What the library says of parameters, in the words of the command line."""
    message = re.sub(r"\bnetwork=\w+\((\w+=[^()]+)\)", _network_options, message)
    for words, option in SPOKEN.items():
        message = re.sub(rf"(?<![\w./-]){words}", option, message)
    return message


def _network_options(network: re.Match[str]) -> str:
    """The options for a network as Python writes it."""
    settings = (setting.split("=") for setting in network[1].split(", "))
    return " ".join(f"{option_of(f'network__{name}')} {value}" for name, value in settings)


def existing(path: Path, pattern: str, otherwise: str = "") -> Path:
    """The path of a file that is there; raises FileNotFoundError, which says what could be meant."""
    if not path.exists():
        beside = [file.name for file in path.parent.glob(pattern)]
        raise FileNotFoundError(f"There is no file {path}.{meant(path.name, beside)}{otherwise}")
    return path


def destination(path: Path) -> Path:
    """A path that a file can be written to, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    check_writable(path)
    return path


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
    given: dict[str, Any] = dict(settings)
    known = _settings_of(registered_spec(environment_id))
    if known is None:
        return changed_spec(environment_id, given)
    physics = {name: given.pop(name) for name in ("integrator", "substeps") if name in given and name not in known}
    unknown = [name for name in given if name not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ValueError(f"{environment_id} has no setting {unknown[0]}; {has}.{meant(unknown[0], known)}")
    if not physics:
        return changed_spec(environment_id, given)
    if "integrator" not in physics:
        raise ValueError("substeps is for another integrator: --env-setting integrator=Euler --env-setting substeps=2.")
    return with_integrator(environment_id, **physics, **given)


def _settings_of(spec: EnvSpec) -> list[str] | None:
    """What the constructor of an environment takes; None where it takes whatever there is."""
    made_by: Any = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    kinds = made_by.__mro__ if isinstance(made_by, type) else ()
    found: dict[str, None] = {}
    for constructor in [vars(kind)["__init__"] for kind in kinds if "__init__" in vars(kind)] or [made_by]:
        taken = inspect.signature(constructor).parameters.values()
        found |= dict.fromkeys(one.name for one in taken if one.kind in NAMED and one.name != "self")
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken):
            return sorted(found)
    return None


def add_policy(
    parser: argparse.ArgumentParser, name: str = "path", further: str = "", nargs: str | None = None
) -> None:
    """The argument of a command for a saved policy, or with ``nargs="+"`` for several."""
    about = f"a saved policy, or {PRETRAINED}Hopper-v5 for one that comes with the package{further}"
    parser.add_argument(name, type=Path, metavar="path", nargs=nargs, help=about)


def saved_file(path: Path) -> Path:
    """The file that was meant, which may be that of a pretrained policy."""
    given = str(path)
    if given.startswith(PRETRAINED):
        return pretrained_file(given.removeprefix(PRETRAINED))
    otherwise = f" ecpolicy train makes one; {PRETRAINED}Hopper-v5 comes with the package."
    return existing(path, "*.ecp", otherwise)


def saved_policy(path: Path) -> BasePolicy:
    """The policy of the file that was meant."""
    return ecpolicy.load(saved_file(path))


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
