"""What a user may give as an environment, and what the rollouts get: strings become objects here."""

import contextlib
import copy
import functools
import inspect
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from ecpolicy.cleanup import cleaning_up
from ecpolicy.constraints import meant
from ecpolicy.identity import chain, description, identity_of, of_instance, told
from ecpolicy.ids import registered_spec
from ecpolicy.optional import require
from ecpolicy.registered import BRAX, is_as_registered, is_gymnasiums, time_limit
from ecpolicy.rollout import pool, vector
from ecpolicy.rollout.mujoco.recognised import recognised
from ecpolicy.rollout.mujoco.robot import Robot
from ecpolicy.rollout.workers import AnyEnv, Environment, close_all
from ecpolicy.spaces import check_spaces, interchangeable
from ecpolicy.untyped import Space

ACCEPTED = (
    "an environment id, a gymnasium.Env, a gymnasium.vector.VectorEnv, a gymnasium EnvSpec, an environment of Brax or "
    "MuJoCo Playground, a callable that makes one, or a list of these"
)
ENDLESS_EPISODE = 1000.0  # steps that are played of an environment where nothing says how many, as in the paper


class Resolved(NamedTuple):
    """Checked environments that share their spaces."""

    environments: tuple[Environment, ...]
    observation_space: Space
    action_space: Space
    reward_threshold: float | None  # mean of the registered thresholds, None unless all count
    limits: tuple[float, ...]  # the time limits that the environments name, in steps; inf without one
    vectorized: bool  # some environment is a VectorEnv
    on_device: bool  # the environments are JAX programs, as those of Brax and MuJoCo Playground are
    identities: tuple[str, ...]  # what tells one environment from another, see :mod:`ecpolicy.identity`
    registrations: tuple[EnvSpec, ...] = ()  # of ids that workers may not know
    notes: tuple[str, ...] = ()  # how the environments were understood, for people
    robots: tuple[Robot | str, ...] = ()  # what the native engine plays, or why it does not play an environment

    def horizons(self, wanted: float = np.inf, *, otherwise: float) -> tuple[float, ...]:
        """Steps after which an episode is cut, by environment: the one rule of how long an episode lasts.

        A time limit that the environment names holds in any case, and so does ``wanted`` where it is finite. Where
        there is neither, episodes end after ``otherwise``.
        """
        return tuple(cut if np.isfinite(cut) else otherwise for cut in (min(wanted, own) for own in self.limits))


class Trained(Protocol):
    """A fitted policy, as far as its environments are concerned."""

    observation_space_: Space
    action_space_: Space


def resolve(given: object) -> Resolved:
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


def _common(each: list[Resolved], items: list[object]) -> Resolved:
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
        limits=tuple(e.limits[0] for e in each),
        vectorized=any(e.vectorized for e in each),
        identities=tuple(e.identities[0] for e in each),
        registrations=tuple({spec.id: spec for e in each for spec in e.registrations}.values()),
        notes=tuple(dict.fromkeys(note for e in each for note in e.notes)),
        robots=tuple(robot for e in each for robot in e.robots),
    )


def _probe(item: object) -> Resolved:
    """Make an environment once to see its spaces; an instance is looked at and kept."""
    if isinstance(item, str) and item.startswith(BRAX):
        item = _brax(item.removeprefix(BRAX))
    if is_device_environment(item):
        return _describe_device(item)
    if isinstance(item, gym.Env | gym.vector.VectorEnv):
        return _describe(item, item)._replace(robots=("it is an instance, which is played as it is",))
    factory = _factory(item)
    try:
        made = factory()
    except gym.error.Error as error:
        raise ValueError(f"Gymnasium could not make {_name(item)}: {error}") from error
    if is_device_environment(made):
        return _describe_device(made)
    if not isinstance(made, gym.Env | gym.vector.VectorEnv):
        raise TypeError(f"{_name(item)} made a {type(made).__name__}; wanted a gymnasium.Env or VectorEnv.")
    with cleaning_up(lambda: close_all([made])):
        return _describe(made, factory, by_id=isinstance(item, str))._replace(robots=(_robot(made, item, factory),))


def _robot(made: AnyEnv, item: object, factory: Callable[[], AnyEnv]) -> Robot | str:
    """The robot that the environments of a factory are, or why they are not played natively."""
    if isinstance(made, gym.vector.VectorEnv):
        return "it is a VectorEnv"
    robot = recognised(made)
    if isinstance(robot, str) or isinstance(item, str | EnvSpec):
        return robot
    with contextlib.suppress(Exception):  # is raised where it is made to be played
        another = factory()
        with cleaning_up(lambda: close_all([another])):
            same_again = isinstance(another, gym.Env) and description(recognised(another)) == description(robot)
            return robot if same_again else "what makes it makes another one every time"
    return "it could not be made twice"


def _factory(item: object) -> Callable[[], AnyEnv]:
    if isinstance(item, str):
        with contextlib.suppress(gym.error.Error):
            item = registered_spec(item)
    if isinstance(item, EnvSpec):
        item = _to_travel(item)  # to workers that do not know the id
    if isinstance(item, str | EnvSpec):
        return functools.partial(gym.make, item, disable_env_checker=True)
    if callable(item):
        return item
    raise TypeError(f"Got an environment of type {type(item).__name__}; wanted {ACCEPTED}.")


def _to_travel(spec: EnvSpec) -> EnvSpec:
    """A spec that makes the environment in another process, too: what stands in the script goes with it."""
    if not isinstance(spec.entry_point, str) or not spec.entry_point.startswith("__main__:"):
        return spec
    travelling: Any = copy.copy(spec)
    travelling.entry_point = load_env_creator(spec.entry_point)
    made: EnvSpec = travelling
    return made


