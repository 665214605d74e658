"""What a user may give as an environment, and what the rollouts get: strings become objects here."""

import contextlib
import functools
import inspect
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from ecpolicy.optional import require
from ecpolicy.rollout.parallel import AnyEnv, Environment, close_all
from ecpolicy.spaces import check_spaces, interchangeable

ACCEPTED = (
    "an environment id, a gymnasium.Env, a gymnasium.vector.VectorEnv, a gymnasium EnvSpec, an environment of Brax or "
    "MuJoCo Playground, a callable that makes one, or a list of these"
)
NO_LIMIT = 2**31 - 1  # steps
WITHOUT_EFFECT = {  # settings that change no return
    "render_mode", "num_envs", "batch_size", "num_threads", "max_num_players", "thread_affinity_offset", "base_path",
    "seed",
}  # fmt: skip
BRAX = "brax/"  # how ids of Brax environments begin


class Resolved(NamedTuple):
    """Checked environments that share their spaces."""

    environments: tuple[Environment, ...]
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    reward_threshold: float | None  # mean of the registered thresholds, None unless all have one
    time_limited: bool  # every environment ends its episodes by a limit that it names
    vectorized: bool  # some environment is a VectorEnv
    on_device: bool  # the environments are JAX programs, as those of Brax and MuJoCo Playground are
    names: tuple[str, ...]  # what tells one environment from another: class, id and settings


def resolve(given: Any) -> Resolved:
    """Check what ``fit`` or ``score`` was given and find out its spaces.

    Raises
    ------
    TypeError, ValueError
        Naming what was given and what is accepted.
    """
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        items = list(given)
        if not items:
            raise ValueError(f"Got an empty list of environments; wanted {ACCEPTED}.")
        if len(items) > 1 and all(isinstance(item, str) and len(item) == 1 for item in items):
            raise ValueError(
                f"Got a list of single characters, {''.join(items)!r} split up. Give one environment id as it is, or a "
                f"list of ids: [{''.join(items)!r}]."
            )
    elif hasattr(given, "__array__") and not isinstance(given, gym.Env | gym.vector.VectorEnv):
        return resolve(np.asarray(given).tolist())
    else:
        items = [given]
    return _common([_probe(item) for item in items], items)


def _common(each: list[Resolved], items: list[Any]) -> Resolved:
    first = each[0]
    for other, item in zip(each[1:], items[1:], strict=True):
        for name in ("observation_space", "action_space"):
            if not interchangeable(getattr(other, name), getattr(first, name)):
                raise ValueError(
                    f"A list of environments must share its spaces, but the {name} of {_name(items[0])} is "
                    f"{getattr(first, name)} and that of {_name(item)} is {getattr(other, name)}."
                )
    if len({e.on_device for e in each}) > 1:
        raise ValueError("A list cannot mix Gymnasium environments with those of Brax or MuJoCo Playground.")
    thresholds = [e.reward_threshold for e in each]
    known = [t for t in thresholds if t is not None]
    return first._replace(
        environments=tuple(e.environments[0] for e in each),
        reward_threshold=sum(known) / len(known) if len(known) == len(each) else None,
        time_limited=all(e.time_limited for e in each),
        vectorized=any(e.vectorized for e in each),
        names=tuple(e.names[0] for e in each),
    )


def _probe(item: Any) -> Resolved:
    """Make an environment once to see its spaces; an instance is looked at and kept."""
    if isinstance(item, str) and item.startswith(BRAX):
        item = _brax(item.removeprefix(BRAX))
    if is_device_environment(item):
        return _describe_device(item)
    if isinstance(item, gym.Env | gym.vector.VectorEnv):
        return _describe(item, item)
    factory = _factory(item)
    try:
        made = factory()
    except gym.error.Error as error:
        raise ValueError(f"Gymnasium could not make {_name(item)}: {error}") from error
    if is_device_environment(made):
        return _describe_device(made)
    if not isinstance(made, gym.Env | gym.vector.VectorEnv):
        raise TypeError(f"{_name(item)} made a {type(made).__name__}; wanted a gymnasium.Env or VectorEnv.")
    try:
        return _describe(made, factory)
    finally:
        close_all([made])


def _factory(item: Any) -> Any:
    if isinstance(item, str):
        with contextlib.suppress(gym.error.Error):
            item = gym.spec(item)  # it travels to workers that do not know the id
    if isinstance(item, str | EnvSpec):
        return functools.partial(gym.make, item, disable_env_checker=True)
    if callable(item):
        return item
    raise TypeError(f"Got an environment of type {type(item).__name__}; wanted {ACCEPTED}.")


def _describe(made: AnyEnv, environment: Environment) -> Resolved:
    vectorized = isinstance(made, gym.vector.VectorEnv)
    if isinstance(made, gym.vector.VectorEnv):
        observation_space, action_space = made.single_observation_space, made.single_action_space
    else:
        observation_space, action_space = made.observation_space, made.action_space
    check_spaces(observation_space, action_space)
    with _single(made) as single:
        spec, kind = getattr(single, "spec", None), type(single.unwrapped)
        limit = _limit(spec) or _wrapped_limit(single)
    return Resolved(
        (environment,),
        observation_space,
        action_space,
        reward_threshold=getattr(spec, "reward_threshold", None),
        time_limited=limit is not None,
        vectorized=vectorized,
        on_device=False,
        names=(f"{kind.__module__}.{kind.__qualname__} {getattr(spec, 'id', '')} {_settings(spec, limit)}".strip(),),
    )


