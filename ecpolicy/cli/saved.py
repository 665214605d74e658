"""What is done with a saved policy: ``ecpolicy evaluate``, ``export``, ``info``; and ``ecpolicy tuned``."""

import argparse
import os
from pathlib import Path

import numpy as np

from ecpolicy.cli.reports import json_line, played, write_report
from ecpolicy.cli.settings import UNLIMITED, add_environment, add_policy, environment_of, non_default, saved_policy
from ecpolicy.fitting.resumption import is_resumable
from ecpolicy.policies.parameters import ENGINES
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.pretrained_policies import pretrained_card, pretrained_ids
from ecpolicy.registered import registered_ids
from ecpolicy.tuned_settings import tuned, tuned_ids


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    add_policy(parser)
    add_environment(parser)
    parser.add_argument("--episodes", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, help="episode k starts from reset(seed=seed + k)")
    parser.add_argument("--max-steps", type=int, help="steps of an episode at most (default: the environment's own "
                        "limit; the training horizon where it has none)")  # fmt: skip
    parser.add_argument("--n-jobs", type=int, help="workers, or threads of the engine mujoco")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="what plays Gymnasium's environments")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def evaluate(arguments: argparse.Namespace) -> None:
    """Report returns, lengths and, on locomotion tasks, speed."""
    policy = saved_policy(arguments.path)
    policy.set_params(n_jobs=arguments.n_jobs, engine=arguments.engine)
    environment = environment_of(policy, arguments)
    report = {"environment": getattr(environment, "id", environment)}
    report |= played(policy, environment, arguments.episodes, arguments.seed, arguments.max_steps)
    write_report(report, arguments.json)


def add_export(parser: argparse.ArgumentParser) -> None:
    """The options of ``export``."""
    add_policy(parser)
    parser.add_argument(
        "out", help="policy.nir, policy.h, policy.ecp for the deployed policy alone, or folder/ for Verilog"
    )
    formats = ["nir", "c", "ecp", "verilog"]
    parser.add_argument("--format", choices=formats, help="by default what the file's ending says")
    parser.add_argument("--lanes", type=int, default=1, help="neurons that Verilog updates in a cycle (default: 1)")
    dialects = ["cuba-lif", "cuba-lif-flat", "lif"]
    parser.add_argument("--dialect", choices=dialects, default="cuba-lif", help="of the NIR graph (default: cuba-lif)")
    parser.add_argument("--name", help="prefix of what the header defines; by default the file's name")


def export(arguments: argparse.Namespace) -> None:
    """Write the file, print its path."""
    out = Path(arguments.out)
    by_ending = {".nir": "nir", ".h": "c", ".ecp": "ecp"}
    kind = arguments.format or ("verilog" if arguments.out.endswith(("/", os.sep)) else by_ending.get(out.suffix))
    if kind is None:
        raise ValueError(
            f"{out} ends neither in .nir nor in .h nor in .ecp nor in /: say which, --format nir, c, ecp or verilog."
        )
    if out.exists() and arguments.path.exists() and out.samefile(arguments.path):
        raise ValueError(f"{out} is what is to be exported: give another name.")
    policy = saved_policy(arguments.path)
    if kind == "nir":
        graph = policy.to_nir(dialect=arguments.dialect)
        import nir

        nir.write(out, graph)
    elif kind == "ecp":
        policy.save(out, training_state=False)
    elif kind == "verilog":
        policy.to_verilog(out, lanes=arguments.lanes)
    else:
        out.write_text(policy.to_c(arguments.name or out.stem.replace("-", "_")))
    print(out)


def info(arguments: argparse.Namespace) -> None:
    """Describe a saved policy."""
    policy: BasePolicy = saved_policy(arguments.path)
    generations = policy.n_updates_ if hasattr(policy, "n_updates_") else policy.n_generations_
    last = policy.history_[-1] if policy.history_ else {}
    given = {name: _described(value) for name, value in non_default(policy).items()}
    if given.get("n_generations") == UNLIMITED:
        del given["n_generations"]
    report: dict[str, object] = {
        "class": type(policy).__name__,
        "environments": registered_ids(policy.environments_),
        "observation_space": str(policy.observation_space_),
        "action_space": str(policy.action_space_),
        "generations": generations,
        "n_env_steps": policy.n_env_steps_,
        "hours": round(sum(entry["seconds"] for entry in policy.history_) / 3600, 3),
        "best_deployed_return": last.get("best_deployed_return"),
        "stop_reason": policy.stop_reason_,
        "resumable": is_resumable(policy),
        "parameters": given,
    }
    if len(policy.history_) < generations:  # what is left of it does not tell
        del report["hours"]
    if getattr(policy, "excitatory_", None) is not None:
        connectome = policy.connectome_
        report["connections"] = {name: int(present.sum()) for name, present in connectome.connectivity.items()}
        report["densities"] = {f"{pre} to {post}": round(d, 3) for (pre, post), d in connectome.densities().items()}
    write_report(report, arguments.json)


def _described(value: object) -> object:
    """A parameter: an anatomical prior by the shapes of its arrays, a network as it is written."""
    if hasattr(value, "get_params"):
        return repr(value)
    if isinstance(value, dict):
        return {name: f"array {np.shape(part)}" if np.ndim(part) else part for name, part in value.items()}
    return value


def show_tuned(arguments: argparse.Namespace) -> None:
    """Print the settings of one environment, or of all."""
    names = [arguments.environment] if arguments.environment else tuned_ids()
    found = {name: tuned(name) for name in names}
    report = {
        name: {"parameters": entry.parameters, "environment": entry.environment_kwargs, "starts": entry.starts}
        for name, entry in found.items()
    }
    if arguments.json:
        print(json_line(report))
        return
    for name, tables in report.items():
        settings = {**tables["parameters"], **{f"environment {k}": v for k, v in tables["environment"].items()}}
        settings |= {f"starts {k}": v for k, v in tables["starts"].items()}
        print(f"{name}: {', '.join(f'{key} = {value}' for key, value in settings.items()) or 'the defaults'}")


def show_pretrained(arguments: argparse.Namespace) -> None:
    """Print the card of one pretrained policy, or a line for each."""
    names = [arguments.environment] if arguments.environment else pretrained_ids()
    cards = {card.environment_id: card._asdict() for card in map(pretrained_card, names)}
    if arguments.json:
        print(json_line(cards))
    elif arguments.environment:
        (card,) = cards.values()
        write_report({name: value for name, value in card.items() if value is not None}, False)
    else:
        for name, card in cards.items():
            speed = "" if card["x_velocity"] is None else f", {card['x_velocity']} m/s"
            print(f"{name}: {card['return_mean']} ± {card['return_std']}{speed}, {card['n_env_steps']:,} steps")
