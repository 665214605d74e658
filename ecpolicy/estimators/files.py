"""What a policy's file holds, and how a policy is put together from it: every part checked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions import Parameters
from ecpolicy.estimators.documents import (
    common_to_file,
    count,
    network_from_json,
    network_to_json,
    number,
    parameters,
    restore_common,
    standardizer_from_file,
    standardizer_to_file,
)
from ecpolicy.estimators.parameters import check_choice, check_flag, check_number
from ecpolicy.evolution import State
from ecpolicy.fitting.deployed import Deployable, DeployedPolicy
from ecpolicy.fitting.evolution_learner import Deployed, Setting, Training
from ecpolicy.fitting.fit import act_with, deploy
from ecpolicy.fitting.resumption import NoTraining
from ecpolicy.fitting.starts import Starts
from ecpolicy.kernels.layout import unpack, words_per_row
from ecpolicy.networks import Network, Shape
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.optimizers import OptimizerState
from ecpolicy.persistence import Arrays, ModelFileError, take
from ecpolicy.spaces import action_outputs

RULES = ("adam", "adamw", "sgd")
MOST_EPISODES = 10**9
LAST_GENERATION = 2**32 - 2
LARGE = float(np.finfo(np.float32).max)


def to_file(policy: Any, training_state: bool) -> tuple[dict[str, Any], Arrays]:
    """The JSON document and the arrays of a fitted policy, with all that training goes on from or without."""
    document, arrays = common_to_file(policy, training_state)
    further = _training_to_file(policy) if training_state else _deployed_to_file(policy)
    return document | further[0], arrays | further[1]


def _deployed_to_file(policy: Any) -> tuple[dict[str, Any], Arrays]:
    """What acting needs: a network, packed where its connections are bits."""
    deployed: DeployedPolicy = policy._deployed
    document, arrays = standardizer_to_file(deployed.standardizer)
    document |= {
        "network": network_to_json(deployed.network),
        "generation": policy.n_generations_,
        "deployed_generation": policy.deployed_generation_,
        "n_env_steps": policy.n_env_steps_,
    }
    return document, arrays | {f"connections/{name}": part[0] for name, part in deployed.connections.items()}


def _training_to_file(policy: Any) -> tuple[dict[str, Any], Arrays]:
    """What acting and training need."""
    training: Training = policy._training
    search, best, starts = training.search, training.best, training.starts
    arrays: Arrays = {}
    _add_search(arrays, "search", "optimizer", search)
    if starts.best is not None:
        _add_search(arrays, "start", "start/optimizer", starts.best)
    if best is not None:
        _add_network(arrays, "best", best.parameters, best.moments)
    document = {
        "network": network_to_json(training.setting.network),
        "setting": {
            "normalize_observations": training.setting.normalize_observations,
            "observation_clip": training.setting.observation_clip,
            "optimizer": search.optimizer.kind,
        },
        "generation": search.generation,
        "n_observations": search.moments.n,
        "updates": search.optimizer.updates,
        "n_env_steps": training.n_env_steps,
        "n_evaluation_steps": training.n_evaluation_steps,
        "solved_at": training.solved_at,
        "best": None
        if best is None
        else {"score": best.score, "generation": best.generation, "n_observations": best.moments.n}
        | ({} if best.episodes is None else {"episodes": best.episodes}),
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
    }
    return document, arrays


def from_file(cls: Any, document: dict[str, Any], arrays: Arrays, network: Network | None, *, bits: bool) -> Any:
    """The policy of a file, of 1-bit connections or of real weights; ``network`` is the user's own."""
    given = parameters(document, cls._get_param_names())
    trained = network_from_json(document["network"], network)
    if isinstance(given.get("network"), dict):
        given["network"] = network_from_json(given["network"], network)
    cls(**{**given, "network": trained})._check()  # a network of the other kind of weights would read beyond arrays
    policy = cls(**given)
    policy._check()
    names = restore_common(policy, document, arrays)
    obs_size, n_outputs = policy.n_features_in_, action_outputs(policy.action_space_)
    shapes = trained.shapes(obs_size, n_outputs)
    if isinstance(getattr(policy, "initial_probability", None), dict):
        policy.initial_probability = {
            name: take(arrays, f"prior/{name}", "<f4", (shapes[name].pre, shapes[name].post), 0.0, 1.0)
            if p is None
            else p
            for name, p in policy.initial_probability.items()
        }
    if document["training_state"]:
        within = (0.0, 1.0) if bits else (-LARGE, LARGE)
        training = _training_from_file(document, arrays, trained, names, shapes, obs_size, within)
        deploy(policy, training, policy.action_space_, policy.seed_)
        return policy
    found = {name: _connections(arrays, name, shape, bits) for name, shape in shapes.items()}
    _deploy_alone(policy, document, trained, names, found, standardizer_from_file(document, arrays, obs_size))
    return policy


