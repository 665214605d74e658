"""Reading files of earlier format versions: each version's document and arrays are turned into the next one's."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ecpolicy.files.archive import VERSION, Arrays, ModelFileError
from ecpolicy.history import History

HISTORY = "history/"
MEASURES = ("deployed_length", "deployed_x_velocity", "deployed_x_position")  # that older histories may lack
PPO = "SurrogateGradientPPOPolicy"

# Version 3 names arrays by their place in the tree that they are part of.
MOVED = {
    "search/observations/": "search/moments/", "best/observations/": "best/moments/",
    "optimizer/": "search/optimizer/",
}  # fmt: skip
MOVED_ALONE = {"observations/": "standardizer/", "log_std": "shown/log_std_"}

Content = tuple[dict[str, Any], Arrays]


def up_to_date(document: dict[str, Any], arrays: Arrays) -> Content:
    """A document and arrays of any version as this version has them."""
    for version in range(document["version"], VERSION):
        document, arrays = MIGRATIONS[version](document, arrays)
    return document, arrays


def _history_as_columns(document: dict[str, Any], arrays: Arrays) -> Content:
    """To version 2: the history was a list of records in the document, and some files did not say n_sampled."""
    records = document.pop("history")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ModelFileError("its history is not a list of records")
    history = History({**record, **{name: record.get(name) for name in MEASURES}} for record in records)
    columns = {f"{HISTORY}{name}": column for name, column in history.columns.items()}
    if document["class"] == PPO:  # whose networks are of one kind
        document["network"] = {"kind": "real-rsnn", **document["network"]}
    return {"n_sampled": 0, "training_state": True, **document}, {**arrays, **columns}


def _trees(document: dict[str, Any], arrays: Arrays) -> Content:
    """To version 3: what a training has was spread over the document, and a search could be one of several starts.

    A search between its starts goes on with the one under way.
    """
    d, of_ppo = document, document["class"] == PPO
    for name in ("n_starts", "start_env_steps"):
        d["parameters"].pop(name, None)
    steps = "update" if of_ppo else "generation"
    if d["training_state"]:
        d["training"] = (_training_of_ppo if of_ppo else _training)(d)
        moved = {} if of_ppo else MOVED
        if of_ppo:
            arrays |= {f"returns/{name}": np.array(float(d["returns"][name])) for name in ("mean", "var")}
    else:
        rule = "adamw" if d["class"] == "ESPolicy" else d["parameters"].get("optimizer", "adam")
        own = {"critic": d["parameters"].get("critic", "feedforward")} if of_ppo else {"optimizer": rule}
        d["setting"] = {"normalize_observations": True, "observation_clip": d["clip"], **own}
        shown = {f"n_{steps}s_": d[steps], f"deployed_{steps}_": d[f"deployed_{steps}"]}
        shown["n_env_steps_"] = d["n_env_steps"]
        d["deployed"] = {"connections": {}, "standardizer": {"clip": d["clip"]}, "shown": shown}
        moved = MOVED_ALONE
    return d, {_moved(name, moved): part for name, part in arrays.items() if not name.startswith("start/")}


def _training(d: dict[str, Any]) -> dict[str, Any]:
    best = d["best"]
    moments: dict[str, Any] = {} if d["setting"]["optimizer"] == "sgd" else {"first": {}, "second": {}}
    return {
        "search": {
            "generation": d["generation"],
            "parameters": {},
            "optimizer": {"updates": d["updates"], **moments},
            "moments": {"n": d["n_observations"]},
        },
        "best": best and {
            "parameters": {},
            "moments": {"n": best["n_observations"]},
            "score": best["score"],
            "generation": best["generation"],
            "episodes": best.get("episodes"),
        },
        **{name: d[name] for name in ("n_env_steps", "n_evaluation_steps", "solved_at")},
    }  # fmt: skip


def _training_of_ppo(d: dict[str, Any]) -> dict[str, Any]:
    best, counted = d["best"], ("gradient_steps", "update", "n_env_steps", "n_evaluation_steps", "solved_at")
    return {
        **{name: {} for name in ("policy", "first", "second")},
        "observations": {"n": d["n_observations"]},
        "returns": {"n": d["returns"]["n"]},
        "best": best and {
            "weights": {},
            "observations": {"n": best["n_observations"]},
            "score": best["score"],
            "update": best["update"],
        },
        **{name: d[name] for name in counted},
    }  # fmt: skip


def _moved(name: str, moved: dict[str, str]) -> str:
    for before, after in moved.items():
        if name.startswith(before):
            return after + name[len(before) :]
    return name


MIGRATIONS: dict[int, Callable[[dict[str, Any], Arrays], Content]] = {1: _history_as_columns, 2: _trees}
