"""Constants of the neurons: one number for all of them, one for each, or one for each cell type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecpolicy.constraints import Integer, Number
from ecpolicy.networks.network import Settings
from ecpolicy.random import Key, uniform

MOST_SUBSTEPS = 100_000
MOST_NEURONS = 1 << 24  # that have something of their own: the arrays of a file's network are no larger
NODES = "observation", "-observation", "output"  # groups of a connectome that are no neurons
Some: TypeAlias = Sequence[bool] | Sequence[int] | Sequence[str] | str | None  # of the neurons
Varied: TypeAlias = float | Sequence[float] | Mapping[str, float]  # for all neurons, each neuron, or each type


class ByType(dict[str, Any]):
    """Values by cell type, in an order that counts. They are not to be changed: networks that have them are keys."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and list(self.items()) == list(other.items())

    def __ne__(self, other: object) -> bool:
        return not self == other


def frozen(value: object, depth: int = 2) -> Any:
    """A setting as a key may have it: arrays and lists as tuples, mappings as :class:`ByType`.

    What is frozen comes back as it is: scikit-learn's ``clone`` wants the very object that it gave. What is nested more
    deeply is no setting, and is left for a constraint to refuse.
    """
    if depth == 0:
        return value
    if isinstance(value, Mapping):
        return value if isinstance(value, ByType) else ByType({k: frozen(part, depth - 1) for k, part in value.items()})
    if isinstance(value, list | tuple):
        parts = tuple(frozen(part, depth - 1) for part in value)
        same = isinstance(value, tuple) and all(a is b for a, b in zip(parts, value, strict=True))
        return value if same else parts
    if hasattr(value, "tolist") and not isinstance(value, np.generic):  # arrays, series
        return frozen(value.tolist(), depth)
    return value


@dataclass(frozen=True)
class PerNeuron:
    """A number for all neurons, a sequence of one for each, or a mapping of one for each cell type."""

    number: Number

    def __call__(self, name: str, value: object) -> Any:
        """The number, the tuple of numbers, or those by type."""
        if isinstance(value, Mapping):
            return ByType({key: self.number(f"{name}[{key!r}]", part) for key, part in value.items()})
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return tuple(self.number(f"{name}[{k}]", part) for k, part in enumerate(value))
        return self.number(name, value)

    def __str__(self) -> str:
        return f"{self.number}, or an array (neurons,) or dict by cell type of these"


@dataclass(frozen=True)
class CellTypes:
    """None, or a mapping of types to their shares of the neurons and their signs, excitatory ones first."""

    def __call__(self, name: str, value: object) -> ByType | None:
        """The shares and signs by type."""
        if value is None:
            return None
        wanted = f'{name} must be a dict such as {{"Pyr": (0.8, 1), "PV": (0.2, -1)}}, of shares and signs'
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise TypeError(f"{wanted}; got {value!r:.100}.")
        found = ByType()
        for key, entry in value.items():
            if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != 2:
                raise TypeError(f"{wanted}; got {entry!r:.100} for {key!r}.")
            if not key or key in NODES:
                raise ValueError(f"{name} has a type called {key!r}, which is no name of a type of neurons.")
            sign = Integer(-1, 1)(f"the sign of {name}[{key!r}]", entry[1])
            if sign == 0:
                raise ValueError(f"the sign of {name}[{key!r}] must be 1 (excitatory) or -1 (inhibitory); got 0.")
            dict.__setitem__(found, key, (Number(0, 1, open_low=True)(f"the share of {name}[{key!r}]", entry[0]), sign))
        signs = [sign for _, sign in found.values()]
        if sorted(signs, reverse=True) != signs:
            order = ", ".join(found)
            raise ValueError(f"{name} must name excitatory types first, as their neurons come first; got {order}.")
        _add_up(name, [share for share, _ in found.values()])
        return found

    def __str__(self) -> str:
        return "dict of str to (share, sign), or None"


@dataclass(frozen=True)
class Shares:
    """None, or a mapping of types to their shares of the neurons, for weights that have signs of their own."""

    def __call__(self, name: str, value: object) -> ByType | None:
        """The shares by type."""
        if value is None:
            return None
        if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
            raise TypeError(
                f'{name} must be a dict such as {{"fast": 0.8, "slow": 0.2}}, of shares; got {value!r:.100}.'
            )
        share = Number(0, 1, open_low=True)
        found = ByType({key: share(f"the share of {name}[{key!r}]", part) for key, part in value.items()})
        _add_up(name, [*found.values()])
        return found

    def __str__(self) -> str:
        return "dict of str to share, or None"


def _add_up(name: str, shares: Sequence[float]) -> None:
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"{name} must have shares that add up to 1; got {', '.join(f'{part:g}' for part in shares)}.")


