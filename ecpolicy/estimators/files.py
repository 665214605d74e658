"""What a policy's file holds, and how a policy is put together from it: every part checked."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from ecpolicy.described_spaces import space_from_json, space_to_json
from ecpolicy.distributions import Parameters
from ecpolicy.estimators.evolving import Run, deploy
from ecpolicy.estimators.judging import DEPLOYED_MEASURES
from ecpolicy.estimators.parameters import NETWORKS, check_choice, check_flag, check_number, make_network
from ecpolicy.estimators.starts import Starts
from ecpolicy.estimators.training import Deployed, Record, Setting, Training
from ecpolicy.evolution import State
from ecpolicy.networks import Network, Shape
from ecpolicy.normalization import Moments
from ecpolicy.optimizers import OptimizerState
from ecpolicy.persistence import Arrays, ModelFileError, take
from ecpolicy.spaces import action_outputs, check_spaces, observation_size

RULES = ("adam", "adamw", "sgd")
LARGE = float(np.finfo(np.float32).max)


def to_file(policy: Any) -> tuple[dict[str, Any], Arrays]:
    """The JSON document and the arrays of a fitted policy."""
    training: Training = policy._training
    search, best, starts = training.search, training.best, training.starts
    arrays: Arrays = {}
    _add_search(arrays, "search", "optimizer", search)
    if starts.best is not None:
        _add_search(arrays, "start", "start/optimizer", starts.best)
    if best is not None:
        _add_network(arrays, "best", best.parameters, best.moments)
    given = policy.get_params(deep=False)
    if isinstance(given.get("initial_probability"), Mapping):
        prior = {name: np.asarray(p, np.float32) for name, p in given["initial_probability"].items()}
        arrays |= {f"prior/{name}": p for name, p in prior.items() if p.ndim}
        given["initial_probability"] = {name: None if p.ndim else float(p) for name, p in prior.items()}
    document = {
        "parameters": {name: to_json(name, value) for name, value in given.items()},
        "network": _network_to_json(training.setting.network),
        "setting": {
            "normalize_observations": training.setting.normalize_observations,
            "observation_clip": training.setting.observation_clip,
            "optimizer": search.optimizer.kind,
        },
        "environments": list(training.setting.environments),
        "observation_space": space_to_json(policy.observation_space_),
        "action_space": space_to_json(policy.action_space_),
        "seed": policy.seed_,
        "generation": search.generation,
        "n_observations": search.moments.n,
        "updates": search.optimizer.updates,
        "n_env_steps": training.n_env_steps,
        "n_evaluation_steps": training.n_evaluation_steps,
        "n_sampled": policy._n_sampled,
        "solved_at": training.solved_at,
        "stop_reason": getattr(policy, "stop_reason_", None),
        "best": None
        if best is None
        else {"score": best.score, "generation": best.generation, "n_observations": best.moments.n},
        "starts": {
            "ended": starts.ended,
            "began": starts.began,
            "last": starts.last,
            "score": starts.score,
            "best": None
            if starts.best is None
            else {
                "generation": starts.best.generation,
                "n_observations": starts.best.moments.n,
                "updates": starts.best.optimizer.updates,
            },
        },
        "history": policy.history_,
    }
    return document, arrays


def from_file(
    cls: Any, document: dict[str, Any], arrays: Arrays, network: Network | None, *, low: float, high: float
) -> Any:
    """The policy of a file, with parameters of its distribution within [low, high]; ``network`` is the user's own."""
    given = parameters(document, cls._get_param_names())
    trained = _network_from_json(document["network"], network)
    if isinstance(given["network"], dict):
        given["network"] = _network_from_json(given["network"], network)
    cls(**{**given, "network": trained})._check()  # a network of the other kind of weights would read beyond arrays
    policy = cls(**given)
    policy._check()
    _restore(policy, document, arrays, trained, (low, high))
    run = Run(policy.seed_, policy.observation_space_, policy.action_space_)
    deploy(policy, policy._training, run)
    return policy


