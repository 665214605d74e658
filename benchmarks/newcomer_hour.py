"""A newcomer's first hour: every command from a clone to one's own robot, its video, page and exports, timed.

The commands of the README come first. Each later one was printed by an earlier one, and runs as it stands; only the
budget of the training is given, and with --max-steps the length of the episodes that are filmed. With --here there is
no clone and no installing: commands are those of this environment.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPTIONS = {"steps": 300_000, "max_steps": 0, "here": False}
ROOT = Path(__file__).parent.parent


def rows(options):
    with tempfile.TemporaryDirectory() as folder:
        place, scripts = Path(folder), Path(sys.executable).parent
        if not options.here:
            yield {**timed(f"git clone {ROOT} clone", place), "printed by": None}
            place, scripts = place / "clone", Path(".venv") / "bin"
            for line in installing():
                yield {**timed(line, place), "printed by": "README"}
        waiting = [("ecpolicy pretrained", "README")]
        done = set()
        while waiting:
            command, told = waiting.pop(0)
            if command not in done:
                done.add(command)
                row = timed(with_sizes(command, options), place, scripts)
                waiting += [(line, command.split()[1]) for line in following(row.pop("said"))]
                yield {**row, "printed by": told}


def installing():
    """The lines of the README that install, but for the one that runs the tests."""
    lines = (line.strip() for line in (ROOT / "README.md").read_text().splitlines())
    return [line for line in lines if line.startswith("python3 -m venv") and "pytest" not in line]


def with_sizes(command, options):
    """A printed command with the budget of the training, and of the episodes that are filmed."""
    kind = command.split()[1]
    option, size = ("--max-env-steps", options.steps) if kind == "train" else ("--max-steps", options.max_steps)
    if kind not in ("train", "view", "record") or not size:
        return command
    return f"{re.sub(rf' {option} [0-9_]+', '', command)} {option} {size}"


def following(said):
    """The commands that another one printed as those that come next."""
    return re.findall(r"^  (ecpolicy .*)$", said.partition("next:\n")[2], re.M)


def timed(command, place, scripts=None):
    """Run a line in a shell; how long it takes, and what it said on standard error if that is asked for."""
    path = os.environ["PATH"] if scripts is None else f"{place / scripts}{os.pathsep}{os.environ['PATH']}"
    others = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    if scripts is None or not scripts.is_absolute():
        others.pop("PYTHONPATH", None)
    began, before = time.perf_counter(), os.times()
    ran = subprocess.run(command, shell=True, cwd=place, env={**others, "PATH": path}, capture_output=True, text=True)
    seconds, after = time.perf_counter() - began, os.times()
    if ran.returncode:
        sys.exit(f"{command} ended with status {ran.returncode}:\n{ran.stdout}{ran.stderr}")
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    row = {"command": command, "s": seconds, "s of CPU": cpu}
    return row if scripts is None else {**row, "said": ran.stderr}