def sizes(shares: Mapping[str, float], neurons: int) -> dict[str, int]:
    """Neurons of every type; they add up to all."""
    ends = np.rint(np.cumsum([*shares.values()]) * neurons).astype(int)
    return dict(zip(shares, np.diff(ends, prepend=0).tolist(), strict=True))


@dataclass(frozen=True)
class Chosen:
    """None for all neurons, or numbers or types of some of them; masks have become numbers by then."""

    def __call__(self, name: str, value: object) -> tuple[int | str, ...] | None:
        """Numbers in rising order, or types."""
        if value is None:
            return None
        parts = (value,) if isinstance(value, str) else value
        message = f"{name} must be a mask, numbers or cell types of neurons, or None; got {value!r:.100}."
        if not isinstance(parts, Sequence):
            raise TypeError(message)
        if parts and all(isinstance(part, str) for part in parts):
            return tuple(parts)
        if parts and all(isinstance(part, bool) for part in parts):
            raise ValueError(f"{name} must be a mask of as many flags as there are neurons; got {len(parts)}.")
        if any(isinstance(part, bool | str) for part in parts):
            raise TypeError(message)
        numbers = sorted(Integer(0)(f"{name}[{k}]", part) for k, part in enumerate(parts))
        if not numbers or len(set(numbers)) < len(numbers):
            raise ValueError(f"{name} must name at least one neuron, and each once; got {value!r:.100}.")
        return tuple(numbers)

    def __str__(self) -> str:
        return "array of bool (neurons,), of int or of str, or None"


def chosen(network: Any, name: str) -> NDArray[np.bool_]:
    """Which neurons a setting checked by :class:`Chosen` names, (neurons,)."""
    value, n = getattr(network, name), network.n_neurons
    if value is None:
        return np.ones(n, np.bool_)
    if isinstance(value[0], str):
        unknown = [key for key in value if key not in network.type_sizes]
        if unknown:
            raise ValueError(f"{name} names the cell types {unknown}; the network has {list(network.type_sizes)}.")
        return np.isin(network.types, value)
    if value[-1] >= n:
        raise ValueError(f"{name} must name neurons from 0 to {n - 1}; got {value[-1]}.")
    return np.isin(np.arange(n), value)


class CellConstants(NamedTuple):
    """What the kernels of neurons with constants of their own take; arrays are (neurons,) of float32 or int32."""

    decay_syn: NDArray[np.float32]
    decay_m: NDArray[np.float32]
    decay_out: np.float32
    r_in: NDArray[np.float32]
    r_h: NDArray[np.float32]
    r_out: np.float32
    per_dt: np.float32
    threshold: NDArray[np.float32]
    refractory: NDArray[np.int32]  # substeps after a spike in which a neuron is held at 0


Constants: TypeAlias = Any  # seven numbers of float32, or CellConstants: a sequence of numbers and arrays


class LeakyNeurons(Settings):
    """What the networks of leaky integrate-and-fire neurons in floating point share."""

    n_neurons: int
    step_ms: float
    dt: float
    tau_syn: Varied
    tau_m: Varied
    tau_out: float
    gain_in: float
    gain_recurrent: float
    gain_out: float
    density: float
    threshold: Varied
    t_ref: Varied

    def __post_init__(self) -> None:
        for name, value in self.get_params().items():
            object.__setattr__(self, name, frozen(value))

    @property
    def substeps(self) -> int:
        """Euler steps per environment step: 33 for 16.6 ms and 0.5 ms."""
        return round(self.step_ms / self.dt)

    @property
    def n_read(self) -> int:
        """Neurons that are read."""
        return self.n_neurons

    @property
    def type_sizes(self) -> dict[str, int]:
        """Neurons of every cell type; empty where there are no types."""
        return {}

    @property
    def types(self) -> NDArray[np.str_]:
        """The cell type of every neuron, (neurons,); empty where there are none."""
        return np.repeat(np.array([*self.type_sizes], np.str_), [*self.type_sizes.values()])

    @property
    def are_alike(self) -> bool:
        """Whether all neurons have the same constants, a threshold of 1 and no refractory period."""
        single = not any(isinstance(part, tuple | Mapping) for part in (self.tau_syn, self.tau_m))
        return single and self.threshold == 1 and self.t_ref == 0

    def one_substep(self) -> Self:
        """The same network, of which a step is one substep."""
        return replace(self, step_ms=self.dt)

    def checked(self) -> Self:
        """The network, its settings plain Python numbers; raises where one is wrong."""
        network = super().checked()
        _check_cells(network)
        return network

    def constants(self, obs_size: int) -> Constants:
        """What the kernels take: decay_syn, decay_m, decay_out, R_in, R_h, R_out, 1/dt; CellConstants unless alike."""
        return constants_of(self, obs_size) if self.are_alike else cell_constants_of(self, obs_size)

    def each(self, name: str) -> NDArray[np.float64]:
        """A setting of every neuron, (neurons,); types that a mapping leaves out have the default."""
        value = getattr(self, name)
        if isinstance(value, Mapping):
            value = [value.get(group, self.table[name].default) for group in self.types]
        return np.array(np.broadcast_to(np.asarray(value, np.float64), self.n_neurons))

    def potentials(self, keys: Key) -> NDArray[np.float32]:
        """Potentials at the start of episodes (episodes, neurons): uniform from 0 to the threshold."""
        drawn = uniform(keys, self.n_neurons)
        return drawn if self.are_alike else drawn * cell_constants_of(self, 1).threshold


