"""Whether an environment is what its id stands for, and the time limit that it names."""

import contextlib
import copy
import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from ecpolicy.cleanup import cleaning_up
from ecpolicy.identity import chain, identity_of, same, told, told_apart
from ecpolicy.rollout.workers import AnyEnv, close_all

NO_LIMIT = 2**31 - 1  # steps
BRAX = "brax/"  # how ids of Brax environments begin


def registered_ids(identities: Iterable[str]) -> list[str]:
    """The ids of environments, as far as they have any: in Gymnasium's registry, or Brax's."""
    names = [told(identity).split(" ") for identity in identities]
    ids = [_brax_id(parts[0]) or parts[1] for parts in names if len(parts) > 1]
    return [name for name in dict.fromkeys(ids) if name.startswith(BRAX) or name in gym.registry]


def _brax_id(kind: str) -> str:
    """The id of Brax's environment of this class, or nothing: its classes stand in modules of their names."""
    module = kind.split(".")
    return BRAX + module[2] if module[:2] == ["brax", "envs"] and len(module) == 4 else ""


def _is_as_in_envpool(spec: Any) -> bool:
    """Whether EnvPool's registry has a task of exactly this configuration."""
    registry = getattr(sys.modules.get("envpool.registration"), "registry", None)
    if registry is None or not hasattr(spec, "gen_config"):
        return False
    given, tasks = told_apart(spec.config._asdict()), registry.specs.values()
    return any(
        kind == type(spec).__name__ and told_apart(spec.gen_config(**settings)._asdict()) == given
        for _, kind, settings in tasks
    )


def is_gymnasiums(spec: EnvSpec) -> bool:
    """Whether Gymnasium itself has the environment of this spec."""
    return isinstance(spec.entry_point, str) and spec.entry_point.startswith("gymnasium.")


def is_as_registered(given: Sequence[AnyEnv], identity: str, vectorized: bool) -> bool:
    """Whether environments of this identity are what their id stands for; a threshold is of that alone."""
    spec: object = given[0].spec
    if not isinstance(spec, EnvSpec):
        return _is_as_in_envpool(spec)
    registered = gym.registry.get(spec.id)
    if registered is None:  # the spec itself is all that is known of it
        registered = copy.copy(spec)
        registered.additional_wrappers = ()
    makers: list[Callable[..., AnyEnv]] = [functools.partial(gym.make, disable_env_checker=True)]
    if vectorized and registered.vector_entry_point is not None:
        makers.append(functools.partial(gym.make_vec, vectorization_mode="vector_entry_point"))
    found: list[AnyEnv] = []
    with cleaning_up(lambda: close_all(found)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for maker in makers:
            with contextlib.suppress(Exception):  # of one that cannot be made without further settings
                found.append(maker(registered))
        alike = [one for one in found if same([identity], [identity_of(one, one.spec, time_limit(one))])]
        return bool(alike) and not _are_changed(given, alike[0])


def _are_changed(given: Sequence[AnyEnv], fresh: AnyEnv) -> bool:
    """Whether somebody has set what environments are made with: a method, or a number that playing leaves alone."""
    if any({"step", "reset"} & set(vars(part)) for one in given for part in (one.unwrapped, *chain(one))):
        return True
    before = _numbers(fresh)
    if isinstance(fresh, gym.Env):
        fresh.action_space.seed(0)
        fresh.reset(seed=0)
        over, steps = False, 0
        while not over and steps < 200:
            _, _, terminated, truncated, _ = fresh.step(fresh.action_space.sample())
            over, steps = bool(terminated or truncated), steps + 1
    after = _numbers(fresh)
    steady = {name: number for name, number in before.items() if after.get(name) == number}
    return any(_numbers(one).get(name) != number for one in given for name, number in steady.items())


def _numbers(environment: AnyEnv) -> dict[str, object]:
    held = told_apart(vars(environment.unwrapped))
    return {name: part for name, part in held.items() if isinstance(part, bool | int | float)}


def time_limit(environment: object) -> int | None:
    """The time limit of an environment: the least that its spec and its wrappers name."""
    wrapped = [w._max_episode_steps for w in chain(environment) if isinstance(w, gym.wrappers.TimeLimit)]
    limits = [limit for limit in (_limit(getattr(environment, "spec", None)), *wrapped) if limit is not None]
    return min(limits, default=None)


def _limit(spec: object) -> int | None:
    """The time limit that a spec names; EnvPool's have it in their ``config``, the largest int being none."""
    limit: int | None = getattr(spec, "max_episode_steps", None)
    if limit is None:
        limit = getattr(getattr(spec, "config", None), "max_episode_steps", None)
    return None if limit is None or limit >= NO_LIMIT else limit