@contextlib.contextmanager
def _single(made: AnyEnv) -> Iterator[AnyEnv]:
    """One environment to look at; of a VectorEnv a sub-environment, as far as it is in reach, or a new one like it."""
    inner: Any = made.unwrapped
    if isinstance(inner, gym.vector.AsyncVectorEnv):  # whose sub-environments are in other processes
        one = inner.env_fns[0]()
        try:
            yield one
        finally:
            close_all([one])
    else:
        yield next(iter(getattr(inner, "envs", [])), made) if isinstance(made, gym.vector.VectorEnv) else made


def check_trained_for(policy: Any, resolved: Resolved) -> None:
    """Raise ValueError unless a fitted policy was trained for the spaces of these environments."""
    for name in ("observation_space", "action_space"):
        trained, given = getattr(policy, f"{name}_"), getattr(resolved, name)
        if not interchangeable(trained, given):
            raise ValueError(f"The policy was trained for the {name} {trained}; the environment has {given}.")


def registered_ids(policy: Any) -> list[str]:
    """The ids of what a policy was trained on, as far as it has any: in Gymnasium's registry, or Brax's."""
    names = [name.split(" ") for name in policy._training.setting.environments]
    ids = [_brax_id(parts[0]) or parts[1] for parts in names if len(parts) > 1]
    return [name for name in dict.fromkeys(ids) if name.startswith(BRAX) or name in gym.registry]


def _brax_id(kind: str) -> str:
    """The id of Brax's environment of this class, or nothing: its classes stand in modules of their names."""
    module = kind.split(".")
    return BRAX + module[2] if module[:2] == ["brax", "envs"] and len(module) == 4 else ""


def is_device_environment(item: Any) -> bool:
    """Whether this looks like an environment of Brax or MuJoCo Playground."""
    if isinstance(item, gym.Env | gym.vector.VectorEnv | type):
        return False
    wanted = ("reset", "step", "observation_size", "action_size")
    return all(inspect.getattr_static(item, name, None) is not None for name in wanted)


def _describe_device(environment: Any) -> Resolved:
    require("jax", "A Brax or MuJoCo Playground environment")
    from ecpolicy.rollout import device

    obs_size, action_size = device.sizes(environment)
    limit, kind = getattr(environment, "episode_length", None), type(getattr(environment, "unwrapped", environment))
    physics = getattr(environment, "backend", "")
    return Resolved(
        (environment,),
        gym.spaces.Box(-np.inf, np.inf, (obs_size,), np.float32),
        gym.spaces.Box(-1.0, 1.0, (action_size,), np.float32),
        reward_threshold=None,
        time_limited=limit is not None,
        vectorized=False,
        on_device=True,
        names=(f"{kind.__module__}.{kind.__qualname__} {physics}".strip(),),
    )


@functools.lru_cache(maxsize=16)  # the same object each time: programs are compiled for an object
def _brax(name: str) -> Any:
    """The Brax environment of this name, without wrappers."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # Brax warns that its environments are no longer maintained, and prints which other engines are missing.
        warnings.simplefilter("ignore")
        require("brax", f"The environment {BRAX + name!r}")
        from brax import envs

        known = sorted(envs._envs)
        if name not in known:
            raise ValueError(f"Brax has no environment {name!r}; it has {', '.join(known)}.")
        return envs.get_environment(name)


def _limit(spec: Any) -> int | None:
    """The time limit that a spec names; EnvPool's have it in their ``config``, the largest int being none."""
    limit: int | None = getattr(spec, "max_episode_steps", None)
    if limit is None:
        limit = getattr(getattr(spec, "config", None), "max_episode_steps", None)
    return None if limit is None or limit >= NO_LIMIT else limit


def _settings(spec: Any, limit: int | None) -> str:
    """What an environment was made with, beside its id, as far as it can change returns, and its time limit."""
    config: Any = getattr(spec, "config", None)
    given = {**getattr(spec, "kwargs", {}), **(config._asdict() if hasattr(config, "_asdict") else {})}
    given["max_episode_steps"] = limit
    told = {name: value for name, value in sorted(given.items()) if name not in WITHOUT_EFFECT}
    return ", ".join(f"{name}={value!r}" for name, value in told.items() if isinstance(value, str | float | int))


def _wrapped_limit(environment: Any) -> int | None:
    """The time limit of a wrapper."""
    while isinstance(environment, gym.Wrapper):
        if isinstance(environment, gym.wrappers.TimeLimit):
            return environment._max_episode_steps
        environment = environment.env
    return None


def _name(item: Any) -> str:
    if isinstance(item, str):
        return repr(item)
    if isinstance(item, EnvSpec):
        return repr(item.id)
    return str(item)
