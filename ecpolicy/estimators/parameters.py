"""Checks of constructor parameters: what was given, what is wanted."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.fitness_shaping import FITNESS_SHAPINGS
from ecpolicy.networks import GRU, LSTM, NETWORKS, RSNN, Network, RealRSNN, Shape
from ecpolicy.optimizers import OPTIMIZERS

BACKENDS = ("auto", "numpy", "jax")
ENGINES = ("auto", "mujoco", "gymnasium")
MOST_SUBSTEPS = 100_000


def check_number(
    name: str, value: Any, *, low: float, high: float = np.inf, integer: bool = False, open_low: bool = False
) -> None:
    """Raise unless ``value`` is a finite real (or whole) number in [low, high], or (low, high] where ``open_low``."""
    kind = Integral if integer else Real
    if isinstance(value, kind) and not isinstance(value, bool):
        number: Any = int(value) if isinstance(value, Integral) else float(value)
        if not integer and abs(number) > sys.float_info.max:
            number = np.inf  # a whole number beyond all that a float holds
        if low <= number <= high and abs(number) != np.inf and not (open_low and number == low):
            return
        error: type[Exception] = ValueError
    else:
        error = TypeError
    what = "an integer" if integer else "a number"
    left = "(" if open_low or low == -np.inf else "["
    right = ")" if high == np.inf else "]"
    raise error(f"{name} must be {what} in {left}{low}, {high}{right}; got {value!r:.100}.")


def check_flag(name: str, value: Any) -> None:
    """Raise unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False; got {value!r}.")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise unless ``value`` is one of the choices."""
    choices = sorted(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {choices}; got {value!r}.")


def check_schedule(name: str, value: Any, **bounds: Any) -> list[tuple[int, float]]:
    """A parameter that may change with the environment steps taken, as pairs (n_env_steps from which it holds, value).

    Accepts a number or a sequence of such pairs with rising first entries from 0; ``bounds`` are those of
    :func:`check_number`.
    """
    if isinstance(value, Real):
        check_number(name, value, **bounds)
        return [(0, float(value))]
    wanted = "a number, or pairs (n_env_steps, value) with rising whole n_env_steps that start at 0"
    message = f"{name} must be {wanted}; got {value!r}."
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(message)
    schedule = []
    for pair in value:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], Integral):
            raise TypeError(message)
        check_number(f"{name} from step {pair[0]}", pair[1], **bounds)
        schedule.append((int(pair[0]), float(pair[1])))
    starts = [start for start, _ in schedule]
    if starts[:1] != [0] or sorted(set(starts)) != starts:
        raise ValueError(message)
    return schedule


def check_horizon(value: Any) -> list[tuple[int, float]]:
    """``max_episode_steps`` as a schedule; None is no horizon."""
    return (
        [(0, np.inf)] if value is None else check_schedule("max_episode_steps", value, low=1, high=2**63, integer=True)
    )


def check_learning_rate(value: Any) -> list[tuple[int, float]]:
    """``learning_rate`` as a schedule."""
    return check_schedule("learning_rate", value, low=0, open_low=True)


def check_eps(value: Any) -> list[tuple[int, float]]:
    """``eps`` as a schedule."""
    return check_schedule("eps", value, low=0, high=0.5)


def scheduled(schedule: Sequence[tuple[int, float]], n_env_steps: int) -> float:
    """The value that a schedule has after so many environment steps."""
    return next(value for start, value in reversed(schedule) if start <= n_env_steps)


def check_fit(policy: Any) -> None:
    """Check the parameters that all estimators share."""
    check_number("observation_clip", policy.observation_clip, low=0, open_low=True)
    for name in ("normalize_observations", "warm_start"):
        check_flag(name, getattr(policy, name))
    if not isinstance(policy.verbose, bool):
        check_number("verbose", policy.verbose, low=0, integer=True)
    check_playing(policy)
    if isinstance(policy.score_threshold, str) and policy.score_threshold != "auto":
        raise ValueError(f'score_threshold must be "auto", a number or None; got {policy.score_threshold!r}.')
    if not isinstance(policy.score_threshold, str | None):
        check_number("score_threshold", policy.score_threshold, low=-np.inf)
    if not isinstance(policy.random_state, np.random.Generator | np.random.RandomState | None):
        check_number("random_state", policy.random_state, low=0, high=2**64 - 1, integer=True)


def check_playing(policy: Any) -> None:
    """Check the parameters that say how episodes are played."""
    check_choice("backend", policy.backend, BACKENDS)
    check_choice("engine", policy.engine, ENGINES)
    if policy.chunk_size is not None:
        check_number("chunk_size", policy.chunk_size, low=1, integer=True)
    if policy.timeout is not None:
        check_number("timeout", policy.timeout, low=0, open_low=True)
    if policy.n_jobs is not None:
        check_number("n_jobs", policy.n_jobs, low=-np.inf, integer=True)
    if policy.n_jobs == 0:
        raise ValueError("n_jobs must be None or a number of workers as in joblib, not 0.")


def check_evolution(policy: Any) -> None:
    """Check the parameters that the evolving estimators share."""
    check_fit(policy)

    def number(*names: str, **bounds: Any) -> None:
        for name in names:
            check_number(name, getattr(policy, name), **bounds)

    number("n_generations", "episodes_per_member", "eval_episodes", "confirm_episodes", low=1, integer=True)
    number("population_size", low=2, high=2**23, integer=True)
    check_flag("keep_best", policy.keep_best)
    if policy.max_env_steps is not None:
        number("max_env_steps", low=1, integer=True)
    check_choice("fitness_shaping", policy.fitness_shaping, FITNESS_SHAPINGS)
    check_horizon(policy.max_episode_steps)


