"""What a user may give as an environment, and what the rollouts get: strings become objects here."""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from ecpolicy.rollout.parallel import AnyEnv, Environment
from ecpolicy.spaces import check_spaces

ACCEPTED = (
    "an environment id, a gymnasium.Env, a gymnasium.vector.VectorEnv, a gymnasium EnvSpec, a callable that makes one, "
    "or a list of these"
)


class Resolved(NamedTuple):
    """Checked environments that share their spaces."""

    environments: tuple[Environment, ...]
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    reward_threshold: float | None  # mean of the registered thresholds, None unless all have one
    time_limited: bool  # every environment ends its episodes by a limit that it names
    vectorized: bool  # some environment is a VectorEnv
    names: tuple[str, ...]  # what tells one environment from another: class and id


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
        return resolve(given.tolist())
    else:
        items = [given]
    return _common([_probe(item) for item in items], items)


def _common(each: list[Resolved], items: list[Any]) -> Resolved:
    first = each[0]
    for other, item in zip(each[1:], items[1:], strict=True):
        for name in ("observation_space", "action_space"):
            if getattr(other, name) != getattr(first, name):
                raise ValueError(
                    f"A list of environments must share its spaces, but the {name} of {_name(items[0])} is "
                    f"{getattr(first, name)} and that of {_name(item)} is {getattr(other, name)}."
                )
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
    if isinstance(item, gym.Env | gym.vector.VectorEnv):
        return _describe(item, item)
    factory = _factory(item)
    try:
        made = factory()
    except gym.error.Error as error:
        raise ValueError(f"Gymnasium could not make {_name(item)}: {error}") from error
    if not isinstance(made, gym.Env | gym.vector.VectorEnv):
        raise TypeError(f"{_name(item)} made a {type(made).__name__}; wanted a gymnasium.Env or VectorEnv.")
    try:
        return _describe(made, factory)
    finally:
        made.close()


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
    single: Any = made
    if isinstance(made, gym.vector.VectorEnv):
        observation_space, action_space = made.single_observation_space, made.single_action_space
        single = next(iter(getattr(made, "envs", [])), made)
    else:
        observation_space, action_space = made.observation_space, made.action_space
    check_spaces(observation_space, action_space)
    spec, kind = getattr(single, "spec", None), type(single.unwrapped)
    return Resolved(
        (environment,),
        observation_space,
        action_space,
        getattr(spec, "reward_threshold", None),
        getattr(spec, "max_episode_steps", None) is not None or _has_time_limit(single),
        single is not made or isinstance(made, gym.vector.VectorEnv),
        (f"{kind.__module__}.{kind.__qualname__} {getattr(spec, 'id', '')}".strip(),),
    )


def _has_time_limit(environment: Any) -> bool:
    while isinstance(environment, gym.Wrapper):
        if isinstance(environment, gym.wrappers.TimeLimit):
            return True
        environment = environment.env
    return False


def _name(item: Any) -> str:
    if isinstance(item, str):
        return repr(item)
    if isinstance(item, EnvSpec):
        return repr(item.id)
    return str(item)
