"""The golden set: fits learn what they learnt when they were recorded, bit for bit."""

import json

import pytest

from golden_fits import FITS, RECORDED, run


@pytest.mark.parametrize("name", FITS)
def test_a_fit_learns_what_was_recorded(name):
    assert run(name) == json.loads(RECORDED.read_text())[name]


def test_every_recorded_fit_is_there():
    assert list(json.loads(RECORDED.read_text())) == list(FITS)
