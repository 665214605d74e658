"""Settings that were found to work well on an environment, from the table beside this file."""

import copy
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from gymnasium.envs.registration import EnvSpec

from ecpolicy.constraints import meant
from ecpolicy.ids import changed_spec, registered_id, registered_spec
from ecpolicy.networks import RSNN
from ecpolicy.untyped import Kwargs


class Tuned(NamedTuple):
    """Settings for :class:`ecpolicy.EvolvingConnectivityPolicy` on one environment; see :func:`tuned`."""

    environment_id: str
    parameters: Kwargs
    environment_kwargs: Kwargs  #: for training alone: what they change of the reward is not what is scored
    starts: Kwargs  #: for :func:`ecpolicy.best_start`; empty where one start does

    @property
    def environment(self) -> EnvSpec:
        """What to train on: the environment made with ``environment_kwargs``, and then without a reward threshold."""
        if self.environment_kwargs:
            return changed_spec(self.environment_id, self.environment_kwargs)
        return copy.deepcopy(registered_spec(self.environment_id))


def tuned(environment_id: str) -> Tuned:
    """Return the settings for this environment. What those for robots reach is in docs/results.md.

    Parameters
    ----------
    environment_id : str
        Of a Gymnasium environment, such as "Hopper-v5" or "gymnasium.envs.mujoco:Hopper-v5". Without a version it is
        the latest, as for ``gymnasium.make``.

    Returns
    -------
    Tuned
        ``parameters`` for the policy, the ``environment`` to train on and ``starts`` for ``best_start``.

    Raises
    ------
    TypeError
        Where the id is not a string.
    ValueError
        Where the table has no such environment; it says which there are.

    Examples
    --------
    >>> from ecpolicy import EvolvingConnectivityPolicy, best_start, tuned
    >>> found = tuned("HalfCheetah-v5")
    >>> policy = EvolvingConnectivityPolicy(**found.parameters, max_env_steps=20_000_000, n_generations=10_000)
    >>> policy = best_start(policy, found.environment, **found.starts)  # doctest: +SKIP
    >>> policy.score("HalfCheetah-v5")  # doctest: +SKIP
    """
    table, name = _table(), registered_id(environment_id)
    if name not in table:
        said = f"There are no tuned settings for {environment_id!r}; there are for {', '.join(table)}."
        raise ValueError(said + meant(environment_id, table))
    entry = copy.deepcopy(table[name])
    network = {"network": RSNN(**entry["network"])} if "network" in entry else {}
    parameters = entry.get("parameters", {}) | network
    return Tuned(environment_id, parameters, entry.get("environment", {}), entry.get("starts", {}))


def is_tuned(environment_id: str) -> bool:
    """Whether there are settings for this environment, however its id is written."""
    return registered_id(environment_id) in _table()


def tuned_ids() -> list[str]:
    """The environments that there are settings for."""
    return list(_table())


@cache
def _table() -> Kwargs:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
