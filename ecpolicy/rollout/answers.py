"""What an environment must answer, and in which words it is told that it did not."""

import contextlib
from typing import Any

import numpy as np

from ecpolicy.rollout.outcome import EpisodeError
from ecpolicy.untyped import Env


def begin(environment: Env, seed: int | None, options: dict[str, object] | None = None) -> Any:
    """Reset an environment: its first observation, and the info beside it.

    Raises
    ------
    EpisodeError
        Where ``reset`` does not return these two, as environments for Gym before 0.26 do not.
    """
    answer = environment.reset(seed=seed, options=options) if options is not None else environment.reset(seed=seed)
    listed = isinstance(answer, list) and len(answer) == 2 and isinstance(answer[1], dict)  # and no observation alone
    if not listed and (not isinstance(answer, tuple) or len(answer) != 2):
        raise EpisodeError(
            f"The environment's reset returned {_shown(answer)}; wanted (observation, info), as Gymnasium has it. Wrap "
            "or update an environment written for an older Gym."
        )
    return answer


def wrong_step(answer: object) -> str | None:
    """What is wrong with what ``step`` returned; None where it can be played."""
    if not isinstance(answer, tuple | list) or len(answer) != 5:
        return (
            f"The environment's step returned {_shown(answer)}; wanted (observation, reward, terminated, truncated, "
            "info), as Gymnasium has it. Wrap or update an environment written for an older Gym"
        )
    for check, value in ((number, answer[1]), (flag, answer[2]), (flag, answer[3])):
        try:
            check(value)
        except (TypeError, ValueError) as error:
            return str(error)
    return None


def number(reward: Any) -> float:
    """A reward as a number, whatever its class; raises TypeError where it is none."""
    if not isinstance(reward, str | bytes) and reward is not np.ma.masked:
        with contextlib.suppress(TypeError, ValueError):
            return float(reward)
    raise TypeError(f"The environment's reward is {_shown(reward)}; wanted a number. Return float(reward)")


def flag(over: object) -> bool:
    """Whether an episode is over, as an environment says it; raises TypeError where that is no bool, nor 0 or 1."""
    value = over.item() if getattr(over, "size", 0) == 1 and hasattr(over, "item") else over
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise TypeError(f"The environment's terminated or truncated is {_shown(over)}; wanted a bool")


def _shown(value: object) -> str:
    """A value in words that are short whatever it is."""
    if isinstance(value, tuple):
        return f"{len(value)} value{'' if len(value) == 1 else 's'}"
    shape = getattr(value, "shape", None)
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return text if shape is None else f"{text}, an array of shape {shape}"
