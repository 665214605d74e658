"""The command line: train, evaluate, record, view, plot, export, info, tuned, pretrained.

Exit status: 0 where all went well, 1 where something failed at work, 2 where the command asks for what there is not or
for what cannot be, 130 where Ctrl-C ended it. What was asked for goes to standard output, the reason of a failure and
progress to standard error.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from traceback import walk_tb
from typing import Any

import gymnasium as gym

import ecpolicy
from ecpolicy.callbacks.writing import write_line
from ecpolicy.cli.parsing import Parser
from ecpolicy.cli.pictures import add_plot, add_record, add_view, plot, record, view
from ecpolicy.cli.saved import add_evaluate, add_export, evaluate, export, info, show_pretrained, show_tuned
from ecpolicy.cli.settings import add_policy, spoken
from ecpolicy.cli.training import TRAIN_EXAMPLES, add_train, train

WRONG = (  # the command asks for what there is not, or for what cannot be
    ValueError, TypeError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError,
    gym.error.Error,
)  # fmt: skip
FAILURES = (*WRONG, OSError, ImportError, RuntimeError, ArithmeticError, MemoryError)

EXAMPLES = """\
begin here:
  ecpolicy train CartPole-v1 --seed 0                  train a policy, in seconds: it is saved as CartPole-v1.ecp
  ecpolicy record CartPole-v1.ecp cartpole.mp4         see what it does
  ecpolicy record pretrained:Hopper-v5 pretrained.mp4  see a robot that comes with the package

more examples:
  ecpolicy train Hopper-v5 --max-env-steps 5_000_000 --n-jobs 2 --out hopper.ecp --resume
  ecpolicy evaluate hopper.ecp --episodes 100 --json
  ecpolicy record hopper.ecp hopper.mp4
  ecpolicy record hopper.ecp hopper.npz --episodes 100
  ecpolicy view hopper.ecp --out hopper.html
  ecpolicy plot hopper.ecp --kind raster --out raster.png
  ecpolicy export hopper.ecp policy.nir
  ecpolicy info hopper.ecp
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(given)
    parsed, surplus = parser.parse_known_args(given)
    if "run" not in parsed:
        parser.print_help()
        return 0
    if surplus:
        parsed.parser.error(f"There is no place for {' '.join(surplus)}.")
    parsed.given = given
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            parsed.run(parsed)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is to be told here, and not when Python ends
    except Exception as error:
        _give_up_output()
        if parsed.debug:
            raise
        _tell(f"{parsed.parser.prog}: error: {_reason(error)}")
        return 2 if isinstance(error, WRONG) and not _of_an_environment(error) else 1
    except KeyboardInterrupt:
        return 130
    return 130 if getattr(parsed, "interrupted", False) else 0


def _of_an_environment(error: Exception) -> bool:
    """Whether an environment raised it while it was played."""
    return any(frame.f_code.co_name in ("reset", "step") for frame, _ in walk_tb(error.__traceback__))


def _reason(error: Exception) -> str:
    """What an error says, on one line and in the words of the command line."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:  # without its number
        said = f"{error.filename}: {error.strerror}." if error.filename else error.strerror
    if not isinstance(error, FAILURES):
        said = f"{type(error).__name__}: {said} (--debug shows where it came from)"
    return spoken(" ".join(said.split()))


def _show_warning(message: Warning | str, *_: object) -> None:
    _tell(f"ecpolicy: warning: {spoken(str(message))}")


def _tell(line: str) -> None:
    """Print a line to standard error; where that cannot be written to, nobody can be told."""
    with suppress(OSError, ValueError):
        write_line(line, sys.stderr)


def _give_up_output() -> None:
    """Write what standard output still holds, or drop it: Python would try again when it ends, and fail again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _parser(given: Sequence[str]) -> Parser:
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where in the code an error came from")
    parser = Parser(
        prog="ecpolicy", description="Policies with 1-bit recurrent spiking networks, trained without gradients.",
        epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"ecpolicy {ecpolicy.__version__}")
    commands = parser.add_subparsers(metavar="command")
    parser.commands = commands.choices

    def command(name: str, run: Callable[[argparse.Namespace], None], about: str, **further: Any) -> Parser:
        added = commands.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}.", parents=[common], **further
        )
        added.set_defaults(run=run, parser=added)
        return added

    usage = "ecpolicy train [options] environment"
    add_train(command("train", train, "train a policy", usage=usage, epilog=TRAIN_EXAMPLES), given)
    add_evaluate(command("evaluate", evaluate, "play fresh episodes with a saved policy and report its returns"))
    add_record(command("record", record, "write a video of a saved policy, or its episodes as arrays"))
    add_view(command("view", view, "write a page that plays an episode: video, spikes, actions, rewards and wiring"))
    add_plot(command("plot", plot, "draw learning curves, spikes, rates or connection probabilities"))
    add_export(command("export", export, "write the deployed network as NIR, C, SONATA or Verilog"))
    described = command("info", info, "describe a saved policy")
    add_policy(described)
    described.add_argument("--json", action="store_true", help="print one JSON object")
    listed = command("tuned", show_tuned, "show the settings that were found for an environment")
    listed.add_argument("environment", nargs="?", help="an environment id; all of them without")
    listed.add_argument("--json", action="store_true", help="print one JSON object")
    shown = command("pretrained", show_pretrained, "show the policies that come with the package, and what they earn")
    shown.add_argument("environment", nargs="?", help="an environment id; all of them without")
    shown.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
