"""What the file of a fitted policy holds, whatever its class, and how a policy is put together from it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions import Distribution
from ecpolicy.edges import dense
from ecpolicy.files import archive
from ecpolicy.files.archive import Arrays, Document, ModelFileError, UnfitFileError
from ecpolicy.files.codec import array, count, decode, encode, following, leaf, number, only, optional, take, texts
from ecpolicy.files.migrations import HISTORY, up_to_date
from ecpolicy.files.spaces import space_from_json, space_to_json
from ecpolicy.fitting.deployed import Deployable
from ecpolicy.fitting.fit import act_with, deploy
from ecpolicy.fitting.learner import Trainable
from ecpolicy.fitting.resumption import NoTraining
from ecpolicy.history import Columns, History
from ecpolicy.networks import NETWORKS, Network, Shape
from ecpolicy.networks.layout import unpack, words_per_row
from ecpolicy.normalization import Standardizer
from ecpolicy.spaces import action_outputs, check_spaces, observation_size
from ecpolicy.untyped import Kwargs, Space
from ecpolicy.version import __version__

MACHINE = {"n_jobs", "timeout", "verbose", "backend", "engine"}  # parameters that say nothing about the policy
MACHINE_KWARGS = {"device"}  # among ppo_kwargs, likewise
LAST = "last_record"  # of the history, in files of the deployed network alone
LARGEST_SAMPLED = 2**32 - 1
SPACE = leaf(space_to_json, space_from_json)


class Header(NamedTuple):
    """What every file has, beside the history and a training or a deployed network."""

    parameters: Kwargs  # of the constructor, apart from those of the machine
    network: Network  # that was trained, whatever the parameters say now
    environments: tuple[str, ...]
    setting: object  # of the training
    observation_space: Space
    action_space: Space
    seed: int
    n_sampled: int
    stop_reason: str | None


class Acting(NamedTuple):
    """A deployed network alone."""

    connections: dict[str, np.ndarray]  # packed where they are bits
    standardizer: Standardizer
    shown: dict[str, object]  # fitted attributes


def to_file(policy: Trainable[Any], training_state: bool) -> tuple[Document, Arrays]:
    """The JSON document and the arrays of a fitted policy, with all that training goes on from or without."""
    setting, deployed = policy._training.setting, policy._deployed
    given = policy.get_params(deep=False)
    header = Header(
        given,
        deployed.network,
        policy.environments_,
        setting,
        policy.observation_space_,
        policy.action_space_,
        policy.seed_,
        policy._n_sampled % (LARGEST_SAMPLED + 1),
        getattr(policy, "stop_reason_", None),
    )
    document, _ = encode(_header(type(policy), deployed.network), header)
    history = policy.history_ if isinstance(policy.history_, History) else History(policy.history_)
    sizes = policy.n_features_in_, action_outputs(policy.action_space_)
    if training_state:
        document["training"], arrays = encode(policy._training_schema(setting, *sizes), policy._training)
    else:
        document[LAST] = history[-1] if len(history) else None  # as columns it would take kilobytes
        schema = _acting(policy, deployed.network, deployed.distribution, *sizes)
        connections = {name: part[0] for name, part in deployed.connections.items()}
        shown = {name: getattr(policy, name) for name in schema.shown}
        document["deployed"], arrays = encode(schema, Acting(connections, deployed.standardizer, shown))
        history = History()
    arrays |= {f"{HISTORY}{name}": column for name, column in history.columns.items()}
    about = {"class": type(policy).__name__, "release": __version__}
    return {**about, **document}, arrays | _prior(given)


def from_file(cls: type, document: Document, arrays: Arrays, network: Network | None) -> Any:
    """The policy of a file; ``network`` is the user's own, if it was trained with one."""
    names = [name for name in Header._fields if name in document]
    header: Header = decode(_header(cls, network), {name: document[name] for name in names}, arrays)
    policy = cls(**header.parameters)
    policy._check()
    check_spaces(header.observation_space, header.action_space)
    sizes = observation_size(header.observation_space), action_outputs(header.action_space)
    shapes = header.network.shapes(*sizes)
    if isinstance(getattr(policy, "initial_probability", None), dict):
        policy.initial_probability = {
            name: take(arrays, f"prior/{name}", "<f4", shapes[name][:2], 0.0, 1.0) if p is None else p
            for name, p in policy.initial_probability.items()
        }
    vars(policy).update(
        observation_space_=header.observation_space,
        action_space_=header.action_space,
        n_features_in_=sizes[0],
        _n_sampled=header.n_sampled,
        stop_reason_=header.stop_reason,
        history_=History([document[LAST]]) if document.get(LAST) is not None else _history(arrays),
        notes_=[],
        engine_=None,
    )
    if "training" in document:
        training = decode(policy._training_schema(header.setting, *sizes), document["training"], arrays)
        deploy(policy, training, header.action_space, header.seed)
        return policy
    distribution = policy._search(header.network, *sizes)
    acting: Acting = decode(_acting(policy, header.network, distribution, *sizes), document["deployed"], arrays)
    found = acting.connections
    if distribution.packed:
        found = {name: _unpacked(words, shapes[name]) for name, words in found.items()}
    shown = policy._shown(header.network, found) | acting.shown
    chosen = Deployable(header.network, distribution, found, acting.standardizer, shown)
    act_with(policy, chosen, NoTraining(header.setting), header.action_space, header.seed)
    return policy


