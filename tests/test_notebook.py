"""The notebook of the examples runs from top to bottom, and holds no output."""

import json
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

NOTEBOOK = json.loads((Path(__file__).parent.parent / "examples" / "ecpolicy.ipynb").read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
INSTALL = [cell for cell in CODE if "install" in cell["metadata"].get("tags", [])]


def test_it_is_a_notebook_without_output():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    assert CODE[:1] == INSTALL
    assert INSTALL[0]["source"][0].startswith('%pip install -q "ecpolicy[tools]"')


@pytest.mark.slow
def test_its_cells_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    names = {"__name__": "notebook"}
    for cell in CODE[1:]:
        *rest, last = cell["source"]
        exec("".join(rest), names)
        try:
            shown = eval(last, names)  # a notebook shows the value of a last expression
        except SyntaxError:
            exec("".join(cell["source"]), names)
    plt.close("all")
    assert names["score"] >= 475
    assert names["recurrent"].shape == (256, 256)
    assert len(names["raster"].figure_.axes) == 3
    assert "srcdoc" in shown._repr_html_()
    assert len(shown._repr_html_()) > 300_000
    assert "mean return over 100 fresh episodes" in capsys.readouterr().out