def check_ec(policy: Any) -> Network:
    """Check the parameters of an EvolvingConnectivityPolicy; the network that they describe."""
    check_evolution(policy)
    if not isinstance(policy.initial_probability, Mapping):
        check_number("initial_probability", policy.initial_probability, low=0, high=1)
    check_learning_rate(policy.learning_rate)
    check_eps(policy.eps)
    check_choice("optimizer", policy.optimizer, OPTIMIZERS)
    if isinstance(policy.network, RealRSNN | GRU | LSTM):
        raise TypeError(f"network must have 1-bit connections, or train it by ESPolicy; got {policy.network!r}.")
    if not isinstance(policy.network, str):
        return check_own_network(policy.network)
    check_choice("network", policy.network, ["rsnn"])
    return make_network("rsnn", {field.name: getattr(policy, field.name) for field in fields(RSNN)})


def check_initial_probability(value: Any, shapes: Mapping[str, Shape]) -> float | dict[str, NDArray[np.float32]]:
    """The probabilities to start from: a number, or arrays (pre, post) by matrix, checked against these shapes."""
    if not isinstance(value, Mapping):
        return float(value)
    unknown = set(value) - set(shapes)
    if unknown:
        raise ValueError(f"initial_probability names the matrices {sorted(unknown)}; there are {list(shapes)}.")
    checked = {}
    for name, given in value.items():
        p, shape = np.asarray(given), (shapes[name].pre, shapes[name].post)
        if p.dtype.kind not in "fiub" or p.shape not in ((), shape):
            raise ValueError(
                f"initial_probability[{name!r}] must be a number, or an array of numbers of shape {shape}, presynaptic "
                f"by postsynaptic; got {p.dtype} of shape {p.shape}."
            )
        if not ((p >= 0) & (p <= 1)).all():  # NaN as well
            raise ValueError(f"initial_probability[{name!r}] must lie in [0, 1]; got {p.min()} to {p.max()}.")
        checked[name] = p.astype(np.float32)
    return checked


def check_es(policy: Any) -> Network:
    """Check the parameters of an ESPolicy; the network that they describe."""
    check_evolution(policy)
    if policy.population_size % 2:
        raise ValueError(f"population_size must be even, as members come in pairs; got {policy.population_size}.")
    if policy.chunk_size is not None and policy.chunk_size % 2:
        raise ValueError(f"chunk_size must be even, as members come in pairs; got {policy.chunk_size}.")
    if policy.sigma is not None:
        check_number("sigma", policy.sigma, low=0, open_low=True)
    if policy.learning_rate is not None:
        check_learning_rate(policy.learning_rate)
    check_number("weight_decay", policy.weight_decay, low=0)
    if not isinstance(policy.network, str):
        return check_own_network(policy.network, "initial_scales")
    check_choice("network", policy.network, ["rsnn", "gru", "lstm"])
    kind = "real-rsnn" if policy.network == "rsnn" else policy.network
    settings = {f.name: getattr(policy, f.name) for f in fields(NETWORKS[kind]) if hasattr(policy, f.name)}
    if policy.n_neurons is None:
        del settings["n_neurons"]
    return make_network(kind, settings)


def check_own_network(network: Any, *further: str) -> Network:
    """The network that was given as an object: one of this library, its settings checked, or one with its methods."""
    missing = [
        name for name in ("shapes", "initial_state", "step", *further) if not callable(getattr(network, name, 0))
    ]
    if missing or isinstance(network, type):
        what = f"without {', '.join(missing)}" if missing else "as a class; make an instance of it"
        raise TypeError(f"network must be a name or an object like ecpolicy.networks.Network; got {network!r} {what}.")
    for kind, make in NETWORKS.items():
        if type(network) is make:
            return make_network(kind, asdict(network))
    own: Network = network
    return own


def make_network(kind: str, settings: Mapping[str, Any]) -> Network:
    """The network of this kind with these settings, each checked; the others have their defaults."""
    make = NETWORKS[kind]
    bounds: dict[str, dict[str, Any]] = {
        "n_neurons": {"low": 1, "integer": True},
        "excitatory_ratio": {"low": 0, "high": 1},
        "density": {"low": 0, "high": 1, "open_low": True},
        **{name: {"low": 0, "open_low": True} for name in ("step_ms", "dt", "tau_syn", "tau_m", "tau_out")},
        **{name: {"low": 0} for name in ("gain_in", "gain_recurrent", "gain_out")},
    }
    checked: dict[str, Any] = {}
    for name, value in settings.items():
        if name in bounds:
            check_number(name, value, **bounds[name])
            checked[name] = int(value) if bounds[name].get("integer") else float(value)
        else:
            check_flag(name, value)
            checked[name] = bool(value)
    network: Network = make(**checked)
    if isinstance(network, RSNN | RealRSNN) and not 1 <= network.substeps <= MOST_SUBSTEPS:
        raise ValueError(
            f"dt must give 1 to {MOST_SUBSTEPS:,} substeps per step_ms of {network.step_ms}, so be at most step_ms; "
            f"got {network.dt}."
        )
    with np.errstate(over="ignore"):
        if isinstance(network, RSNN | RealRSNN) and not np.isfinite(network.constants(1)).all():
            raise ValueError(f"Times, gains and density must give constants of single precision; got {network}.")
    return network
