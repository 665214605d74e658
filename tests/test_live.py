"""The live view of a training, and the measures of the search that it shows."""

import io
import math
import re

import numpy as np
import pytest

from ecpolicy import ESPolicy, EvolvingConnectivityPolicy
from ecpolicy.callbacks import Live
from ecpolicy.callbacks.live import curve
from ecpolicy.networks import RSNN, RealRSNN
from learnt import fingerprint
from probes import Match

SMALL = {"population_size": 8, "n_generations": 6, "eval_episodes": 1, "confirm_episodes": 1, "random_state": 0}


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self._encoding = encoding

    encoding = property(lambda self: self._encoding)

    def isatty(self):
        return True

    @property
    def panels(self):
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        return plain.split("╭")[1:]


@pytest.fixture(autouse=True)
def capable(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_a_terminal_gets_one_panel_a_generation():
    stream = Terminal()
    policy = EvolvingConnectivityPolicy(network=RSNN(8), **SMALL).fit(Match, callbacks=Live(stream=stream))
    shown = [panel for panel in stream.panels if "population" in panel]
    assert [int(re.search(r"generation (\d+)", panel)[1]) for panel in shown][:6] == [1, 2, 3, 4, 5, 6]
    for panel, record in zip(shown, policy.history_, strict=False):
        for text in (
            f"{record['return_mean']:.2f} ± {record['return_std']:.2f}",
            f"{record['n_env_steps']:,}, ",
            f"{record['entropy']:.3f} bits per connection",
            f"{record['flips']:,} connections",
            f"environments {record['environment_share']:.0%}, networks {record['network_share']:.0%}, update ",
        ):
            assert text in panel
    assert "done" in shown[-1]
    assert stream.getvalue().rstrip("\n").endswith("\x1b[?25h")  # the cursor is there again
    assert fingerprint(policy) == fingerprint(EvolvingConnectivityPolicy(network=RSNN(8), **SMALL).fit(Match))


def test_real_weights_have_no_flips():
    stream = Terminal()
    ESPolicy(network=RealRSNN(8), **SMALL).fit(Match, callbacks=Live(every=3, stream=stream))
    assert "population" in stream.panels[-1]
    assert "flips" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal("ascii")])
def test_without_a_terminal_that_can_draw_there_are_lines(stream):
    EvolvingConnectivityPolicy(network=RSNN(8), **SMALL).fit(Match, callbacks=Live(stream=stream))
    assert [line.split()[:2] for line in stream.getvalue().splitlines()] == [
        ["generation", f"{n}/6"] for n in range(1, 7)
    ]


def test_a_terminal_that_breaks_does_not_end_the_training():
    class Broken(Terminal):
        def write(self, text):
            raise OSError("gone")

    with pytest.warns(RuntimeWarning, match="could not be written: OSError: gone"):
        policy = EvolvingConnectivityPolicy(network=RSNN(8), **SMALL).fit(Match, callbacks=Live(stream=Broken()))
    assert policy.n_generations_ == 6


def test_measures_of_the_search_are_those_of_its_probabilities():
    policy = EvolvingConnectivityPolicy(network=RSNN(8), **SMALL)
    seen = []
    policy.fit(Match, callbacks=lambda view: seen.append(view.search_probabilities_) and None)
    for before, after, record in zip(seen, seen[1:], policy.history_[1:], strict=False):
        flat = np.concatenate([p.ravel() for p in after.values()]).astype(np.float64)
        bits = [-p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in flat]
        assert record["entropy"] == pytest.approx(np.mean(bits), rel=1e-6)
        assert record["flips"] == sum(int(((before[name] > 0.5) != (after[name] > 0.5)).sum()) for name in after)
    assert 0 < policy.history_[-1]["entropy"] < policy.history_[0]["entropy"] <= 1


def test_curves():
    assert curve([1.0, 1.0], 60) == "▁▁"
    assert curve([0.0, 7.0, 3.5], 60) == "▁█▅"
    assert curve(list(np.repeat([0.0, 1.0], 300)), 2) == "▁█"