def _describe(made: AnyEnv, environment: Environment, *, by_id: bool = False) -> Resolved:
    vectorized = isinstance(made, gym.vector.VectorEnv)
    prefix = "single_" if vectorized else ""
    spaces: list[Any] = [getattr(made, f"{prefix}{name}", None) for name in ("observation_space", "action_space")]
    for name, space in zip(("observation_space", "action_space"), spaces, strict=True):
        if not isinstance(space, gym.Space):
            raise TypeError(
                f"{made} has the {prefix}{name} {space!r}; wanted a gymnasium.Space. Set {prefix}observation_space and "
                f"{prefix}action_space in its class or its constructor."
            )
    observation_space, action_space = spaces
    check_spaces(observation_space, action_space)
    if isinstance(made, gym.vector.VectorEnv):
        vector.check_lanes(made)
        if not pool.is_pool(made):
            vector.autoreset_mode(made)
    with _looked_at(made) as each:
        spec, limits = getattr(each[0], "spec", None), [time_limit(one) for one in each]
        around = [] if each[0] is made else list(chain(made))
        identities = [
            identity_of(one, getattr(one, "spec", None), limit, around=around)
            for one, limit in zip(each, limits, strict=True)
        ]
        identity = " and ".join(dict.fromkeys(identities))
        counts = getattr(spec, "reward_threshold", None) is not None and not by_id
        as_registered = not counts or is_as_registered(each, identity, vectorized)
    named = [limit for limit in limits if limit is not None]
    limit = max(named) if len(named) == len(limits) else None
    threshold, notes = getattr(spec, "reward_threshold", None), []
    if threshold is not None and not as_registered:
        notes.append(
            f"The registered reward threshold of {threshold} does not count, as the environment is not played as "
            f"registered: {told(identity)}. Give score_threshold a number to end at a return."
        )
        threshold = None
    known = gym.registry.get(getattr(spec, "id", ""))
    return Resolved(
        (environment,),
        observation_space,
        action_space,
        reward_threshold=threshold,
        limits=(np.inf if limit is None else float(limit),),
        vectorized=vectorized,
        on_device=False,
        identities=(of_instance(identity) if environment is made else identity,),
        registrations=() if known is None or is_gymnasiums(known) else (_to_travel(known),),
        notes=tuple(notes),
    )


@contextlib.contextmanager
def _looked_at(made: AnyEnv) -> Iterator[list[AnyEnv]]:
    """What tells what is played: of a VectorEnv its sub-environments, as far as they are in reach, or one like them."""
    inner: object = made.unwrapped
    if isinstance(inner, gym.vector.AsyncVectorEnv):  # whose sub-environments are in other processes
        one = inner.env_fns[0]()
        with cleaning_up(lambda: close_all([one])):
            yield [one]
    else:
        lanes = getattr(inner, "envs", ()) if isinstance(made, gym.vector.VectorEnv) else ()
        yield [one for one in lanes if isinstance(one, gym.Env)] or [made]


def check_trained_for(policy: Trained, resolved: Resolved) -> None:
    """Raise ValueError unless a fitted policy was trained for the spaces of these environments."""
    for name, trained, given in other_spaces(policy, resolved):
        raise ValueError(f"The policy was trained for the {name} {trained}: give one with it in the place of {given}.")


def other_spaces(policy: Trained, resolved: Resolved) -> Iterator[tuple[str, Space, Space]]:
    """The spaces that are not those of the training: the name, what a policy was trained for, what there is."""
    for name in ("observation_space", "action_space"):
        trained, given = getattr(policy, f"{name}_"), getattr(resolved, name)
        if not interchangeable(trained, given):
            yield name, trained, given


def is_device_environment(item: object) -> bool:
    """Whether this looks like an environment of Brax or MuJoCo Playground."""
    if isinstance(item, gym.Env | gym.vector.VectorEnv | type):
        return False
    wanted = ("reset", "step", "observation_size", "action_size")
    return all(inspect.getattr_static(item, name, None) is not None for name in wanted)


def _describe_device(environment: Any) -> Resolved:
    require("jax", "A Brax or MuJoCo Playground environment")
    from ecpolicy.rollout.device_environment import sizes

    obs_size, action_size = sizes(environment)
    limit = getattr(environment, "episode_length", None)
    return Resolved(
        (environment,),
        gym.spaces.Box(-np.inf, np.inf, (obs_size,), np.float32),
        gym.spaces.Box(-1.0, 1.0, (action_size,), np.float32),
        reward_threshold=None,
        limits=(np.inf if limit is None else float(limit),),
        vectorized=False,
        on_device=True,
        identities=(identity_of(environment, None, None, compiled=True),),
        robots=("it is played on the device",),
    )


@functools.lru_cache(maxsize=16)  # the same object each time: programs are compiled for an object
def _brax(name: str) -> object:
    """The Brax environment of this name, without wrappers."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # Brax warns that its environments are no longer maintained, and prints which other engines are missing.
        warnings.simplefilter("ignore")
        require("brax", f"The environment {BRAX + name!r}")
        from brax import envs

        known = sorted(envs._envs)
        if name not in known:
            raise ValueError(f"Brax has no environment {name!r}; it has {', '.join(known)}.{meant(name, known)}")
        return envs.get_environment(name)


def _name(item: object) -> str:
    if isinstance(item, str):
        return repr(item)
    if isinstance(item, EnvSpec):
        return repr(item.id)
    return str(item)
