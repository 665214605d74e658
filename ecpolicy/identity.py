"""What tells two environments apart, in one place: class, id, all settings by value, the chain of wrappers.

Whatever asks whether this is the task from before asks this module: a search that goes on, a registered reward
threshold, a compiled program. Values are compared by content, code by its bytecode. What cannot be looked into counts
as different, even from itself. What classes and modules hold beside code is left out, as it may count episodes, except
where it is compiled into a program.
"""

import functools
import hashlib
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence, Set
from enum import Enum
from pathlib import PurePath
from typing import NamedTuple

import gymnasium as gym
import numpy as np

UNKNOWN = "?"
INSTANCE = "~"  # in place of a hash: what an instance holds changes as it is played
LENGTH = re.compile(r" for \d+ steps$")

WITHOUT_EFFECT = {  # settings that change no return
    "render_mode", "num_envs", "batch_size", "num_threads", "max_num_players", "thread_affinity_offset", "base_path",
    "seed", "env_seed", "gym_reset_return_info",
}  # fmt: skip
PASSIVE = (  # wrappers that change nothing that is played, and the one whose limit is told apart
    gym.wrappers.OrderEnforcing, gym.wrappers.PassiveEnvChecker, gym.wrappers.RecordEpisodeStatistics,
    gym.wrappers.RecordVideo, gym.wrappers.HumanRendering, gym.wrappers.RenderCollection, gym.wrappers.TimeLimit,
    gym.wrappers.vector.RecordEpisodeStatistics, gym.wrappers.vector.RecordVideo, gym.wrappers.vector.HumanRendering,
)  # fmt: skip
STATE = {"env", "envs", "_np_random", "_np_random_seed", "spec", "_cached_spec", "_saved_kwargs"}  # no settings
LIBRARIES = {"abc", "brax", "builtins", "collections", "enum", "envpool", "flax", "gymnasium", "jax", "jaxlib",
             "mujoco", "mujoco_playground", "numpy", "typing"}  # fmt: skip
SLOTS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    type(vars(NamedTuple("Pair", [("field", int)]))["field"]),
)  # say where a value is kept
CODE = types.FunctionType, staticmethod, classmethod, property, functools.cached_property
DEEPEST, MOST = 24, 100_000  # values within values, and values in all, that are looked into


def same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether environments of these identities are known to be the same."""
    unsure = f"#{UNKNOWN}", f"#{INSTANCE}"
    return list(one) == list(other) and not any(mark in identity for identity in one for mark in unsure)


def known_different(one: str, other: str) -> bool:
    """Whether environments of these identities are known to be different, however long their episodes are."""
    a, b = (LENGTH.sub("", identity).partition(" #") for identity in (one, other))
    return a[0] != b[0] or (a[2] != b[2] and not {a[2], b[2]} & {UNKNOWN, INSTANCE, ""})


def of_instance(identity: str) -> str:
    """The identity of an instance: without the hash of what changes as it is played."""
    name, mark, found = identity.partition(" #")
    return f"{name} #{INSTANCE}" if mark and found != UNKNOWN else identity


def with_length(identity: str, steps: float) -> str:
    """The identity of an environment whose episodes are cut after so many steps, as it has no time limit."""
    return f"{identity} for {steps:.0f} steps"


def told(identity: str) -> str:
    """An identity as a person reads it, without the hash of what has no short name."""
    return identity.partition(" #")[0]


def identity_of(
    environment: object, spec: object, limit: int | None, *, around: Sequence[object] = (), compiled: bool = False
) -> str:
    """The identity of an environment: its class, its id, its settings, its wrappers and a hash of what is not so short.

    Parameters
    ----------
    environment : gymnasium.Env, VectorEnv or environment in JAX
    spec : EnvSpec, the spec of EnvPool, or None
        What it was made with.
    limit : int or None
        Its time limit, in steps.
    around : sequence of gymnasium.vector.VectorWrapper
        Wrappers of the vector environment that it is in.
    compiled : bool
        Whether its code is compiled, with the values of classes and modules that it looks up.
    """
    inner = getattr(environment, "unwrapped", environment)
    config = getattr(spec, "config", None)
    given = told_apart({**getattr(spec, "kwargs", {}), **getattr(config, "_asdict", dict)()})
    given |= {} if limit is None else {"max_episode_steps": limit}
    short = {name: value for name, value in given.items() if isinstance(value, str | float | int)}
    hidden: list[object] = [{name: value for name, value in given.items() if name not in short}]
    if spec is None:  # what it was made with is in its attributes
        hidden.append(_Settings(inner))
    if not _is_of_a_library(type(inner)):
        hidden.append(type(inner))
    words = [getattr(spec, "id", "") or getattr(inner, "backend", "")]
    words.append(", ".join(f"{name}={value!r}" for name, value in sorted(short.items())))
    for wrapper in [*around, *chain(environment)]:
        if type(wrapper) not in PASSIVE:
            words.append(f"in {type(wrapper).__qualname__}")
            hidden += [type(wrapper), _Settings(wrapper)]
    name = " ".join([f"{type(inner).__module__}.{type(inner).__qualname__}", *words]).rstrip()
    described = [text for text in (description(part, compiled=compiled) for part in hidden) if text != "{}"]
    if not described:
        return name
    return f"{name} #{UNKNOWN if UNKNOWN in described else _hash(' '.join(described).encode())}"


def told_apart(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that can change a return."""
    return {name: value for name, value in settings.items() if name not in WITHOUT_EFFECT and value is not None}