@lru_cache(maxsize=64)
def constants_of(network: Any, obs_size: int) -> NDArray[np.float32]:
    """decay_syn, decay_m, decay_out, R_in, R_h, R_out, 1/dt."""
    return np.array(_numbers(network, obs_size, network.tau_syn, network.tau_m), dtype=np.float32)


@lru_cache(maxsize=64)
def cell_constants_of(network: LeakyNeurons, obs_size: int) -> CellConstants:
    """The same for each neuron, its threshold and refractory period."""
    numbers = _numbers(network, obs_size, network.each("tau_syn"), network.each("tau_m"))
    cells = network.each("threshold").astype(np.float32), _held(network).astype(np.int32)
    return CellConstants._make([*(np.asarray(part, np.float32)[()] for part in numbers), *cells])


def _numbers(network: Any, obs_size: int, tau_syn: Any, tau_m: Any) -> tuple[Any, ...]:
    density = network.density
    return (
        np.exp(-network.dt / tau_syn),
        np.exp(-network.dt / tau_m),
        np.exp(-network.dt / network.tau_out),
        network.gain_in * tau_m * np.sqrt(2 / (density * obs_size)),
        network.gain_recurrent * tau_m / tau_syn * np.sqrt(2 / (density * network.n_neurons)),
        network.gain_out * np.sqrt(1 / (density * network.n_read)),
        1 / network.dt,
    )


def _held(network: LeakyNeurons) -> NDArray[np.float64]:
    return np.rint(network.each("t_ref") / network.dt)


def _check_cells(network: LeakyNeurons) -> None:
    """Raise where settings that are right one by one do not go together."""
    if not 1 <= network.substeps <= MOST_SUBSTEPS:
        raise ValueError(
            f"dt must give 1 to {MOST_SUBSTEPS:,} substeps per step_ms of {network.step_ms}, so be at most step_ms; "
            f"got {network.dt}."
        )
    for name in ("tau_syn", "tau_m", "threshold", "t_ref"):
        value = getattr(network, name)
        if isinstance(value, tuple) and len(value) != network.n_neurons:
            raise ValueError(f"{name} must have a number for each of {network.n_neurons} neurons; got {len(value)}.")
        known = list(network.type_sizes)
        unknown = [key for key in value if key not in known] if isinstance(value, Mapping) else []
        if unknown:
            raise ValueError(f"{name} names the cell types {unknown}; {type(network).__name__} has {known or 'none'}.")
    chosen_ones = [name for name in ("input_neurons", "readout_neurons") if getattr(network, name, None) is not None]
    if network.n_neurons > MOST_NEURONS and (chosen_ones or not network.are_alike):
        raise ValueError(f"n_neurons must be at most {MOST_NEURONS:,} where neurons differ; got {network.n_neurons}.")
    for name in chosen_ones:
        chosen(network, name)
    sizes = network.type_sizes
    if getattr(network, "cell_types", None) is not None:
        empty = [key for key, size in sizes.items() if size < 1]
        if empty:
            raise ValueError(f"cell_types leaves no neuron of {network.n_neurons} for the types {empty}.")
        if getattr(network, "excitatory_ratio", 0.5) != 0.5:
            raise ValueError("excitatory_ratio must be left out where cell_types says the shares of all types.")
    with np.errstate(over="ignore", invalid="ignore"):
        constants = network.constants(1)
        if not all(np.isfinite(part).all() for part in constants):
            raise ValueError(f"Times, gains and density must give constants of single precision; got {network}.")
        wanted = np.zeros(1) if network.are_alike else network.each("t_ref")
        held = np.rint(wanted / network.dt)
    if (wanted[held == 0] > 0).any() or held.max() > MOST_SUBSTEPS:
        raise ValueError(
            f"t_ref must be 0, or round to 1 to {MOST_SUBSTEPS:,} substeps of dt={network.dt} ms; got "
            f"{wanted[(held == 0) & (wanted > 0) | (held > MOST_SUBSTEPS)][0]}."
        )
