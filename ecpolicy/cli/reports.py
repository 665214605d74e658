"""What commands print, for people and for programs."""

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from ecpolicy.callbacks.progress import duration
from ecpolicy.callbacks.writing import write_line
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.rollout.outcome import mean_and_std

UNITS = {"x_velocity": " m/s", "x_position": " m", "length_mean": " steps"}


def played(
    policy: BasePolicy, environment: object, n_episodes: int, seed: int | None, max_episode_steps: int | None
) -> dict[str, object]:
    """What the deployed network's episodes came to."""
    found = policy.evaluate(environment, n_episodes=n_episodes, seed=seed, max_episode_steps=max_episode_steps)
    mean, std = mean_and_std(found.returns)
    report: dict[str, object] = {
        "return_mean": mean,
        "return_std": std,
        "episodes": n_episodes,
        "length_mean": float(found.lengths.mean()),
    }
    if np.isfinite(found.x_velocities).all():
        report["x_velocity"] = float(found.x_velocities.mean())
        report["x_position"] = float(found.x_positions.mean())
    return {**report, "returns": found.returns[:, 0].tolist()}


def write_report(report: dict[str, object], as_json: bool) -> None:
    """Print for a program or for a person."""
    if as_json:
        print(json_line(report), flush=True)
        return
    hidden = {"event", "returns"}
    for name, value in report.items():
        if name in hidden:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} = {part}" for key, part in value.items()) or "the defaults"
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "unknown"
        elif name == "seconds":
            name, value = "time", duration(float(str(value)))
        elif isinstance(value, float):
            value = f"{value:.2f}{UNITS.get(name, '')}"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        print(f"{name.removeprefix('n_').replace('_', ' ').replace('env ', 'environment ')}: {value}")


def suggest(*commands: Sequence[object]) -> None:
    """Print what could be done next, on standard error: commands that can be copied as they stand."""
    with suppress(OSError, ValueError):
        write_line("next:", sys.stderr)
        for command in commands:
            write_line(f"  {shlex.join(['ecpolicy', *map(str, command)])}", sys.stderr)


def json_line(value: object) -> str:
    """JSON on one line."""
    return json.dumps(value, default=lambda item: item.tolist() if hasattr(item, "tolist") else str(item))
