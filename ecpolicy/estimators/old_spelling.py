"""Parameters that are spelt otherwise now: who writes them as they were is told how they are written."""

from collections.abc import Collection, Mapping
from typing import Any

STARTS = {"n_starts": "n_starts", "start_env_steps": "env_steps"}  # once parameters, now of best_start


def old_spelling(given: Mapping[str, Any], known: Collection[str]) -> str | None:
    """What to say where a parameter is spelt as it once was: the new spelling in full.

    Parameters
    ----------
    given : parameters by name
    known : the estimator's parameters
    """
    starts = [f"{new}={given[name]!r}" for name, new in STARTS.items() if name in given]
    if starts and "population_size" in known:
        return f"Several starts are a function: ecpolicy.best_start(policy, environments, {', '.join(starts)})."
    return None
