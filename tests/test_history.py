"""History: a sequence of dict in columns, of which earlier views stay as they are."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.history import History, appended
from probes import Match


def record(i):
    return {"generation": i + 1, "return_mean": i / 4, "velocity": None if i % 3 else 0.5}


RECORDS = [record(i) for i in range(100)]


@pytest.fixture
def views():
    """Histories of 0, 1, ... records, each made of the one before."""
    made = [History()]
    for row in RECORDS:
        made.append(appended(made[-1], row))
    return made


def test_earlier_views_stay_as_they_are(views):
    for n, view in enumerate(views):
        assert len(view) == n
        assert view == RECORDS[:n]
    for name, column in views[50].columns.items():
        assert column.base is views[51].columns[name].base  # nothing is copied
        assert not column.flags.writeable


def test_it_is_a_sequence_of_dict(views):
    history = views[-1]
    assert history[0] == RECORDS[0]
    assert history[-1] == history[np.int64(99)] == RECORDS[-1]
    assert type(history[-1]) is dict
    assert type(history[-1]["generation"]) is int
    assert type(history[-1]["return_mean"]) is float
    assert history[-5:] == RECORDS[-5:]
    assert history[10:2:-3] == RECORDS[10:2:-3]
    assert list(history) == RECORDS
    assert history == History(RECORDS)
    assert history != RECORDS[1:]
    assert history != "x" * 100
    assert RECORDS[3] in history
    assert json.loads(json.dumps(list(history))) == RECORDS
    assert repr(views[1]) == f"History({RECORDS[:1]!r})"
    assert "of 100 records" in repr(history)
    for beyond in (100, -101):
        with pytest.raises(IndexError, match="history_ has 100 records"):
            history[beyond]


def test_two_go_on_from_one(views):
    one, other = (appended(views[50], {**record(50), "return_mean": value}) for value in (1.5, 2.5))
    assert (one[-1]["return_mean"], other[-1]["return_mean"]) == (1.5, 2.5)
    assert views[51] == RECORDS[:51]
    assert one[:-1] == other[:-1] == RECORDS[:50]


def test_many_threads_go_on_from_one(views):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: appended(views[-1], record(1000 + i)), range(200)))
    assert [history[-1]["generation"] for history in made] == list(range(1001, 1201))


def test_copies_are_independent(views):
    for made in (pickle.loads(pickle.dumps(views[7])), copy.deepcopy(views[7]), copy.copy(views[7])):
        assert made == RECORDS[:7]
        assert appended(made, record(7)) == RECORDS[:8]
    assert len(pickle.dumps(views[7])) < len(pickle.dumps(views[-1]))  # without what came later


def test_columns_change_their_kind_and_number():
    history = History([{"a": 1}])
    assert history.columns["a"].dtype == np.int64
    for row, dtype in (({"a": 2}, np.int64), ({"a": None}, np.float64), ({"a": 3}, np.float64)):
        history = history.appended(row)
        assert history.columns["a"].dtype == dtype
    assert history.appended({"a": 4, "b": 1})[:] == [
        {"a": 1, "b": None}, {"a": 2, "b": None}, {"a": None, "b": None}, {"a": 3, "b": None}, {"a": 4, "b": 1}
    ]  # fmt: skip


def test_what_columns_cannot_hold_makes_it_a_list():
    for row in ({"a": "x"}, {"a": 2**64 + 1}):
        history = appended(History([{"a": 1}]), row)
        assert history == [{"a": 1}, row]
        assert appended(history, {"a": 2}) == [{"a": 1}, row, {"a": 2}]


def test_it_is_a_table(views):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(views[-1])
    assert list(table.columns) == list(RECORDS[0])
    assert table["return_mean"].tolist() == [row["return_mean"] for row in RECORDS]


def test_a_fit_makes_one_and_callbacks_cannot_change_it(small):
    seen = []

    def look(view):
        seen.append(view.history_)
        with pytest.raises(TypeError):
            view.history_[-1]["return_mean"] = 1e9

    policy = EvolvingConnectivityPolicy(**small).fit(Match, callbacks=look)
    assert isinstance(policy.history_, History)
    assert [len(history) for history in seen] == [1, 2, 3, 4]
    assert seen[1] == policy.history_[:2]
