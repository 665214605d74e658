"""Ids of environments in Gymnasium's registry, as ``gymnasium.make`` reads them: "module:namespace/Name-v0"."""

import copy
import importlib
from collections.abc import Mapping

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id, parse_env_id


def registered_spec(environment_id: str) -> EnvSpec:
    """The spec of this id, after the import of the module that it may begin with.

    Parameters
    ----------
    environment_id : str
        Such as "Hopper-v5", "namespace/Name-v0", or "module:Name-v0", where importing the module registers the id.
        Without a version it is the latest.

    Returns
    -------
    EnvSpec
        The one of the registry: copy it before changing it.

    Raises
    ------
    TypeError
        Where it is not a string.
    gymnasium.error.Error
        Where the id is malformed or not registered.
    ModuleNotFoundError
        Where there is no such module.

    Examples
    --------
    >>> registered_spec("gymnasium.envs.mujoco:Hopper-v5").id
    'Hopper-v5'
    """
    module, _ = _parts(environment_id)
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there, and what it imports is not
            raise ModuleNotFoundError(
                f"{environment_id!r} names the module {module!r}, which cannot be found ({error}). Install it, or add "
                "its folder to PYTHONPATH.",
                name=error.name,
            ) from error
    return gym.spec(registered_id(environment_id))


def changed_spec(environment: str | EnvSpec, kwargs: Mapping[str, object]) -> EnvSpec:
    """A spec of one's own, with these ``kwargs``: another task, to which the registered threshold does not apply."""
    spec = copy.deepcopy(environment if isinstance(environment, EnvSpec) else registered_spec(environment))
    spec.kwargs.update(kwargs)
    spec.reward_threshold = None
    return spec


def registered_id(environment_id: str) -> str:
    """The id without its module, with its latest version where it has none: the name in the registry, if it is there.

    No module is imported, and an id that is malformed comes back as it is.

    Examples
    --------
    >>> registered_id("gymnasium.envs.mujoco:Hopper-v5")
    'Hopper-v5'
    >>> registered_id("Hopper")
    'Hopper-v5'
    """
    name = without_module(environment_id)
    try:
        namespace, bare, version = parse_env_id(name)
    except gym.error.Error:
        return name
    latest = find_highest_version(namespace, bare) if version is None else None
    return name if latest is None else get_env_id(namespace, bare, latest)


def without_module(environment_id: str) -> str:
    """The id without the module that it may begin with."""
    return _parts(environment_id)[1]


def _parts(environment_id: str) -> tuple[str, str]:
    """The module, if any, and the rest; a name that no module can have is part of a malformed id."""
    if not isinstance(environment_id, str):
        raise TypeError(f"An environment's id must be a string, such as 'Hopper-v5'; got {environment_id!r:.200}.")
    module, colon, name = environment_id.partition(":")
    if colon and all(part.isidentifier() for part in module.split(".")):
        return module, name
    return "", environment_id
