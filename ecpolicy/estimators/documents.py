"""What the files of all policies have in common: parameters, network, spaces, history; each part checked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from ecpolicy.described_spaces import space_from_json, space_to_json
from ecpolicy.estimators.parameters import NETWORKS, make_network
from ecpolicy.history import Columns, History
from ecpolicy.networks import Network
from ecpolicy.normalization import Standardizer
from ecpolicy.persistence import Arrays, ModelFileError, take
from ecpolicy.spaces import check_spaces, observation_size

MACHINE = {"n_jobs", "timeout", "verbose", "backend", "engine"}  # parameters that say nothing about the policy
MACHINE_KWARGS = {"device"}  # among ppo_kwargs, likewise
HISTORY = "history/"
LARGEST_SAMPLED = 2**32 - 1


def common_to_file(policy: Any, training_state: bool) -> tuple[dict[str, Any], Arrays]:
    """The part of document and arrays that every file of a fitted policy has."""
    given, arrays = _parameters_to_file(policy.get_params(deep=False))
    document = {
        "training_state": training_state,
        "parameters": given,
        "environments": list(policy.environments_),
        "observation_space": space_to_json(policy.observation_space_),
        "action_space": space_to_json(policy.action_space_),
        "seed": policy.seed_,
        "n_sampled": policy._n_sampled % (LARGEST_SAMPLED + 1),
        "stop_reason": getattr(policy, "stop_reason_", None),
    }
    history = policy.history_ if isinstance(policy.history_, History) else History(policy.history_)
    if not training_state:
        history = History(history[-1:])
    return document, arrays | {f"{HISTORY}{name}": column for name, column in history.columns.items()}


def restore_common(policy: Any, document: Mapping[str, Any], arrays: Arrays) -> tuple[str, ...]:
    """Set the fitted attributes that every file holds; the names of the environments."""
    policy.observation_space_ = space_from_json(document["observation_space"])
    policy.action_space_ = space_from_json(document["action_space"])
    check_spaces(policy.observation_space_, policy.action_space_)
    policy.n_features_in_ = observation_size(policy.observation_space_)
    policy.seed_ = count(document, "seed", 2**64 - 1)
    policy._n_sampled = count(document, "n_sampled", LARGEST_SAMPLED)
    policy.stop_reason_ = document["stop_reason"]
    if not isinstance(policy.stop_reason_, str | None):
        raise ModelFileError(f"its stop_reason is {policy.stop_reason_!r}")
    policy.history_, policy.notes_, policy.engine_ = _history(arrays), [], None
    names = document["environments"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelFileError(f"its environments are {names!r}")
    return tuple(names)


def _history(arrays: Arrays) -> History:
    columns: Columns = {name[len(HISTORY) :]: part for name, part in arrays.items() if name.startswith(HISTORY)}
    for name, column in columns.items():
        if not name.isprintable() or column.dtype not in (np.int64, np.float64) or column.ndim != 1:
            raise ModelFileError(f"the column {name!r} of its history is {column.dtype} {column.shape}")
    if len({column.size for column in columns.values()}) > 1:
        raise ModelFileError("the columns of its history differ in length")
    return History.of_columns(columns)


def _parameters_to_file(given: Mapping[str, Any]) -> tuple[dict[str, Any], Arrays]:
    """The constructor parameters, apart from those of the machine; of a prior, arrays stand apart."""
    kept, arrays = _apart_from_machine(given), {}
    if isinstance(kept.get("initial_probability"), Mapping):
        prior = {name: np.asarray(p, np.float32) for name, p in kept["initial_probability"].items()}
        arrays = {f"prior/{name}": p for name, p in prior.items() if p.ndim}
        kept["initial_probability"] = {name: None if p.ndim else float(p) for name, p in prior.items()}
    return {name: to_json(name, value) for name, value in kept.items()}, arrays


def parameters(document: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The constructor parameters of a document; those that it lacks are left to their defaults.

    Raises
    ------
    ModelFileError
        Where one is unknown.
    """
    given = document["parameters"]
    if not isinstance(given, dict):
        raise ModelFileError(f"its parameters are {given!r}.")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ModelFileError(f"its parameters {unknown} are unknown to this release.")
    return _apart_from_machine(given)


def _apart_from_machine(given: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in given.items() if name not in MACHINE}
    if isinstance(kept.get("ppo_kwargs"), dict):
        kept["ppo_kwargs"] = {name: v for name, v in kept["ppo_kwargs"].items() if name not in MACHINE_KWARGS}
    return kept


def network_to_json(network: Any) -> dict[str, Any]:
    """A network of the library by its kind and settings; another one by the name of its class alone."""
    for kind, make in NETWORKS.items():
        if type(network) is make:
            checked: Any = make_network(kind, asdict(network))
            return {"kind": kind, **asdict(checked)}
    return {"own": f"{type(network).__module__}.{type(network).__qualname__}"}


def network_from_json(description: Any, own: Network | None) -> Network:
    """The network that was trained. No class is looked up by its name: what is not the library's must be given."""
    if not isinstance(description, dict):
        raise ModelFileError(f"its network is {description!r}")
    if "own" in description:
        if own is None:
            raise ModelFileError(
                f"it was trained with the network {description['own']!r}: give it, load(path, network=...)"
            )
        return own
    settings = dict(description)
    kind = settings.pop("kind", None)
    if kind not in NETWORKS:
        raise ModelFileError(f"its network is of the unknown kind {kind!r}")
    unknown = sorted(set(settings) - {field.name for field in fields(NETWORKS[kind])})
    if unknown or "n_neurons" not in settings:
        raise ModelFileError(f"its network has unknown settings {unknown}" if unknown else "its network has no size")
    return make_network(kind, settings)


def standardizer_to_file(standardizer: Standardizer) -> tuple[dict[str, Any], Arrays]:
    """How observations enter the deployed network."""
    mean, inverse_std, clip = standardizer
    return {"clip": float(clip)}, {"observations/mean": mean, "observations/inverse_std": inverse_std}


def standardizer_from_file(document: Mapping[str, Any], arrays: Arrays, obs_size: int) -> Standardizer:
    """How observations enter the deployed network."""
    large = float(np.finfo(np.float64).max)
    mean = take(arrays, "observations/mean", "<f8", (obs_size,), -large, large)
    inverse_std = take(arrays, "observations/inverse_std", "<f8", (obs_size,), 0.0, large)
    return Standardizer(mean, inverse_std, number(document, "clip", 0.0))


def count(document: Mapping[str, Any], name: str, high: float = 2**63) -> int:
    """An integer of a document, from 0 to ``high``; raises ModelFileError otherwise."""
    value = document[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
        raise ModelFileError(f"its {name} is {value!r}.")
    return value


def number(document: Mapping[str, Any], name: str, low: float = -np.inf) -> float:
    """A finite number of a document, at least ``low``; raises ModelFileError otherwise."""
    value = document[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value) or value < low:
        raise ModelFileError(f"its {name} is {value!r}")
    return float(value)


def to_json(name: str, value: Any) -> Any:
    """A parameter as JSON has it; a generator given as random_state is not kept, the seed drawn from it is."""
    if value is None or isinstance(value, str | bool | np.bool_):
        return value if not isinstance(value, np.bool_) else bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Sequence):
        return [to_json(name, part) for part in value]
    if name == "random_state":
        return None
    if name == "network":
        return network_to_json(value)
    if isinstance(value, dict):
        return {key: to_json(key, part) for key, part in value.items()}
    raise TypeError(f"The parameter {name}={value!r} cannot be saved.")
