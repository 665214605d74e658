"""The documentation builds without a warning, and has every public name."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PUBLIC = ["ecpolicy", "ecpolicy.callbacks", "ecpolicy.distributions", "ecpolicy.inspection", "ecpolicy.networks"]
OWN = [
    "ecpolicy.connectome",
    "ecpolicy.across_seeds",
    "ecpolicy.anatomy",
    "ecpolicy.evolution",
    "ecpolicy.distributions",
    "ecpolicy.optimizers",
    "ecpolicy.fitness_shaping",
]  # modules whose public names are those that they define


BUILD = """
import functools
import os
import sys

from sphinx.cmd.build import main

from ecpolicy.policies.policy import BasePolicy

whole = BasePolicy.fit

@functools.wraps(whole)  # its documentation is built
def fit(self, *arguments, **further):
    self.score_threshold = 150.0
    return whole(self, *arguments, **further)

if os.environ.get("ECPOLICY_DOCS") != "whole":
    BasePolicy.fit = fit
sys.exit(main(sys.argv[1:]))
"""


def public_names():
    for module in PUBLIC:
        yield from ((module, name) for name in importlib.import_module(module).__all__ if not name.startswith("_"))
    for module in OWN:
        for name, value in vars(importlib.import_module(module)).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == module:
                yield module, name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as docs/conf.py says. Tutorials train half-way, with ``ECPOLICY_DOCS=whole`` to the end."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "docs"
    command = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "docs",
        "README.md",
        "examples",
        "ecpolicy",
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:  # the working tree stays as it is
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    result = subprocess.run(
        [sys.executable, "-c", BUILD, "-W", "--keep-going", "-q", str(source), str(folder / "html")],
        capture_output=True, text=True, check=False, env={**os.environ, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "html"


@pytest.mark.slow
def test_every_public_name_has_a_page(site):
    names = list(public_names())
    assert len(names) > 40
    for module, name in names:
        page = site / "generated" / f"{module}.{name}.html"
        assert page.exists(), f"{module}.{name} is missing in docs/reference.rst"
        assert f'id="{module}.{name}"' in page.read_text()


@pytest.mark.slow
def test_tutorials_were_run_and_have_their_pictures(site):
    for tutorial, pictures in (
        ("plot_1_first_policy", 3), ("plot_2_connectome", 2), ("plot_3_deploy", 1), ("plot_4_cell_types", 2),
    ):  # fmt: skip
        page = (site / "auto_tutorials" / f"{tutorial}.html").read_text()
        assert "sphx-glr-script-out" in page
        found = list((site / "_images").glob(f"sphx_glr_{tutorial}_0*.png"))
        assert len(found) == pictures
        (notebook,) = (site / "_downloads").glob(f"*/{tutorial}.ipynb")
        assert "%pip install" in json.loads(notebook.read_text())["cells"][0]["source"][0]


@pytest.mark.slow
def test_search_finds_environments_and_parameters(site):
    text = (site / "searchindex.js").read_text()
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    for word, page in (("hopper", "robots"), ("gain_in", "glossary"), ("checklist", "own_environment")):
        numbers = index["terms"].get(word, [])
        found = {*np.atleast_1d(numbers), *np.atleast_1d(index["titleterms"].get(word, []))}
        assert page in {index["docnames"][int(number)] for number in found}, word


def test_every_place_of_the_neuron_is_listed():
    tracked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    files = subprocess.run(tracked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    name = re.compile(r"\bdecay_m\b|\bDECAY_M\b|\bshift_m\b|exp\(-.*\btau_m\b")
    found = {file for file in files if not file.startswith("tests/") and name.search((ROOT / file).read_text())}
    page = (ROOT / "docs" / "explanation" / "neuron.md").read_text()
    assert set(re.findall(r"^\| `([^`]+\.py)` \|", page, re.M)) == found
