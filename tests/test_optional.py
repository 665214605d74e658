"""Optional packages that are missing: what to type, for an index, a clone and a wheel."""

import importlib.metadata
import json

import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.optional import require


class Distribution:
    def __init__(self, text):
        self._text = text

    def read_text(self, name):
        return self._text if name == "direct_url.json" else None


@pytest.mark.parametrize("kind", ["clone", "wheel", "gone", "index", "nothing"])
def test_the_message_has_what_pip_was_given(kind, tmp_path, monkeypatch):
    origin = tmp_path / {"wheel": "ecpolicy 1.whl"}.get(kind, "clone")
    if kind in ("clone", "wheel"):
        origin.touch()
    text = None if kind == "index" else json.dumps({"url": origin.as_uri()})

    def distribution(name):
        if kind == "nothing":
            raise importlib.metadata.PackageNotFoundError(name)
        return Distribution(text)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    wanted = str(origin) if kind in ("clone", "wheel") else "ecpolicy"
    with pytest.raises(ImportError) as raised:
        require("no_such_package", "to_nir", extra="nir")
    assert str(raised.value).startswith("to_nir needs no_such_package, which cannot be imported (")
    assert str(raised.value).endswith(f'Install it: pip install "{wanted}[nir]".')


def test_the_words_of_scikit_learn_are_those_that_the_guide_explains():
    policy = EvolvingConnectivityPolicy()
    with pytest.raises(ValueError, match="The 'X' parameter of cross_val_score must be an array-like"):
        cross_val_score(policy, "CartPole-v1")
    with pytest.raises(ValueError, match="could not convert string to float"):
        make_pipeline(StandardScaler(), policy).fit("CartPole-v1")
