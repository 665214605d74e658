"""``ecpolicy record``, ``ecpolicy view`` and ``ecpolicy plot``."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from ecpolicy.callbacks.progress import duration
from ecpolicy.callbacks.writing import write_line
from ecpolicy.cli.parsing import add_value
from ecpolicy.cli.settings import add_environment, add_policy, destination, environment_of, saved_policy
from ecpolicy.constraints import Integer
from ecpolicy.inspection import Activity, record_activity
from ecpolicy.policies.policy import BasePolicy

PICTURES = ("learning-curve", "raster", "rates", "probabilities")


def add_record(parser: argparse.ArgumentParser) -> None:
    """The options of ``record``."""
    add_policy(parser)
    add_environment(parser)
    parser.add_argument("out", type=Path, help="the video, ending in .mp4, or observations, actions and rewards as "
                        "NumPy's arrays, ending in .npz")  # fmt: skip
    add_value(parser, "--episodes", Integer(1), default=1, help="how many; the second video is OUT-1.mp4 (default: 1)")
    add_value(parser, "--seed", Integer(0), default=0, help="episode k starts from reset(seed=seed + k) (default: 0)")
    add_value(parser, "--max-steps", Integer(1), default=1000, help="steps of an episode at most (default: 1000)")


def record(arguments: argparse.Namespace) -> None:
    """Write videos, or episodes as arrays; print the paths."""
    from ecpolicy.inspection import record_episodes, record_video

    policy = saved_policy(arguments.path)
    if arguments.out.suffix == ".npz":
        recorded = record_episodes(
            policy, environment_of(policy, arguments), n_episodes=arguments.episodes, seed=arguments.seed,
            max_episode_steps=arguments.max_steps,
        )  # fmt: skip
        print(recorded.to_npz(destination(arguments.out)))
        return
    if arguments.out.suffix != ".mp4":
        raise ValueError(
            "An episode is written as a video or as arrays: "
            f'give a path that ends in ".mp4" or ".npz", got {str(arguments.out)!r}.'
        )
    for file in record_video(
        policy, environment_of(policy, arguments), destination(arguments.out), n_episodes=arguments.episodes,
        seed=arguments.seed, max_episode_steps=arguments.max_steps,
        on_frame=_Frames(arguments.out, arguments.episodes * (arguments.max_steps + 1)),
    ):  # fmt: skip
        print(file)


class _Frames:
    """Lines of progress on standard error: the first after a second, and later ones every few seconds."""

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most, self._done = path, most, 0
        self._began, self._next = perf_counter(), 1.0

    def __call__(self, _: int) -> None:
        """Print a line where it is due."""
        self._done += 1
        elapsed = perf_counter() - self._began
        if elapsed >= self._next:
            self._next = elapsed + 5
            speed = self._done / elapsed
            left = duration((self._most - self._done) / speed)
            with suppress(OSError, ValueError):
                write_line(f"{self._path}: {self._done} frames | {speed:.1f}/s | at most {left} left", sys.stderr)


def add_view(parser: argparse.ArgumentParser) -> None:
    """The options of ``view``."""
    add_policy(parser)
    add_environment(parser)
    parser.add_argument("--out", type=Path, help="the page, ending in .html (default: named after the environment)")
    add_value(parser, "--seed", Integer(0), default=0, help="of the episode (default: 0)")
    add_value(parser, "--max-steps", Integer(1), default=1000, help="steps of the episode at most (default: 1000)")
    parser.add_argument("--no-video", action="store_true", help="without the video, which takes longest")


def view(arguments: argparse.Namespace) -> None:
    """Write the page; print its path."""
    from ecpolicy.inspection import record_page

    policy = saved_policy(arguments.path)
    environment = environment_of(policy, arguments)
    out = arguments.out or Path(f"{str(getattr(environment, 'id', environment)).replace('/', '_')}.html")
    print(
        record_page(
            policy, environment, out, seed=arguments.seed, max_episode_steps=arguments.max_steps,
            video=not arguments.no_video, on_frame=_Frames(out, arguments.max_steps + 1),
        )
    )  # fmt: skip


def add_plot(parser: argparse.ArgumentParser) -> None:
    """The options of ``plot``."""
    several = "; several for the learning curve, which then has their spread"
    add_policy(parser, "paths", several, nargs="+")
    parser.add_argument("--kind", choices=PICTURES, default=PICTURES[0], help=f"(default: {PICTURES[0]})")
    parser.add_argument("--out", type=Path, help="the picture: .png, .pdf, .svg, ... (default: POLICY-KIND.png)")
    add_environment(parser)
    add_value(parser, "--seed", Integer(0), default=0, help="of the episode that is drawn (default: 0)")
    parser.add_argument("--y", default="best_deployed_return", help="what of the history the learning curve shows "
                        "(default: best_deployed_return)")  # fmt: skip
    add_value(parser, "--first-step", Integer(0), default=0, help="where raster and rates begin (default: 0)")
    add_value(parser, "--steps", Integer(1), default=60, help="environment steps in raster and rates (default: 60)")
    parser.add_argument("--order", choices=("rate", "degree", "cluster"), help="of the neurons in probabilities: by "
                        "their rate in an episode, by how many connections they have, or like beside like")  # fmt: skip
    parser.add_argument("--dark", action="store_true", help="on a dark background")
    add_value(parser, "--dpi", Integer(1, 2400), default=200, help="dots in an inch (default: 200)")


def _activity(policy: BasePolicy, arguments: argparse.Namespace) -> Activity:
    """The episode that was asked for."""
    arguments.path = arguments.paths[0]
    return record_activity(policy, environment_of(policy, arguments), seed=arguments.seed)


def plot(arguments: argparse.Namespace) -> None:
    """Draw, save, print the path."""
    from ecpolicy.optional import require

    require("matplotlib", "plot", extra="plot")
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    from ecpolicy import inspection

    mpl.use("Agg")
    policies = [saved_policy(path) for path in arguments.paths]
    if arguments.kind != "learning-curve" and len(policies) > 1:
        raise ValueError(f"{arguments.kind} is drawn of one policy, got {len(policies)}.")
    policy: BasePolicy = policies[0]
    display: Any
    with plt.style.context("dark_background" if arguments.dark else "default"):
        if arguments.kind == "learning-curve":
            display = inspection.LearningCurveDisplay.from_policy_run(policies, y=arguments.y)
        elif arguments.kind == "probabilities":
            order = _activity(policy, arguments).rates if arguments.order == "rate" else arguments.order
            display = inspection.ConnectionProbabilityDisplay.from_estimator(policy, order=order)
        else:
            activity = _activity(policy, arguments)
            kind = inspection.SpikeRasterDisplay if arguments.kind == "raster" else inspection.FiringRateDisplay
            display = kind.from_policy_run(activity, first_step=arguments.first_step, n_steps=arguments.steps)
        out = arguments.out or Path(f"{arguments.paths[0].stem.replace(':', '-')}-{arguments.kind}.png")
        display.figure_.savefig(destination(out), dpi=arguments.dpi)
        plt.close(display.figure_)
    print(out)
