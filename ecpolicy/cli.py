"""The command line: train, evaluate, record, plot, export, info, tuned.

Exit status: 0 where all went well, 1 where it did not, with the reason on standard error, 2 where the command was
wrong, 130 where Ctrl-C ended it. What was asked for goes to standard output, progress to standard error.
"""

import argparse
import inspect
import json
import sys
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np

import ecpolicy
from ecpolicy.callbacks import Checkpoint, CSVLog, Progress, StandingStill, TensorBoardLog
from ecpolicy.estimators.environments import BRAX, registered_ids, resolve
from ecpolicy.estimators.evaluation import ENDLESS_EPISODE
from ecpolicy.spaces import interchangeable
from ecpolicy.tuned_settings import Tuned, tuned, tuned_ids

METHODS: dict[str, Any] = {
    "ec": ecpolicy.EvolvingConnectivityPolicy,
    "es": ecpolicy.ESPolicy,
    "ppo": ecpolicy.SurrogateGradientPPOPolicy,
}
SET_OTHERWISE = {"random_state": "--seed", "verbose": "--every", "warm_start": "--resume"}
UNLIMITED = 2**31 - 1  # generations, where the environment steps are limited
FAILURES = (ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError, gym.error.Error)
PICTURES = ("learning-curve", "raster", "rates", "probabilities")

EXAMPLES = """\
examples:
  ecpolicy train CartPole-v1 --seed 0
  ecpolicy train Hopper-v5 --max-env-steps 5_000_000 --n-jobs 2 --out hopper.ecp --resume
  ecpolicy evaluate hopper.ecp --episodes 100 --json
  ecpolicy record hopper.ecp hopper.mp4
  ecpolicy plot hopper.ecp --kind raster --out raster.png
  ecpolicy export hopper.ecp policy.nir
  ecpolicy info hopper.ecp
"""
TRAIN_EXAMPLES = """\
examples:
  ecpolicy train CartPole-v1 --seed 0
  ecpolicy train Hopper-v5 --max-env-steps 5_000_000 --n-jobs 2 --resume    run it again to go on
  ecpolicy train Walker2d-v5 --env-setting healthy_reward=0 --learning-rate 0.3 --eps 0.01
  ecpolicy train HalfCheetah-v5 --method es --network gru --max-env-steps 2_000_000
  ecpolicy train Hopper-v5 --config hopper.toml --json > training.jsonl

A configuration file is TOML: a table [parameters] with the parameters of the method, a table [environment] with
settings for gymnasium.make. What is given later counts: the method's defaults, the tuned settings of the environment,
the file, the options.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parsed = _parser(given).parse_args(given)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            parsed.run(parsed)
    except FAILURES as error:
        if parsed.debug:
            raise
        print(f"ecpolicy: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 130 if getattr(parsed, "interrupted", False) else 0


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"ecpolicy: warning: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Says where help is after a wrong command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\nTry '{self.prog} --help'.\n")


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where in the code an error came from")
    parser = _Parser(
        prog="ecpolicy", description="Policies with 1-bit recurrent spiking networks, trained without gradients.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"ecpolicy {ecpolicy.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command", parser_class=_Parser)

    def command(name: str, run: Any, about: str, **further: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}.", parents=[common], allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter, **further,
        )  # fmt: skip
        added.set_defaults(run=run)
        return added

    usage = "ecpolicy train [options] environment"
    _add_train(command("train", train, "train a policy", usage=usage, epilog=TRAIN_EXAMPLES), given)
    _add_evaluate(command("evaluate", evaluate, "play fresh episodes with a saved policy and report its returns"))
    _add_record(command("record", record, "write a video of a saved policy"))
    _add_plot(command("plot", plot, "draw learning curves, spikes, rates or connection probabilities"))
    _add_export(command("export", export, "write the deployed network as a NIR graph or a C header"))
    described = command("info", info, "describe a saved policy")
    described.add_argument("path", type=Path, help="a saved policy")
    described.add_argument("--json", action="store_true", help="print one JSON object")
    listed = command("tuned", show_tuned, "show the settings that were found for an environment")
    listed.add_argument("environment", nargs="?", help="an environment id; all of them without")
    listed.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


# train


def _add_train(parser: argparse.ArgumentParser, given: Sequence[str]) -> None:
    parser.add_argument("environment", help="an environment id, such as Hopper-v5 or brax/hopper")
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
    parser.add_argument("--score-episodes", type=int, default=100, help="fresh episodes at the end (default: 100)")
    parser.add_argument("--every", type=int, default=1, help="generations between progress lines; 0: none")
    parser.add_argument("--csv", type=Path, help="write the history here as well")
    parser.add_argument("--tensorboard", type=Path, help="write the history to this folder as well")
    parser.add_argument("--json", action="store_true", help="print a JSON line per generation, and one at the end")
    group = parser.add_argument_group("parameters of the method", "numbers, words, or values as in TOML")
    for name, default in _defaults(_chosen_method(given)).items():
        if name not in SET_OTHERWISE:
            option = f"--{name.replace('_', '-')}"
            group.add_argument(
                option, dest=f"parameter:{name}", type=_value, metavar="VALUE", default=argparse.SUPPRESS,
                help=f"default: {default}",
            )  # fmt: skip


def _chosen_method(given: Sequence[str]) -> Any:
    """The estimator whose parameters are options, before the command line is parsed as a whole."""
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chosen.add_argument("--method", default="ec")
    try:
        method = chosen.parse_known_args(given)[0].method
    except argparse.ArgumentError:
        method = "ec"
    return METHODS.get(method, METHODS["ec"])


def _defaults(estimator: Any) -> dict[str, Any]:
    return {name: p.default for name, p in inspect.signature(estimator).parameters.items()}


def _value(text: str) -> Any:
    """A value as TOML or Python has it, or else the text itself; 1e6 is a whole number."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return int(value) if isinstance(value, float) and "." not in text and value.is_integer() else value


