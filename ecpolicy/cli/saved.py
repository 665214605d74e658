"""What is done with a saved policy: ``ecpolicy evaluate``, ``export``, ``info``; and ``ecpolicy tuned``."""

import argparse
import math
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ecpolicy.cli.parsing import add_value
from ecpolicy.cli.reports import json_line, played, suggest, write_report
from ecpolicy.cli.settings import (
    UNLIMITED,
    add_environment,
    add_policy,
    destination,
    environment_of,
    non_default,
    saved_file,
    saved_policy,
)
from ecpolicy.constraints import Integer
from ecpolicy.files import archive
from ecpolicy.fitting.resumption import is_resumable
from ecpolicy.policies.parameters import ENGINES, PLAYING
from ecpolicy.pretrained_policies import pretrained_card, pretrained_ids
from ecpolicy.registered import registered_ids
from ecpolicy.tuned_settings import tuned, tuned_ids

TRAINING = "--seed", 6, "--max-env-steps", "5_000_000", "--n-jobs", 2, "--resume"  # minutes


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    add_policy(parser)
    add_environment(parser)
    add_value(parser, "--episodes", Integer(1), default=20, help="how many (default: 20)")
    add_value(parser, "--seed", Integer(0), help="episode k starts from reset(seed=seed + k)")
    add_value(parser, "--max-steps", Integer(1), help="steps of an episode at most (default: the environment's own "
              "limit; the training horizon where it has none)")  # fmt: skip
    add_value(parser, "--n-jobs", PLAYING["n_jobs"].accepts, help="workers, or threads of the engine mujoco")
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
        "out",
        help="policy.nir, policy.h, policy.sonata, policy.ecp for the deployed policy alone, or folder/ for Verilog",
    )
    formats = ["nir", "c", "sonata", "ecp", "verilog"]
    parser.add_argument("--format", choices=formats, help="by default what the file's ending says")
    add_value(parser, "--lanes", Integer(1), default=1, help="neurons that Verilog updates in a cycle (default: 1)")
    dialects = ["cuba-lif", "cuba-lif-flat", "lif"]
    parser.add_argument("--dialect", choices=dialects, default="cuba-lif", help="of the NIR graph (default: cuba-lif)")
    parser.add_argument("--name", help="prefix of what the header defines; by default the file's name")


def export(arguments: argparse.Namespace) -> None:
    """Write the file, print its path."""
    out = Path(arguments.out)
    by_ending = {".nir": "nir", ".h": "c", ".sonata": "sonata", ".ecp": "ecp"}
    kind = arguments.format or ("verilog" if arguments.out.endswith(("/", os.sep)) else by_ending.get(out.suffix))
    if kind is None:
        raise ValueError(
            f"{out} ends neither in .nir nor in .h nor in .sonata nor in .ecp nor in /: say which, --format nir, c, "
            "sonata, ecp or verilog."
        )
    if out.exists() and arguments.path.exists() and out.samefile(arguments.path):
        raise ValueError(f"{out} is what is to be exported: give another name.")
    policy = saved_policy(arguments.path)
    if kind == "nir":
        graph = policy.to_nir(dialect=arguments.dialect)
        import nir

        nir.write(destination(out), graph)
    elif kind == "ecp":
        policy.save(destination(out), training_state=False)
    elif kind == "verilog":
        policy.to_verilog(out, lanes=arguments.lanes)
    elif kind == "sonata":
        policy.to_sonata(out)
    else:
        header = policy.to_c(arguments.name or re.sub(r"\W|^(?=\d)", "_", out.stem, flags=re.ASCII))
        destination(out).write_text(header)
    print(out)


def info(arguments: argparse.Namespace) -> None:
    """Describe a saved policy."""
    policy, path = saved_policy(arguments.path), saved_file(arguments.path)
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
        "seconds": round(sum(entry["seconds"] for entry in policy.history_), 3),
        "best_deployed_return": last.get("best_deployed_return"),
        "stop_reason": policy.stop_reason_,
        "resumable": is_resumable(policy),
        "deployed_bytes": _deployed_bytes(policy),
        "file_bytes": path.stat().st_size,
        "saved": f"{datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M}",
        "ecpolicy": _release(path),
        "parameters": given,
    }
    if len(policy.history_) < generations:  # what is left of it does not tell
        del report["seconds"]
    if getattr(policy, "excitatory_", None) is not None:
        connectome = policy.connectome_
        report["connections"] = {name: int(present.sum()) for name, present in connectome.connectivity.items()}
        report["densities"] = {f"{pre} to {post}": round(d, 3) for (pre, post), d in connectome.densities().items()}
    write_report(report, arguments.json)


def _release(path: Path) -> str:
    """The version of this library that wrote a file, which is as hostile as other files."""
    release = archive.read(path)[0].get("release")
    return release if isinstance(release, str) and release.isprintable() else "unknown"


def _deployed_bytes(policy: Any) -> int:
    """What the deployed network's connections take: a bit each, or a float32."""
    if hasattr(policy, "connectivity_"):
        bits: int = sum(present.size for present in policy.connectivity_.values())
        return math.ceil(bits / 8)
    return sum(int(weights.nbytes) for weights in policy.weights_.values())


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
        suggest(("view", "pretrained:HalfCheetah-v5", "--max-steps", 250), ("train", "HalfCheetah-v5", *TRAINING))
