"""``ecpolicy train``."""

import argparse
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import ecpolicy
from ecpolicy.callbacks import Checkpoint, CSVLog, Live, Progress, StandingStill, TensorBoardLog
from ecpolicy.callbacks.view import TrainingView
from ecpolicy.callbacks.writing import Excuse, write_line
from ecpolicy.cli.parsing import Parser, add_value, number, option_of
from ecpolicy.cli.reports import json_line, played, suggest, write_report
from ecpolicy.cli.settings import (
    FAMILIAR,
    METHODS,
    SET_OTHERWISE,
    UNLIMITED,
    Method,
    destination,
    environment_settings,
    existing,
    file_name,
    made_with,
    parameter_options,
    plain,
    spoken,
    with_network,
)
from ecpolicy.constraints import Integer, Parameter, meant
from ecpolicy.environments import resolve
from ecpolicy.fitting.backends import choose, engine
from ecpolicy.ids import registered_id
from ecpolicy.networks import RSNN, BooleanRSNN, RealRSNN
from ecpolicy.policies.parameterised import SETTINGS
from ecpolicy.policies.parameters import SEED
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.spaces import interchangeable
from ecpolicy.tuned_settings import Tuned, is_tuned, tuned

TABLES = ("parameters", "network", "environment", "starts")  # of a configuration file

TRAIN_EXAMPLES = """\
examples:
  ecpolicy train CartPole-v1 --seed 0
  ecpolicy train Hopper-v5 --max-env-steps 5_000_000 --n-jobs 2 --resume    run it again to go on
  ecpolicy train Walker2d-v5 --env-setting healthy_reward=0 --learning-rate 0.3 --eps 0.01
  ecpolicy train HalfCheetah-v5 --method es --network gru --network-n-neurons 64
  ecpolicy train Hopper-v5 --config hopper.toml --json > training.jsonl

A configuration file is TOML: a table [parameters] with the parameters of the method, [network] with its network's
settings, [environment] with settings for gymnasium.make, [starts] with n_starts and env_steps. What is given later
counts: the method's defaults, the tuned settings of the environment, the file, the options.
"""


def add_train(parser: Parser, given: Sequence[str]) -> None:
    """The options of ``train``; those of the method depend on which one was ``given``."""
    parser.add_argument("environment", help="an environment id, such as Hopper-v5, module:Id-v0 or brax/hopper")
    parser.add_argument("--method", choices=METHODS, default="ec", help="evolving connectivity (default), evolution "
                        "strategies or PPO with surrogate gradients")  # fmt: skip
    parser.add_argument("--out", type=Path, help="where the policy is saved, all along (default: ENVIRONMENT.ecp)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on from --out, if it exists")
    existing.add_argument("--overwrite", action="store_true", help="start anew although --out exists")
    add_value(parser, "--seed", SEED, help="makes the training repeat bit for bit")
    parser.add_argument("--config", type=Path, help="a TOML file with settings")
    parser.add_argument("--env-setting", action="append", default=[], metavar="NAME=VALUE",
                        help="of the environment when training; scores are of the registered one")  # fmt: skip
    parser.add_argument("--not-tuned", action="store_true", help="leave the tuned settings of the environment alone")
    add_value(parser, "--n-starts", Integer(1), help="starts of the search, of which the one with the best "
              "population goes on (default: 1)")  # fmt: skip
    add_value(parser, "--start-env-steps", Integer(1), help="environment steps of every start, where there are "
              "several (default: 1000000)")  # fmt: skip
    add_value(parser, "--score-episodes", Integer(0), default=100, help="fresh episodes at the end (default: 100)")
    add_value(parser, "--every", Integer(0), default=1, help="generations between progress lines (default: 1); 0: none")
    parser.add_argument("--csv", type=Path, help="write the history here as well")
    parser.add_argument("--tensorboard", type=Path, help="write the history to this folder as well")
    parser.add_argument("--live", action="store_true", help="one panel in the terminal instead of progress lines")
    parser.add_argument("--json", action="store_true", help="print a JSON line per generation, and one at the end")
    group = parser.add_argument_group("parameters of the method", "numbers, words, or values as in TOML")
    method = _chosen_method(given)
    options = parameter_options(method)
    for name, parameter in options.items():
        if name not in SET_OTHERWISE:
            add_value(
                group, option_of(name), parameter.accepts, dest=f"parameter:{name}", metavar="VALUE",
                default=argparse.SUPPRESS,
                help=f"{spoken(plain(parameter.sentence)).replace('%', '%%')} (default: {parameter.default})",
            )  # fmt: skip
    others = {name: word for word, one in METHODS.items() for name in parameter_options(one) if name not in options}
    parser.elsewhere = {
        **{option_of(name): f" It is for another method: add --method {word}." for name, word in others.items()},
        **{option_of(name): f" It is {option} here." for name, option in {**SET_OTHERWISE, **FAMILIAR}.items()},
        **{option_of(n): f" It belongs to the network: give {option_of(f'network__{n}')}." for n in SETTINGS},
    }