def _settings(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the method and settings of the environment: tuned, from the file and from the options."""
    parameters: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    if not arguments.not_tuned and arguments.environment in tuned_ids():
        found = tuned(arguments.environment)
        environment |= found.environment_kwargs
        if arguments.method == "ec":
            parameters |= found.parameters
    if arguments.config is not None:
        given = _configuration(arguments.config)
        misplaced = sorted({"verbose", "warm_start"} & set(given.get("parameters", {})))
        if misplaced:
            option = SET_OTHERWISE[misplaced[0]]
            raise ValueError(f"{arguments.config}: {misplaced[0]} is for the command line, {option}.")
        parameters |= given.get("parameters", {})
        environment |= given.get("environment", {})
    environment |= _environment_settings(arguments)
    parameters |= {
        name.removeprefix("parameter:"): v for name, v in vars(arguments).items() if name.startswith("parameter:")
    }
    if arguments.seed is not None:
        parameters["random_state"] = arguments.seed
    known = _defaults(METHODS[arguments.method])
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"{arguments.method} has no parameter {', '.join(unknown)}; it has {', '.join(known)}.")
    if parameters.get("max_env_steps") is not None and "n_generations" in known:
        parameters.setdefault("n_generations", UNLIMITED)
    return parameters, environment


def _environment_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {}
    for item in arguments.env_setting:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ValueError(f"--env-setting takes NAME=VALUE, got {item!r}.")
        settings[name] = _value(text)
    return settings


def _made_with(environment_id: str, settings: dict[str, Any]) -> Any:
    """What a policy takes as the environment of this id with these settings."""
    if not settings:
        return environment_id
    if environment_id.startswith(BRAX):
        raise ValueError(f"Settings of an environment are for Gymnasium's, not for {environment_id}.")
    return Tuned(environment_id, {}, settings).environment


def _configuration(path: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    for name, table in given.items():
        if name not in ("parameters", "environment") or not isinstance(table, dict):
            raise ValueError(f"{path} may hold the tables [parameters] and [environment]; it has {name!r}.")
    return given


def train(arguments: argparse.Namespace) -> None:
    """Train and save; report the deployed network's score on fresh episodes of the registered environment."""
    parameters, settings = _settings(arguments)
    environment = _made_with(arguments.environment, settings)
    if arguments.score_episodes < 0:
        raise ValueError(f"--score-episodes must be at least 0, got {arguments.score_episodes}.")
    if settings and arguments.score_episodes:
        trained, scored = resolve(environment), resolve(arguments.environment)
        if not interchangeable(trained.observation_space, scored.observation_space):
            raise ValueError(
                "With these settings the environment has another observation space than the registered one, on which "
                "the policy would be scored: give --score-episodes 0, and the same --env-setting to evaluate."
            )
    path = arguments.out or Path(f"{arguments.environment.replace('/', '-')}.ecp")
    if path.exists() and not (arguments.resume or arguments.overwrite):
        raise FileExistsError(f"{path} exists: go on with it by --resume, or start anew by --overwrite.")
    checkpoint = Checkpoint(path, every=None, seconds=30)
    callbacks: list[Any] = [checkpoint]
    if arguments.json:
        callbacks.append(lambda view: print(_line({"event": "generation", **view.history_[-1]}), flush=True))
    elif arguments.every:
        callbacks.append(Progress(arguments.every, sys.stderr))
    callbacks.append(StandingStill())
    if arguments.csv is not None:
        callbacks.append(CSVLog(arguments.csv))
    if arguments.tensorboard is not None:
        callbacks.append(TensorBoardLog(arguments.tensorboard))
    policy = METHODS[arguments.method](**parameters)
    policy.fit(environment, callbacks=callbacks, resume_from=checkpoint if arguments.resume else None)
    arguments.interrupted = policy.stop_reason_ == "interrupted"
    report = {"event": "end", "path": str(path), "stop_reason": policy.stop_reason_, "n_env_steps": policy.n_env_steps_}
    if arguments.score_episodes and not arguments.interrupted:
        report |= _episodes(policy, arguments.environment, arguments.score_episodes, None, None)
    _report(report, arguments.json)


# what is done with a saved policy


def _add_saved(parser: argparse.ArgumentParser, *, environment: bool = True) -> None:
    parser.add_argument("path", type=Path, help="a saved policy")
    if environment:
        _add_environment(parser)


def _add_environment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", metavar="ID", help="an environment id; by default what it was trained on")
    parser.add_argument("--env-setting", action="append", default=[], metavar="NAME=VALUE", help="of the environment")


def _environment(policy: Any, arguments: argparse.Namespace) -> Any:
    """The environment that was asked for, or the registered one of the training."""
    known = [arguments.env] if arguments.env is not None else registered_ids(policy)
    if len(known) != 1:
        raise ValueError(f"{arguments.path} does not say one registered environment: name it, --env ID.")
    return _made_with(known[0], _environment_settings(arguments))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_saved(parser)
    parser.add_argument("--episodes", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, help="episode k starts from reset(seed=seed + k)")
    parser.add_argument("--max-steps", type=int, help="steps of an episode at most (default: the environment's own "
                        f"limit, or {ENDLESS_EPISODE} where it has none)")  # fmt: skip
    parser.add_argument("--n-jobs", type=int, help="workers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def evaluate(arguments: argparse.Namespace) -> None:
    """Report returns, lengths and, on locomotion tasks, speed."""
    policy = ecpolicy.load(arguments.path)
    policy.set_params(n_jobs=arguments.n_jobs)
    environment = _environment(policy, arguments)
    report = {"environment": getattr(environment, "id", environment)}
    report |= _episodes(policy, environment, arguments.episodes, arguments.seed, arguments.max_steps)
    _report(report, arguments.json)


def _episodes(
    policy: Any, environment: Any, n_episodes: int, seed: int | None, max_episode_steps: int | None
) -> dict[str, Any]:
    if max_episode_steps is None and not resolve(environment).time_limited:
        max_episode_steps = ENDLESS_EPISODE
    played = policy.evaluate(environment, n_episodes=n_episodes, seed=seed, max_episode_steps=max_episode_steps)
    report: dict[str, Any] = {
        "return_mean": float(played.returns.mean()),
        "return_std": float(played.returns.std()),
        "episodes": n_episodes,
        "length_mean": float(played.lengths.mean()),
    }
    if np.isfinite(played.x_velocities).all():
        report["x_velocity"] = float(played.x_velocities.mean())
        report["x_position"] = float(played.x_positions.mean())
    return {**report, "returns": played.returns[:, 0].tolist()}


def _add_record(parser: argparse.ArgumentParser) -> None:
    _add_saved(parser)
    parser.add_argument("out", type=Path, help="the video, ending in .mp4")
    parser.add_argument("--episodes", type=int, default=1, help="how many; the second is OUT-1.mp4 (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=1000, help="steps of an episode at most (default: 1000)")


def record(arguments: argparse.Namespace) -> None:
    """Write videos; print their paths."""
    from ecpolicy.inspection import record_video

    policy = ecpolicy.load(arguments.path)
    for file in record_video(
        policy, _environment(policy, arguments), arguments.out, n_episodes=arguments.episodes, seed=arguments.seed,
        max_episode_steps=arguments.max_steps,
    ):  # fmt: skip
        print(file)


def _add_plot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", type=Path, nargs="+", metavar="path", help="saved policies; several for the learning "
                        "curve, which then has their spread")  # fmt: skip
    parser.add_argument("--kind", choices=PICTURES, default=PICTURES[0], help=f"(default: {PICTURES[0]})")
    parser.add_argument("--out", type=Path, required=True, help="the picture: .png, .pdf, .svg, ...")
    _add_environment(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the episode that is drawn")
    parser.add_argument("--y", default="best_deployed_return", help="what of the history is drawn")
    parser.add_argument("--first-step", type=int, default=0, help="where the raster begins")
    parser.add_argument("--steps", type=int, default=60, help="environment steps in the raster (default: 60)")
    parser.add_argument("--dark", action="store_true", help="on a dark background")
    parser.add_argument("--dpi", type=int, default=200)


def plot(arguments: argparse.Namespace) -> None:
    """Draw, save, print the path."""
    from ecpolicy.optional import require

    require("matplotlib", "plot", extra="plot")
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    from ecpolicy import inspection

    mpl.use("Agg")
    policies = [ecpolicy.load(path) for path in arguments.paths]
    if arguments.kind != "learning-curve" and len(policies) > 1:
        raise ValueError(f"{arguments.kind} is drawn of one policy, got {len(policies)}.")
    policy: Any = policies[0]
    display: Any
    with plt.style.context("dark_background" if arguments.dark else "default"):
        if arguments.kind == "learning-curve":
            display = inspection.LearningCurveDisplay.from_policy_run(policies, y=arguments.y)
        elif arguments.kind == "probabilities":
            display = inspection.ConnectionProbabilityDisplay.from_estimator(policy)
        else:
            arguments.path = arguments.paths[0]
            activity = inspection.record_activity(policy, _environment(policy, arguments), seed=arguments.seed)
            if arguments.kind == "raster":
                display = inspection.SpikeRasterDisplay.from_policy_run(
                    activity, first_step=arguments.first_step, n_steps=arguments.steps
                )
            else:
                display = inspection.FiringRateDisplay.from_policy_run(activity)
        display.figure_.savefig(arguments.out, dpi=arguments.dpi)
        plt.close(display.figure_)
    print(arguments.out)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_saved(parser, environment=False)
    parser.add_argument("out", type=Path, help="policy.nir or policy.h")
    parser.add_argument("--format", choices=["nir", "c"], help="by default what the file's ending says")
    parser.add_argument("--neurons", choices=["lif", "cuba-lif"], default="lif", help="of the NIR graph (default: lif)")
    parser.add_argument("--name", help="prefix of what the header defines; by default the file's name")


def export(arguments: argparse.Namespace) -> None:
    """Write the file, print its path."""
    kind = arguments.format or {".nir": "nir", ".h": "c"}.get(arguments.out.suffix)
    if kind is None:
        raise ValueError(f"{arguments.out} ends neither in .nir nor in .h: say which, --format nir or --format c.")
    policy = ecpolicy.load(arguments.path)
    if kind == "nir":
        graph = policy.to_nir(neurons=arguments.neurons)
        import nir

        nir.write(arguments.out, graph)
    else:
        arguments.out.write_text(policy.to_c(arguments.name or arguments.out.stem.replace("-", "_")))
    print(arguments.out)


def info(arguments: argparse.Namespace) -> None:
    """Describe a saved policy."""
    policy: Any = ecpolicy.load(arguments.path)
    last = policy.history_[-1]
    defaults = _defaults(type(policy))
    given = {
        name: _described(value)
        for name, value in policy.get_params(deep=False).items()
        if isinstance(value, dict) or value != defaults[name]
    }
    if given.get("n_generations") == UNLIMITED:
        del given["n_generations"]
    report: dict[str, Any] = {
        "class": type(policy).__name__,
        "environments": registered_ids(policy),
        "observation_space": str(policy.observation_space_),
        "action_space": str(policy.action_space_),
        "generations": last["generation"],
        "n_env_steps": policy.n_env_steps_,
        "hours": round(sum(entry["seconds"] for entry in policy.history_) / 3600, 3),
        "best_deployed_return": last["best_deployed_return"],
        "stop_reason": policy.stop_reason_,
        "parameters": given,
    }
    if hasattr(policy, "excitatory_"):
        connectome = policy.connectome_
        report["connections"] = {name: int(present.sum()) for name, present in connectome.connectivity.items()}
        report["densities"] = {f"{pre} to {post}": round(d, 3) for (pre, post), d in connectome.densities().items()}
    _report(report, arguments.json)


def _described(value: Any) -> Any:
    """A parameter, an anatomical prior by the shapes of its arrays."""
    if isinstance(value, dict):
        return {name: f"array {np.shape(part)}" if np.ndim(part) else part for name, part in value.items()}
    return value


def show_tuned(arguments: argparse.Namespace) -> None:
    """Print the settings of one environment, or of all."""
    names = [arguments.environment] if arguments.environment else tuned_ids()
    found = {name: tuned(name) for name in names}
    report = {
        name: {"parameters": entry.parameters, "environment": entry.environment_kwargs} for name, entry in found.items()
    }
    if arguments.json:
        print(_line(report))
        return
    for name, tables in report.items():
        settings = {**tables["parameters"], **{f"environment {k}": v for k, v in tables["environment"].items()}}
        print(f"{name}: {', '.join(f'{key} = {value}' for key, value in settings.items()) or 'the defaults'}")


def _report(report: dict[str, Any], as_json: bool) -> None:
    """Print for a program or for a person."""
    if as_json:
        print(_line(report), flush=True)
        return
    hidden = {"event", "returns"}
    for name, value in report.items():
        if name in hidden:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} = {part}" for key, part in value.items()) or "the defaults"
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "unknown"
        elif isinstance(value, float):
            value = f"{value:.2f}"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        print(f"{name.replace('_', ' ')}: {value}")


def _line(value: Any) -> str:
    return json.dumps(value, default=lambda item: item.tolist() if hasattr(item, "tolist") else str(item))
