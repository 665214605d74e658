"""Reading files of earlier format versions: each version's document and arrays are turned into the next one's."""

from collections.abc import Callable

import numpy as np

from ecpolicy.files.archive import VERSION, Arrays, Document, ModelFileError
from ecpolicy.history import History
from ecpolicy.networks import NETWORKS

HISTORY = "history/"
SETTINGS = (  # of networks, once parameters
    "n_neurons", "excitatory_ratio", "step_ms", "dt", "tau_syn", "tau_m", "tau_out", "gain_in", "gain_recurrent",
    "gain_out", "density",
)  # fmt: skip
GONE = (*SETTINGS, "n_starts", "start_env_steps", "fitness_shaping", "max_grad_norm")
MEASURES = ("deployed_length", "deployed_x_velocity", "deployed_x_position")  # that older histories may lack
PPO = "SurrogateGradientPPOPolicy"

Content = tuple[Document, Arrays]


def up_to_date(document: Document, arrays: Arrays) -> Content:
    """A document and arrays of any version as this version has them."""
    for version in range(document["version"], VERSION):
        document, arrays = MIGRATIONS[version](document, arrays)
    return document, arrays


def _history_as_columns(document: Document, arrays: Arrays) -> Content:
    """To version 2: the history was a list of records in the document, and some files did not say n_sampled."""
    records = document.pop("history")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ModelFileError("its history is not a list of records")
    history = History({**record, **{name: record.get(name) for name in MEASURES}} for record in records)
    columns = {f"{HISTORY}{name}": column for name, column in history.columns.items()}
    if document["class"] == PPO:  # whose networks are of one kind
        document["network"] = {"kind": "real-rsnn", **document["network"]}
    return {"n_sampled": 0, "training_state": True, **document}, {**arrays, **columns}


def _trees(d: Document, arrays: Arrays) -> Content:
    """To version 3: what a training has was spread over the document, and a search could be one of several starts.

    A search between its starts goes on with the one under way. The network's settings were parameters beside its name.
    """
    of_ppo = d["class"] == PPO
    d["parameters"] = translated(d["parameters"], d["class"])
    if not d["training_state"]:
        steps, rule = ("update", "") if of_ppo else ("generation", "adamw" if d["class"] == "ESPolicy" else "adam")
        own = ("critic", "feedforward") if of_ppo else ("optimizer", rule)
        d["setting"] = {
            own[0]: d["parameters"].get(*own),
            "normalize_observations": True,
            "observation_clip": d["clip"],
        }
        shown = {f"n_{steps}s_": steps, f"deployed_{steps}_": f"deployed_{steps}", "n_env_steps_": "n_env_steps"}
        shown = {name: d[before] for name, before in shown.items()}
        d["deployed"] = {"connections": {}, "standardizer": {"clip": d["clip"]}, "shown": shown}
        return d, _moved(arrays, {"observations/": "standardizer/", "log_std": "shown/log_std_"})
    best = d["best"]
    observed = {"n": best["n_observations"]} if best else {}
    training = {name: d[name] for name in ("n_env_steps", "n_evaluation_steps", "solved_at")}
    if of_ppo:
        d["training"] = training | {
            **{name: {} for name in ("policy", "first", "second")},
            **{name: d[name] for name in ("gradient_steps", "update")},
            "observations": {"n": d["n_observations"]},
            "returns": {"n": d["returns"]["n"]},
            "best": best
            and {"weights": {}, "observations": observed, "score": best["score"], "update": best["update"]},
        }
        return d, arrays | {f"returns/{name}": np.array(float(d["returns"][name])) for name in ("mean", "var")}
    moments: Document = {} if d["setting"]["optimizer"] == "sgd" else {"first": {}, "second": {}}
    kept = {name: best.get(name) for name in ("score", "generation", "episodes")} if best else {}
    d["training"] = training | {
        "search": {
            "generation": d["generation"],
            "parameters": {},
            "optimizer": {"updates": d["updates"], **moments},
            "moments": {"n": d["n_observations"]},
        },
        "best": best and {"parameters": {}, "moments": observed, **kept},
    }
    found = {name: part for name, part in arrays.items() if not name.startswith("start/")}
    places = {"search/observations/": "search/moments/", "best/observations/": "best/moments/"}
    return d, _moved(found, {**places, "optimizer/": "search/optimizer/"})


def translated(given: Document, kind: str) -> Document:
    """Parameters of version 2: the network becomes a value, and those that are gone are left out."""
    kept = {name: value for name, value in given.items() if name not in GONE}
    named = kept.get("network", "rsnn")
    if named in ("rsnn", "gru", "lstm"):
        word = "real-rsnn" if named == "rsnn" and kind != "EvolvingConnectivityPolicy" else named
        table = NETWORKS[word].table
        settings = {name: given[name] for name in table if name in SETTINGS and given.get(name) is not None}
        kept["network"] = {"kind": word, "n_neurons": table["n_neurons"].default, **settings}
    elif kind == "ESPolicy" and isinstance(named, dict) and named.get("kind") == "real-rsnn":
        for name, value in (("sigma", 0.02), ("learning_rate", 0.01)):  # what None was for a network given as an object
            kept[name] = value if kept.get(name) is None else kept[name]
    if given.get("max_grad_norm", 0.5) != 0.5:
        kept["ppo_kwargs"] = {"max_grad_norm": given["max_grad_norm"], **(kept.get("ppo_kwargs") or {})}
    return kept


def _moved(arrays: Arrays, places: dict[str, str]) -> Arrays:
    """The arrays, those whose names begin so under names that begin otherwise."""
    found = dict(arrays)
    for name in arrays:
        for before, after in places.items():
            if name.startswith(before):
                found[after + name[len(before) :]] = found.pop(name)
    return found


MIGRATIONS: dict[int, Callable[[Document, Arrays], Content]] = {1: _history_as_columns, 2: _trees}