def parameters(document: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The constructor parameters of a document; raises ModelFileError where one is unknown or missing."""
    given = document["parameters"]
    if not isinstance(given, dict) or set(given) != set(known):
        different = sorted(set(given) ^ set(known)) if isinstance(given, dict) else given
        raise ModelFileError(f"its parameters differ from this release's in {different}.")
    return dict(given)


def _network_to_json(network: Any) -> dict[str, Any]:
    """A network of the library by its kind and settings; another one by the name of its class alone."""
    for kind, make in NETWORKS.items():
        if type(network) is make:
            return {"kind": kind, **asdict(network)}
    return {"own": f"{type(network).__module__}.{type(network).__qualname__}"}


def _network_from_json(description: Any, own: Network | None) -> Network:
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
    if kind not in NETWORKS or set(settings) != {field.name for field in fields(NETWORKS[kind])}:
        raise ModelFileError("its network is incomplete or of an unknown kind")
    return make_network(kind, settings)


def _restore(
    policy: Any, document: dict[str, Any], arrays: Arrays, network: Network, within: tuple[float, float]
) -> None:
    """Set the fitted attributes that the file holds, apart from those that follow from them."""
    policy.observation_space_ = space_from_json(document["observation_space"])
    policy.action_space_ = space_from_json(document["action_space"])
    check_spaces(policy.observation_space_, policy.action_space_)
    policy.n_features_in_ = observation_size(policy.observation_space_)
    shapes = network.shapes(policy.n_features_in_, action_outputs(policy.action_space_))
    if isinstance(getattr(policy, "initial_probability", None), dict):
        policy.initial_probability = {
            name: take(arrays, f"prior/{name}", "<f4", (shapes[name].pre, shapes[name].post), 0.0, 1.0)
            if p is None
            else p
            for name, p in policy.initial_probability.items()
        }
    policy.seed_ = count(document, "seed", 2**64 - 1)
    setting, names = document["setting"], document["environments"]
    if not isinstance(setting, dict) or set(setting) != {"normalize_observations", "observation_clip", "optimizer"}:
        raise ModelFileError("its setting is incomplete")
    check_flag("normalize_observations", setting["normalize_observations"])
    check_number("observation_clip", setting["observation_clip"], low=0, open_low=True)
    check_choice("optimizer", setting["optimizer"], RULES)

    parts = arrays, shapes, policy.n_features_in_, within
    search = _take_search("search", "optimizer", document, setting["optimizer"], *parts)
    best = None
    if document["best"] is not None:
        found, observed = _take_network("best", count(document["best"], "n_observations"), *parts)
        score = number(document["best"], "score")
        best = Deployed(found, observed, score, count(document["best"], "generation", search.generation))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelFileError(f"its environments are {names!r}")
    policy._training = Training(
        Setting(network, setting["normalize_observations"], float(setting["observation_clip"]), tuple(names)),
        search,
        best,
        count(document, "n_env_steps"),
        count(document, "n_evaluation_steps"),
        None if document["solved_at"] is None else number(document, "solved_at"),
        _take_starts(document["starts"], setting["optimizer"], *parts),
    )
    policy.history_ = history(document, search.generation, optional=DEPLOYED_MEASURES[1:])
    policy._n_sampled = count({"n_sampled": 0, **document}, "n_sampled", 2**32 - 1)  # older files do not say
    policy.stop_reason_ = document["stop_reason"]
    if not isinstance(policy.stop_reason_, str | None):
        raise ModelFileError(f"its stop_reason is {policy.stop_reason_!r}")


def history(document: dict[str, Any], generations: int, optional: Container[str] | None = None) -> list[Record]:
    """The history of a document: a record of numbers per generation. ``optional`` may be None in it; None: any may."""
    records = document["history"]
    if not isinstance(records, list) or len(records) != generations:
        raise ModelFileError("its history does not have one record per generation")
    for record in records:
        if not isinstance(record, dict) or set(record) != set(records[0]):
            raise ModelFileError("the records of its history differ")
        for name, value in record.items():
            if value is not None or (optional is not None and name not in optional):
                number(record, name)
    return [{**record, **{name: record.get(name) for name in DEPLOYED_MEASURES[1:]}} for record in records]


def _add_search(arrays: Arrays, prefix: str, optimizer: str, search: State) -> None:
    _add_network(arrays, prefix, search.parameters, search.moments)
    for moment in ("first", "second"):
        for name, value in getattr(search.optimizer, moment).items():
            arrays[f"{optimizer}/{moment}/{name}"] = value


def _take_search(
    prefix: str,
    optimizer: str,
    document: Mapping[str, Any],
    kind: str,
    arrays: Arrays,
    shapes: dict[str, Shape],
    *further: Any,
) -> State:
    """The search under these prefixes, with the numbers that a part of the document has of it."""
    moments: dict[str, Parameters] = {"first": {}, "second": {}}
    if kind != "sgd":
        for moment, low in (("first", -LARGE), ("second", 0.0)):
            moments[moment] = {
                name: take(arrays, f"{optimizer}/{moment}/{name}", "<f4", (shape.pre, shape.post), low, LARGE)
                for name, shape in shapes.items()
            }
    state = OptimizerState(kind, count(document, "updates"), **moments)
    parameters, observed = _take_network(prefix, count(document, "n_observations"), arrays, shapes, *further)
    return State(count(document, "generation", 2**32 - 2), parameters, state, observed)


def _take_starts(description: Any, kind: str, *parts: Any) -> Starts:
    if not isinstance(description, dict) or set(description) != set(Starts._fields):
        raise ModelFileError("its starts are incomplete")
    best, ended = description["best"], count(description, "ended")
    if best is not None and not ended:
        raise ModelFileError("it holds the best of no starts")
    found = None if best is None else _take_search("start", "start/optimizer", best, kind, *parts)
    began, last, score = count(description, "began"), number(description, "last"), number(description, "score")
    return Starts(ended, began, last, found, score)


def _add_network(arrays: Arrays, prefix: str, parameters: Parameters, moments: Moments) -> None:
    for name, p in parameters.items():
        arrays[f"{prefix}/parameters/{name}"] = p
    arrays[f"{prefix}/observations/mean"] = moments.mean
    arrays[f"{prefix}/observations/squares"] = moments.squares


def _take_network(
    prefix: str, count: int, arrays: Arrays, shapes: dict[str, Shape], obs_size: int, within: tuple[float, float]
) -> tuple[Parameters, Moments]:
    parameters = {
        name: take(arrays, f"{prefix}/parameters/{name}", "<f4", (shape.pre, shape.post), *within)
        for name, shape in shapes.items()
    }
    large = float(np.finfo(np.float64).max)
    mean = take(arrays, f"{prefix}/observations/mean", "<f8", (obs_size,), -large, large)
    squares = take(arrays, f"{prefix}/observations/squares", "<f8", (obs_size,), 0.0, large)
    return parameters, Moments(count, mean, squares)


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
        return _network_to_json(value)
    if isinstance(value, dict):
        return {key: to_json(key, part) for key, part in value.items()}
    raise TypeError(f"The parameter {name}={value!r} cannot be saved.")