def _chosen_method(given: Sequence[str]) -> Method:
    """The method whose parameters are options, before the command line is parsed as a whole."""
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chosen.add_argument("--method", default="ec")
    try:
        method = chosen.parse_known_args(given)[0].method
    except argparse.ArgumentError:
        method = "ec"
    return METHODS.get(method, METHODS["ec"])


def _tuned(arguments: argparse.Namespace) -> Tuned:
    """The tuned settings that count: other methods have those of the environment alone, ``--not-tuned`` none."""
    if arguments.not_tuned or not is_tuned(arguments.environment):
        return Tuned(arguments.environment, {}, {}, {})
    found = tuned(arguments.environment)
    return found if arguments.method == "ec" else found._replace(parameters={}, starts={})


def _settings(arguments: argparse.Namespace) -> tuple[dict[str, object], dict[str, object], dict[str, Any]]:
    """Parameters of the method, settings of the environment and starts: tuned, from the file and from the options."""
    _, parameters, environment, starts = _tuned(arguments)
    method, refuse = METHODS[arguments.method], arguments.parser.error
    known = parameter_options(method)
    if arguments.config is not None:
        given = _configuration(arguments.config, refuse)
        moved = sorted(SETTINGS & set(given.get("parameters", {})))
        if moved:
            refuse(f"{arguments.config}: {', '.join(moved)} belong in a table [network], not in [parameters].")
        misplaced = sorted({"verbose", "warm_start"} & set(given.get("parameters", {})))
        if misplaced:
            option = SET_OTHERWISE[misplaced[0]]
            refuse(f"{arguments.config}: {misplaced[0]} is for the command line, {option}.")
        read = given.get("parameters", {})
        read |= {f"network__{name}": value for name, value in given.get("network", {}).items()}
        for name, value in read.items():
            _check(name, value, known, arguments)
        parameters |= read
        environment |= given.get("environment", {})
        starts |= given.get("starts", {})
    environment |= environment_settings(arguments)
    options = {"n_starts": arguments.n_starts, "env_steps": arguments.start_env_steps}
    starts |= {name: value for name, value in options.items() if value is not None}
    parameters |= {
        name.removeprefix("parameter:"): v for name, v in vars(arguments).items() if name.startswith("parameter:")
    }
    if arguments.seed is not None:
        parameters["random_state"] = arguments.seed
    if parameters.get("max_env_steps") is not None and "n_generations" in known:
        parameters.setdefault("n_generations", UNLIMITED)
    if starts and arguments.method == "ppo":
        refuse("ppo has no search that could start several times: leave out --n-starts and --start-env-steps.")
    return with_network(parameters, method), environment, starts


def _check(name: str, value: object, known: Mapping[str, Parameter], arguments: argparse.Namespace) -> None:
    """Refuse a parameter of the configuration file that there is not, or cannot have this value."""
    path, refuse, written = arguments.config, arguments.parser.error, name.removeprefix("network__")
    if name not in known:
        kin = [one.removeprefix("network__") for one in known if ("__" in one) == (name != written)]
        there = f"{arguments.method} has no {'setting of the network' if name != written else 'parameter'} {written}"
        refuse(f"{path}: {there}; it has {', '.join(kin)}.{meant(written, kin)}")
    try:
        known[name].accepts(f"{path}: {written}", value)
    except (TypeError, ValueError) as error:
        refuse(str(error))


def _configuration(path: Path, refuse: Callable[[str], NoReturn]) -> dict[str, Any]:
    try:
        given = tomllib.loads(existing(path, "*.toml").read_text(), parse_float=number)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        refuse(f"{path} is not TOML: {error}")
    for name, table in given.items():
        if name not in TABLES or not isinstance(table, dict):
            refuse(f"{path} may hold the tables [{'], ['.join(TABLES)}]; it has {name!r}.{meant(name, TABLES)}")
    return given


class _JSONLines:
    """Print every generation for a program; one that no longer reads does not end the training."""

    def __init__(self) -> None:
        self._excuse = Excuse("A line of JSON")

    def __call__(self, view: TrainingView) -> None:
        with self._excuse.excused():
            write_line(json_line({"event": "generation", **view.history_[-1]}), sys.stdout)