def load(path: str | os.PathLike[str], kinds: Mapping[str, type], network: Network | None) -> Any:
    """The policy of a file, of one of these classes by name."""
    path = archive.as_path(path)
    with archive.damage_named(path):
        document, arrays = up_to_date(*archive.read(path))
        kind = kinds.get(str(document["class"]))
        if kind is None:
            found = f"it holds a policy of the class {str(document['class'])!r:.80}"
            raise UnfitFileError(f"{found}; wanted {' or '.join(kinds)}")
        return from_file(kind, document, arrays, network)


def _header(cls: Any, own: Network | None) -> Header:
    def checked(given: Kwargs, description: object) -> Network:
        network: Network = cls(**given)._trained_network(_network_from_json(description, own))
        return network

    return Header(
        parameters=leaf(_parameters_to_json, lambda found: _parameters_from_json(found, cls._get_param_names(), own)),
        network=following(lambda before: leaf(_network_to_json, partial(checked, before["parameters"]))),
        environments=texts(),
        setting=following(lambda before: cls._setting_schema(before["network"], before["environments"])),
        observation_space=SPACE,
        action_space=SPACE,
        seed=count(2**64 - 1),
        n_sampled=count(LARGEST_SAMPLED),
        stop_reason=optional(only(str)),
    )


def _acting(
    policy: Trainable[Any], network: Network, distribution: Distribution, obs_size: int, n_outputs: int
) -> Acting:
    def connections(shape: Shape) -> np.ndarray:
        if not distribution.packed:
            return array("<f4", (shape.pre, shape.post))
        rows, lanes = (shape.pre, shape.post) if shape.packed_axis == 1 else (shape.post, shape.pre)
        return array("<u8", (rows, words_per_row(lanes)))

    return Acting(
        {name: connections(shape) for name, shape in network.shapes(obs_size, n_outputs).items()},
        Standardizer(array("<f8", (obs_size,)), array("<f8", (obs_size,), low=0), number(low=0)),
        policy._shown_schema(n_outputs),
    )


def _unpacked(words: np.ndarray, shape: Shape) -> NDArray[np.float32]:
    """A matrix (pre, post): 1 where there is a connection and 0 elsewhere."""
    present = unpack(words, shape.post if shape.packed_axis == 1 else shape.pre).astype(np.float32)
    return present if shape.packed_axis == 1 else np.ascontiguousarray(present.T)


def _history(arrays: Arrays) -> History:
    columns: Columns = {name[len(HISTORY) :]: part for name, part in arrays.items() if name.startswith(HISTORY)}
    for name, column in columns.items():
        if not name.isprintable() or column.dtype not in (np.int64, np.float64) or column.ndim != 1:
            raise ModelFileError(f"the column {name!r} of its history is {column.dtype} {column.shape}")
    if len({column.size for column in columns.values()}) > 1:
        raise ModelFileError("the columns of its history differ in length")
    return History.of_columns(columns)


def _prior(given: Kwargs) -> Arrays:
    """The matrices of initial probabilities, which are no JSON."""
    prior = given.get("initial_probability")
    matrices = prior.items() if isinstance(prior, Mapping) else ()
    return {f"prior/{name}": dense(p).astype(np.float32) for name, p in matrices if np.ndim(p)}


def _parameters_to_json(given: Kwargs) -> Document:
    """The constructor parameters; in place of a matrix of initial probabilities stands None."""
    kept = _apart_from_machine(given)
    if isinstance(kept.get("initial_probability"), Mapping):
        prior = kept["initial_probability"].items()
        kept["initial_probability"] = {name: None if np.ndim(p) else float(np.float32(p)) for name, p in prior}
    return {name: _to_json(name, value) for name, value in kept.items()}


def _parameters_from_json(given: object, known: Iterable[str], own: Network | None) -> Kwargs:
    """The constructor parameters; those that a file lacks are left to their defaults."""
    if not isinstance(given, dict):
        raise ModelFileError(f"its parameters are {given!r:.80}")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ModelFileError(f"its parameters {unknown} are unknown to this release")
    kept = _apart_from_machine(given)
    if isinstance(kept.get("network"), dict):
        kept["network"] = _network_from_json(kept["network"], own)
    return kept


def _apart_from_machine(given: Kwargs) -> Kwargs:
    kept = {name: value for name, value in given.items() if name not in MACHINE}
    if isinstance(kept.get("ppo_kwargs"), dict):
        kept["ppo_kwargs"] = {name: v for name, v in kept["ppo_kwargs"].items() if name not in MACHINE_KWARGS}
    return kept


def _to_json(name: str, value: object) -> object:
    """A parameter as JSON has it; a generator given as random_state is not kept, the seed drawn from it is."""
    if value is None or isinstance(value, str | bool | np.bool_):
        return value if not isinstance(value, np.bool_) else bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Sequence):
        return [_to_json(name, part) for part in value]
    if name == "random_state":
        return None
    if name == "network":
        return _network_to_json(value)
    if isinstance(value, dict):
        return {key: _to_json(key, part) for key, part in value.items()}
    raise TypeError(f"The parameter {name}={value!r} cannot be saved.")


def _network_to_json(network: object) -> Document:
    """A network of the library by its kind and settings; another one by the name of its class alone."""
    for kind, make in NETWORKS.items():
        if type(network) is make:
            return {"kind": kind, **{name: _to_json(name, value) for name, value in asdict(network).items()}}
    return {"own": f"{type(network).__module__}.{type(network).__qualname__}"}


def _network_from_json(description: object, own: Network | None) -> Network:
    """The network described. No class is looked up by its name: what is not the library's must be given."""
    if not isinstance(description, dict):
        raise ModelFileError(f"its network is {description!r:.80}")
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
    network: Network = NETWORKS[kind](**settings)
    return network
