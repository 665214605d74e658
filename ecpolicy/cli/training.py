"""``ecpolicy train``."""

import argparse
import sys
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ecpolicy
from ecpolicy.callbacks import Checkpoint, CSVLog, Progress, StandingStill, TensorBoardLog
from ecpolicy.callbacks.view import TrainingView
from ecpolicy.callbacks.writing import Excuse, write_line
from ecpolicy.cli.reports import json_line, played, write_report
from ecpolicy.cli.settings import (
    METHODS,
    UNLIMITED,
    Method,
    environment_settings,
    file_name,
    made_with,
    number,
    parameter_options,
    plain,
    value_of,
    with_network,
)
from ecpolicy.environments import resolve
from ecpolicy.fitting.backends import choose, engine
from ecpolicy.ids import registered_id
from ecpolicy.policies.parameterised import SETTINGS
from ecpolicy.spaces import interchangeable
from ecpolicy.tuned_settings import Tuned, is_tuned, tuned

SET_OTHERWISE = {"random_state": "--seed", "verbose": "--every", "warm_start": "--resume"}

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


def add_train(parser: argparse.ArgumentParser, given: Sequence[str]) -> None:
    """The options of ``train``; those of the method depend on which one was ``given``."""
    parser.add_argument("environment", help="an environment id, such as Hopper-v5, module:Id-v0 or brax/hopper")
    parser.add_argument("--method", choices=METHODS, default="ec", help="evolving connectivity (default), evolution "
                        "strategies or PPO with surrogate gradients")  # fmt: skip
    parser.add_argument("--out", type=Path, help="where the policy is saved, all along (default: ENVIRONMENT.ecp)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on from --out, if it exists")
    existing.add_argument("--overwrite", action="store_true", help="start anew although --out exists")
    parser.add_argument("--seed", type=int, help="makes the training repeat bit for bit")
    parser.add_argument("--config", type=Path, help="a TOML file with settings")
    parser.add_argument("--env-setting", action="append", default=[], metavar="NAME=VALUE",
                        help="of the environment when training; scores are of the registered one")  # fmt: skip
    parser.add_argument("--not-tuned", action="store_true", help="leave the tuned settings of the environment alone")
    parser.add_argument("--n-starts", type=value_of, metavar="N", help="starts of the search, of which the one with "
                        "the best population goes on (default: 1)")  # fmt: skip
    parser.add_argument("--start-env-steps", type=value_of, metavar="N", help="environment steps of every start, where "
                        "there are several (default: 1000000)")  # fmt: skip
    parser.add_argument("--score-episodes", type=int, default=100, help="fresh episodes at the end (default: 100)")
    parser.add_argument("--every", type=int, default=1, help="generations between progress lines; 0: none")
    parser.add_argument("--csv", type=Path, help="write the history here as well")
    parser.add_argument("--tensorboard", type=Path, help="write the history to this folder as well")
    parser.add_argument("--json", action="store_true", help="print a JSON line per generation, and one at the end")
    group = parser.add_argument_group("parameters of the method", "numbers, words, or values as in TOML")
    method = _chosen_method(given)
    for name, parameter in parameter_options(method).items():
        if name not in SET_OTHERWISE:
            group.add_argument(
                _option(name), dest=f"parameter:{name}", type=value_of, metavar="VALUE", default=argparse.SUPPRESS,
                help=f"{plain(parameter.sentence).replace('%', '%%')} (default: {parameter.default})",
            )  # fmt: skip
    for name in sorted(SETTINGS):
        group.add_argument(_option(name), action=_OfTheNetwork, help=argparse.SUPPRESS)


def _option(name: str) -> str:
    return f"--{name.replace('__', '-').replace('_', '-')}"


class _OfTheNetwork(argparse.Action):
    """An option that is spelt otherwise now."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: str | None = None
    ) -> None:
        parser.error(f"{option} belongs to the network: give {_option(f'network__{self.dest}')} {values}")


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
    if arguments.config is not None:
        given = _configuration(arguments.config)
        moved = sorted(SETTINGS & set(given.get("parameters", {})))
        if moved:
            raise ValueError(
                f"{arguments.config}: {', '.join(moved)} belong in a table [network], not in [parameters]."
            )
        misplaced = sorted({"verbose", "warm_start"} & set(given.get("parameters", {})))
        if misplaced:
            option = SET_OTHERWISE[misplaced[0]]
            raise ValueError(f"{arguments.config}: {misplaced[0]} is for the command line, {option}.")
        parameters |= given.get("parameters", {})
        parameters |= {f"network__{name}": value for name, value in given.get("network", {}).items()}
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
    method = METHODS[arguments.method]
    known = parameter_options(method)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"{arguments.method} has no parameter {', '.join(unknown)}; it has {', '.join(known)}.")
    if parameters.get("max_env_steps") is not None and "n_generations" in known:
        parameters.setdefault("n_generations", UNLIMITED)
    if starts and arguments.method == "ppo":
        raise ValueError(
            "ppo has no search that could start several times: leave out --n-starts and --start-env-steps."
        )
    return with_network(parameters, method), environment, starts


def _configuration(path: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(path.read_text(), parse_float=number)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    for name, table in given.items():
        if name not in ("parameters", "network", "environment", "starts") or not isinstance(table, dict):
            raise ValueError(
                f"{path} may hold the tables [parameters], [network], [environment] and [starts]; it has {name!r}."
            )
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
    if arguments.score_episodes < 0:
        raise ValueError(f"--score-episodes must be at least 0, got {arguments.score_episodes}.")
    if settings and arguments.score_episodes:
        trained, scored = resolve(environment), resolve(arguments.environment)
        if not interchangeable(trained.observation_space, scored.observation_space):
            raise ValueError(
                "With these settings the environment has another observation space than the registered one, on which "
                "the policy would be scored: give --score-episodes 0, and the same --env-setting to evaluate."
            )
    path = arguments.out or Path(file_name(arguments.environment))
    if path.exists() and not (arguments.resume or arguments.overwrite):
        raise FileExistsError(f"{path} exists: go on with it by --resume, or start anew by --overwrite.")
    checkpoint = Checkpoint(path, every=None, seconds=30)
    callbacks: list[object] = [_Opening(arguments, settings, environment), checkpoint]
    if arguments.json:
        callbacks.append(_JSONLines())
    elif arguments.every:
        callbacks.append(Progress(arguments.every, sys.stderr))
    callbacks.append(StandingStill())
    if arguments.csv is not None:
        callbacks.append(CSVLog(arguments.csv))
    if arguments.tensorboard is not None:
        callbacks.append(TensorBoardLog(arguments.tensorboard))
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
