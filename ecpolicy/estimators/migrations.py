"""Reading files of earlier format versions: each version's document and arrays are turned into the next one's."""

from collections.abc import Callable
from typing import Any

from ecpolicy.estimators.documents import HISTORY
from ecpolicy.history import History
from ecpolicy.persistence import VERSION, Arrays, ModelFileError

MEASURES = ("deployed_length", "deployed_x_velocity", "deployed_x_position")  # that older histories may lack


def up_to_date(document: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """A document and arrays of any version as this version has them."""
    for version in range(document["version"], VERSION):
        document, arrays = MIGRATIONS[version](document, arrays)
    return document, arrays


def _history_as_columns(document: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """To version 2: the history was a list of records in the document, and some files did not say n_sampled."""
    records = document.pop("history")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ModelFileError("its history is not a list of records")
    history = History({**record, **{name: record.get(name) for name in MEASURES}} for record in records)
    columns = {f"{HISTORY}{name}": column for name, column in history.columns.items()}
    if document["class"] == "SurrogateGradientPPOPolicy":  # whose networks are of one kind
        document["network"] = {"kind": "real-rsnn", **document["network"]}
    return {"n_sampled": 0, "training_state": True, **document}, {**arrays, **columns}


MIGRATIONS: dict[int, Callable[[dict[str, Any], Arrays], tuple[dict[str, Any], Arrays]]] = {1: _history_as_columns}