class _Opening:
    """Say before the first generation what is trained: settings, reward and engine, and how to leave settings out."""

    def __init__(self, arguments: argparse.Namespace, settings: dict[str, object], environment: object) -> None:
        found = _tuned(arguments)
        shown = f"tuned settings (see ecpolicy tuned {registered_id(arguments.environment)})"
        words = ", ".join(f"{name}={value}" for name, value in settings.items())
        parts = [
            arguments.environment,
            f"{arguments.method}, {shown if found.parameters or found.starts else 'default settings'}",
            f"trained with {words}, scored in the end as registered" if words else "reward as registered",
        ]
        self._parts = [*parts, "--not-tuned leaves tuned settings out"] if any(found[1:]) else parts
        self._environment, self._told = environment, False

    def begin(self, view: TrainingView) -> None:
        """Print the line, once for all starts of a search."""
        if not self._told:
            resolved = resolve(self._environment)
            played_by = engine(view.engine, choose(view.backend, resolved), resolved).name
            with suppress(OSError, ValueError):
                write_line(" | ".join([*self._parts, f"engine {played_by}"]), sys.stderr)
        self._told = True

    def __call__(self, view: TrainingView) -> None:
        """Nothing more."""


def train(arguments: argparse.Namespace) -> None:
    """Train and save; report the deployed network's score on fresh episodes of the registered environment."""
    parameters, settings, starts = _settings(arguments)
    environment = made_with(arguments.environment, settings)
    if settings and arguments.score_episodes:
        trained, scored = resolve(environment), resolve(arguments.environment)
        if not interchangeable(trained.observation_space, scored.observation_space):
            raise ValueError(
                "With these settings the environment has another observation space than the registered one, on which "
                "the policy would be scored: give --score-episodes 0, and the same --env-setting to evaluate."
            )
    path = arguments.out or Path(file_name(arguments.environment))
    if path.is_file() and not (arguments.resume or arguments.overwrite):
        raise FileExistsError(f"{path} exists: go on with it by --resume, or start anew by --overwrite.")
    for file in (path, arguments.csv):
        if file is not None:
            destination(file)
    checkpoint = Checkpoint(path, every=None, seconds=30)
    callbacks: list[object] = [checkpoint]
    if arguments.json:
        callbacks.append(_JSONLines())
    elif arguments.every:
        shown = (Live if arguments.live else Progress)(arguments.every, sys.stderr)
        shown.speak = spoken
        callbacks.append(shown)
    callbacks.append(StandingStill())
    if arguments.csv is not None:
        callbacks.append(CSVLog(arguments.csv))
    if arguments.tensorboard is not None:
        callbacks.append(TensorBoardLog(arguments.tensorboard))
    callbacks.append(_Opening(arguments, settings, environment))  # last: others may find that they cannot begin
    policy = METHODS[arguments.method].estimator(**parameters)
    further: dict[str, Any] = {"callbacks": callbacks, "resume_from": checkpoint if arguments.resume else None}
    if starts:
        ecpolicy.best_start(policy, environment, **starts, **further)
    else:
        policy.fit(environment, **further)
    arguments.interrupted = policy.stop_reason_ == "interrupted"
    report = {"event": "end", "path": str(path), "stop_reason": policy.stop_reason_, "n_env_steps": policy.n_env_steps_}
    if arguments.score_episodes and not arguments.interrupted:
        report |= played(policy, arguments.environment, arguments.score_episodes, None, None)
    write_report(report, arguments.json)
    if arguments.interrupted and not arguments.json:
        suggest([*(word for word in arguments.given if word not in ("--overwrite", "--resume")), "--resume"])
    elif not arguments.json:
        suggest(*_following(policy, path, resolve(arguments.environment).on_device))


def _following(policy: BasePolicy, path: Path, on_device: bool) -> Iterator[tuple[object, ...]]:
    """What can be done with the policy that was saved here."""
    yield "evaluate", path
    if not on_device:
        yield "record", path, path.with_suffix(".mp4")
    network = policy._deployed.network
    if isinstance(network, BooleanRSNN | RealRSNN) and not on_device:
        yield "view", path, "--out", path.with_suffix(".html")
        yield "plot", path, "--kind", "raster"
    if isinstance(network, RSNN | RealRSNN):
        yield "export", path, path.with_suffix(".nir")
    if isinstance(network, BooleanRSNN):
        yield "export", path, path.with_suffix(".h")