def chain(environment: object) -> Iterator[object]:
    """The wrappers of an environment, the outermost first."""
    while getattr(environment, "unwrapped", environment) is not environment and hasattr(environment, "env"):
        yield environment
        environment = environment.env


def description(value: object, *, compiled: bool = False) -> str:
    """A value in words that equal values share, and they alone; ``UNKNOWN`` where it cannot be looked into."""
    try:
        return _Describer(compiled).of(value)
    except Exception:  # what is looked into may raise anything
        return UNKNOWN


class _Settings(NamedTuple):
    """Stands for what an object was made with, apart from its class."""

    owner: object


class _CannotTell(Exception):  # noqa: N818 -- not an error of anybody's
    """There is something that cannot be compared by value."""


class _Describer:
    """Describes a value and all that is in it."""

    def __init__(self, compiled: bool) -> None:
        self._compiled = compiled
        self._open: list[int] = []  # ids of what is being described: a value can contain itself
        self._n = 0

    def of(self, value: object) -> str:
        self._n += 1
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | range | type(...)):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._open:
            return f"above {len(self._open) - self._open.index(id(value))}"
        if len(self._open) > DEEPEST or self._n > MOST:
            raise _CannotTell
        self._open.append(id(value))
        try:
            return self._of(value)
        finally:
            self._open.pop()

    def _of(self, value: object) -> str:
        kind = type(value)
        if isinstance(value, _Settings):
            return self.of(_settings(value.owner))
        if isinstance(value, type):
            return self._of_class(value)
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        if isinstance(value, types.CodeType):
            constants = [self.of(constant) for constant in value.co_consts]
            return f"code {_hash(value.co_code)} {value.co_names} {constants}"
        if isinstance(value, types.MethodType):
            return f"{self.of(value.__func__)} of {self.of(value.__self__)}"
        if isinstance(value, types.BuiltinFunctionType | np.ufunc):
            owner = getattr(value, "__self__", None)
            bound = "" if owner is None or isinstance(owner, types.ModuleType) else f" of {self.of(owner)}"
            return f"{getattr(value, '__module__', '')}.{value.__name__}{bound}"
        if isinstance(value, functools.partial):
            return f"partial {self.of([value.func, value.args, value.keywords])}"
        if not isinstance(value, type) and hasattr(value, "__wrapped__"):  # compiled, cached, static
            return f"{kind.__name__} {self.of(value.__wrapped__)}"
        if isinstance(value, functools.cached_property):
            return f"{kind.__name__} {self.of(value.func)}"
        if isinstance(value, property):
            return f"property {self.of([value.fget, value.fset])}"
        if isinstance(value, Enum):
            return f"{_name(kind)}.{value.name}"
        if isinstance(value, PurePath | np.dtype):
            return f"{_name(kind)} {value}"
        if isinstance(value, np.random.Generator):
            return f"generator {self.of(value.bit_generator.state)}"
        if kind.__name__ == "MjModel" and kind.__module__.startswith("mujoco"):
            mujoco = sys.modules["mujoco"]
            model = np.empty(mujoco.mj_sizeModel(value), np.uint8)
            mujoco.mj_saveModel(value, None, model)
            return f"MjModel {_hash(model.tobytes())}"
        if hasattr(value, "__array__"):
            return self._of_array(value)
        return self._of_container(value)

    def _of_array(self, value: object) -> str:
        try:
            array = np.asarray(value)
        except Exception:  # of a library's own
            raise _CannotTell from None
        if array.dtype.kind == "O":
            return f"objects {array.shape} {[self.of(part) for part in array.ravel()]}"
        return f"array {array.dtype.str} {array.shape} {_hash(np.ascontiguousarray(array).tobytes())}"

    def _of_container(self, value: object) -> str:
        kind = type(value)
        inside = []
        if isinstance(value, Mapping):
            inside = [f"{{{', '.join(sorted(f'{self.of(key)}: {self.of(part)}' for key, part in value.items()))}}}"]
            if kind is dict:
                return inside[0]
        elif isinstance(value, Set):
            inside = sorted(self.of(part) for part in value)
        elif isinstance(value, tuple | list):
            inside = [self.of(part) for part in value]
        attributes = _settings(value)
        if not isinstance(value, Mapping | Set | tuple | list) and not hasattr(value, "__dict__") and not attributes:
            raise _CannotTell
        return f"{self._of_class(kind)}({', '.join(inside)}) {self.of(attributes) if attributes else ''}"

    def _of_function(self, function: types.FunctionType) -> str:
        """Code, and the values that it was made with and looks up."""
        where = f"{function.__module__}.{function.__qualname__}"
        if function.__module__ and function.__module__.partition(".")[0] in LIBRARIES:
            return where
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        names = [name for name in function.__code__.co_names if name in function.__globals__]
        used = {name: self._of_global(function.__globals__[name], function.__module__) for name in names}
        made = [self.of(part) for part in (function.__code__, function.__defaults__, function.__kwdefaults__, cells)]
        return f"{where} {made} {used}"

    def _of_global(self, value: object, module: str | None) -> str:
        """What a function looks up: code where it is the module's own, else a name."""
        if isinstance(value, type | types.FunctionType):
            return _name(value) if value.__module__ != module else self.of(value)
        return self.of(value) if self._compiled else ""

    def _of_class(self, kind: type) -> str:
        """Its name; of a class of the user's also its code."""
        if _is_of_a_library(kind):
            return _name(kind)
        parts = [_name(kind)]
        for base in kind.__mro__:
            if not _is_of_a_library(base):
                parts += [
                    f"{name}={self.of(part)}"
                    for name, part in sorted(vars(base).items())
                    if isinstance(part, CODE) or (self._compiled and not _is_of_python(name, part))
                ]
        return " ".join(parts)


def _is_of_python(name: str, part: object) -> bool:
    """Whether something in a class was put there by Python and not by who wrote the class."""
    return name.startswith("__") or name == "_abc_impl" or isinstance(part, SLOTS)


def _settings(value: object) -> dict[str, object]:
    """What an object was made with: its constructor's arguments where it recorded them, else its attributes."""
    recorded = getattr(value, "_saved_kwargs", None)
    held = dict(getattr(value, "__dict__", {})) if recorded is None else dict(recorded)
    for base in type(value).__mro__ if recorded is None else ():
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                held[name] = getattr(value, name)
    return {name: part for name, part in held.items() if name not in STATE}


def _is_of_a_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in LIBRARIES


def _name(kind: type | types.FunctionType) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
