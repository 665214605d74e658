"""The code of the documentation runs: Python page by page, commands as far as their options.

Fits end after two generations of few members, so that a page takes seconds; with ``ECPOLICY_DOCS=whole`` they are a
reader's. A block that says in a comment that it takes minutes or hours is compiled, and not run.
"""

import os
import re
import shlex
import warnings
from itertools import chain
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

import ecpolicy.cli
from ecpolicy.callbacks import Chain
from ecpolicy.policies.policy import BasePolicy

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "explanation").glob("*.md")])
LONG = re.compile(r"#.*\b(minutes|hours)\b")
WHOLE = os.environ.get("ECPOLICY_DOCS") == "whole"


def blocks(page, language):
    """The fenced blocks of a language, with the line that each begins at."""
    text = page.read_text()
    for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S):
        yield text[: found.start(1)].count("\n"), found[1]


def commands(page):
    """Lines of fenced and indented blocks that begin with ``ecpolicy`` or ``python``, continued ones joined."""
    code = chain((block for _, block in blocks(page, "bash")), re.findall(r"(?:^    .*\n)+", page.read_text(), re.M))
    lines = "\n".join(code).replace("\\\n", " ").splitlines()
    return [
        line.strip().removeprefix("PYTHONPATH=. ")
        for line in lines
        if re.match(r" *(PYTHONPATH=\. )?(\.venv/bin/)?(ecpolicy|python) ", line)
    ]


WITH_CODE = [page for page in PAGES if any(not LONG.search(code) for _, code in blocks(page, "python"))]
COMMANDS = sorted({line for page in [*PAGES, ROOT / "README.md"] for line in commands(page)})
OURS = [
    line for line in COMMANDS if re.match(r"(\.venv/bin/)?ecpolicy ", line) and not re.search("--(help|version)", line)
]


@pytest.fixture
def brief(monkeypatch):
    """Fits that end after two generations, of few members."""
    fit = BasePolicy.fit

    def stopped(self, environments, y=None, *, callbacks=None, **further):
        given = [] if callbacks is None else [callbacks] if callable(callbacks) else callbacks
        end = Chain(*given, lambda view: len(view.history_) >= 2)
        whole = getattr(self, "population_size", None)
        if whole is not None:
            self.population_size = min(whole, 16)
        try:
            return fit(self, environments, y, callbacks=end, **further)
        finally:
            if whole is not None:
                self.population_size = whole

    if not WHOLE:
        monkeypatch.setattr(BasePolicy, "fit", stopped)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_python_of_the_pages_runs(page, brief, tmp_path, monkeypatch):
    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small trainings, and of other packages
        for line, code in blocks(page, "python"):
            compiled = compile("\n" * line + code, str(page), "exec")
            if not LONG.search(code):
                exec(compiled, names)
    plt.close("all")


def test_blocks_that_are_too_long_to_run_can_be_compiled():
    long = [(page, code) for page in PAGES for _, code in blocks(page, "python") if LONG.search(code)]
    assert len(long) >= 5
    for page, code in long:
        compile(code, str(page), "exec")


@pytest.mark.parametrize("command", OURS)
def test_commands_have_options_that_there_are(command, monkeypatch):
    asked = []
    for name in ("train", "evaluate", "record", "view", "plot", "export", "info", "show_tuned", "show_pretrained"):
        monkeypatch.setattr(ecpolicy.cli, name, asked.append)
    assert ecpolicy.cli.main(shlex.split(command, comments=True)[1:]) == 0
    assert len(asked) == 1


def test_scripts_of_commands_are_there():
    words = {word for line in COMMANDS for word in shlex.split(line, comments=True)}
    scripts = {word for word in words if re.match(r"[a-z/]+/\w+\.py$", word)}
    assert len(scripts) > 10
    assert [script for script in scripts if not (ROOT / script).exists()] == []
