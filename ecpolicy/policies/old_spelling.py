"""Parameters that are spelt otherwise now: who writes them as they were is told how they are written."""

from collections.abc import Collection, Mapping
from typing import Any

from ecpolicy.networks import GRU, LSTM, NETWORKS

SETTINGS = {name for kind in NETWORKS.values() for name in kind.table}  # of networks, once parameters of the estimators
WORDS = {"gru": GRU(), "lstm": LSTM()}  # that once stood for networks
STARTS = {"n_starts": "n_starts", "start_env_steps": "env_steps"}  # once parameters, now of best_start


def old_spelling(given: Mapping[str, Any], known: Collection[str], network: type, prefix: str = "") -> str | None:
    """What to say where a parameter is spelt as it once was: the new spelling in full.

    Parameters
    ----------
    given : parameters by name, to the constructor or, with ``prefix="network__"``, to ``set_params``
    known : the estimator's parameters
    network : the class of its network
    """
    old = [name for name in given if name in SETTINGS.difference(known)]
    if old:
        table = getattr(network, "table", ())
        new = ", ".join(f"{prefix}{name}={given[name]!r}" for name in old if name in table)
        new = new if prefix else f"network={network.__name__}({new})"
        return f"{', '.join(old)} {'belongs' if len(old) == 1 else 'belong'} to the network: give {new}."
    starts = [f"{new}={given[name]!r}" for name, new in STARTS.items() if name in given]
    if starts and "population_size" in known:
        return f"Several starts are a function: ecpolicy.best_start(policy, environments, {', '.join(starts)})."
    if "max_grad_norm" in given and "ppo_kwargs" in known:
        further = {**(given.get("ppo_kwargs") or {}), "max_grad_norm": given["max_grad_norm"]}
        return f"max_grad_norm is an argument of RecurrentPPO like others: give ppo_kwargs={further}."
    if "fitness_shaping" in given and "population_size" in known:
        return 'fitness_shaping is no parameter any more, as "centered_ranks" was all it could be: leave it out.'
    return None