def _deploy_alone(
    policy: Any,
    document: Mapping[str, Any],
    network: Network,
    names: tuple[str, ...],
    found: Parameters,
    standardizer: Standardizer,
) -> None:
    """Act with the network of a file that holds nothing else."""
    distribution = policy._search(network, policy.n_features_in_, action_outputs(policy.action_space_))
    generation = count(document, "generation", LAST_GENERATION)
    shown = policy._shown(network, found) | {
        "deployed_generation_": count(document, "deployed_generation", generation),
        "n_generations_": generation,
        "n_env_steps_": count(document, "n_env_steps"),
    }
    training = NoTraining(Setting(network, True, standardizer.clip, names))
    chosen = Deployable(network, distribution, found, standardizer, shown)
    act_with(policy, chosen, training, policy.action_space_, policy.seed_)


def _connections(arrays: Arrays, name: str, shape: Shape, bits: bool) -> NDArray[np.float32]:
    """A matrix of the deployed network (pre, post): its weights, or 1 where there is a connection and 0 elsewhere."""
    if not bits:
        return take(arrays, f"connections/{name}", "<f4", (shape.pre, shape.post), -LARGE, LARGE)
    rows, lanes = (shape.pre, shape.post) if shape.packed_axis == 1 else (shape.post, shape.pre)
    words = take(arrays, f"connections/{name}", "<u8", (rows, words_per_row(lanes)), 0, 2**64 - 1)
    present = unpack(words, lanes).astype(np.float32)
    return present if shape.packed_axis == 1 else np.ascontiguousarray(present.T)


def _training_from_file(
    document: Mapping[str, Any],
    arrays: Arrays,
    network: Network,
    names: tuple[str, ...],
    shapes: dict[str, Shape],
    obs_size: int,
    within: tuple[float, float],
) -> Training:
    """What a file holds of a training, parameters of its distribution within these bounds."""
    setting = document["setting"]
    if not isinstance(setting, dict) or set(setting) != {"normalize_observations", "observation_clip", "optimizer"}:
        raise ModelFileError("its setting is incomplete")
    check_flag("normalize_observations", setting["normalize_observations"])
    check_number("observation_clip", setting["observation_clip"], low=0, open_low=True)
    check_choice("optimizer", setting["optimizer"], RULES)
    parts = arrays, shapes, obs_size, within
    search = _take_search("search", "optimizer", document, setting["optimizer"], *parts)
    best = None
    if document["best"] is not None:
        found, observed = _take_network("best", count(document["best"], "n_observations"), *parts)
        score = number(document["best"], "score")
        generation = count(document["best"], "generation", search.generation)
        episodes = count(document["best"], "episodes", MOST_EPISODES) if "episodes" in document["best"] else None
        best = Deployed(found, observed, score, generation, score, episodes or None)
    return Training(
        Setting(network, setting["normalize_observations"], float(setting["observation_clip"]), names),
        search,
        best,
        count(document, "n_env_steps"),
        count(document, "n_evaluation_steps"),
        None if document["solved_at"] is None else number(document, "solved_at"),
        _take_starts(document["starts"], setting["optimizer"], *parts),
    )


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
    return State(count(document, "generation", LAST_GENERATION), parameters, state, observed)


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
