"""Symptoms of a training that does not learn, told from its history; what helps is in docs/it_does_not_learn.md."""

import math
from collections.abc import Sequence

from ecpolicy.callbacks.view import TrainingView
from ecpolicy.callbacks.writing import warn
from ecpolicy.history import Record

STILL = 0.1  # m/s
WHOLE = 100  # steps; whoever falls sooner does not stand
BLIND = 5  # generations without a difference between members
STUCK = 50  # generations without a better network
FIRST = 20  # generations after which episodes that are still short stay so
SHORT = 8  # steps of a member in which chance decides
ENOUGH = 64  # steps of a member that say something
WORSE = 1.1  # times what a step costs at first


def nothing_to_learn(history: Sequence[Record]) -> str | None:
    """What to say after the first generations where no member earned more than another; None otherwise."""
    if len(history) != BLIND or not all(_all_equal(record) for record in history):
        return None
    return (
        f"All returns of the first {BLIND} generations are equal ({history[-1]['return_mean']:.4g}): nothing can be "
        "learnt from them. Pay for steps on the way, lengthen episodes, or let networks differ more "
        "(network__gain_in=1.0); see 'It does not learn' in the documentation."
    )


def left_to_chance(history: Sequence[Record], episodes_per_member: int | None) -> str | None:
    """What to say after the first generations where members play only a few steps, as in a game of cards.

    Without members, as in PPO, ``episodes_per_member`` is None, and there is nothing to say.
    """
    if episodes_per_member is None or len(history) != FIRST:
        return None
    lengths = [record["episode_length"] for record in history]
    if max(lengths) * episodes_per_member >= SHORT or history[-1]["return_std"] == 0:
        return None  # long ones were seen, or nothing tells members apart
    length = sum(lengths) / FIRST
    return (
        f"Episodes last {length:.1f} steps on average: what a member earns is mostly chance. Let members play more of "
        f"them (episodes_per_member={math.ceil(ENOUGH / length)}); see 'It does not learn' in the documentation."
    )


def gives_up(history: Sequence[Record]) -> str | None:
    """What to say after the first generations where members end their episodes soon, as every step costs them.

    They then earn less a step than at the start; those who get to a goal sooner do not. Without members, as in PPO,
    there is nothing to say.
    """
    if len(history) != FIRST or history[-1].get("return_max", 0) >= 0:
        return None
    (first, last), means = ([history[i][what] for i in (0, -1)] for what in ("episode_length", "return_mean"))
    if last > first / 2 or means[1] / last > WORSE * means[0] / first:
        return None
    return (
        f"Members end their episodes ever sooner, after {last:.0f} steps instead of {first:.0f}, as every "
        "step costs them: falling at once pays. Begin anew with another random_state, or pay for every step "
        "(healthy_reward=1.0); see 'It does not learn' in the documentation."
    )


def is_stuck(history: Sequence[Record]) -> bool:
    """Whether no better network has come for many generations."""
    return stuck_for(history[-STUCK - 1 :]) >= STUCK


def stuck_for(history: Sequence[Record]) -> int:
    """Generations since the best deployed network was last replaced by a better one."""
    best = history[-1].get("best_deployed_return")
    others = (i for i, record in enumerate(reversed(history)) if record.get("best_deployed_return") != best)
    return next(others, len(history)) - 1


def hint(view: TrainingView) -> str:
    """What helps most often where the policy was left to choose its network, which then has the paper's gains."""
    if "initial_probability" not in (given := view.get_params(deep=False)) or given["network"] is not None:
        return ""
    return ": try network=RSNN(gain_in=1.0, gain_recurrent=0.2, gain_out=1.0)"


def _all_equal(record: Record) -> bool:
    return "return_std" in record and record["return_min"] == record["return_max"]


def stands_still(record: Record) -> bool:
    """Whether the deployed network of this entry of ``history_`` stands: slower than 0.1 m/s, for 100 steps or more."""
    velocity = record.get("deployed_x_velocity")
    return velocity is not None and abs(velocity) < STILL and record["deployed_length"] >= WHOLE


class StandingStill:
    """Warn where a locomotion policy stands still for many generations, or end the fit there.

    Tasks such as Hopper, Walker2d and Humanoid pay for every step without a fall: 1,000 or 5,000 for a whole episode
    of standing, which training can take hundreds of generations to leave. Generations without a measurement do not
    count.

    Parameters
    ----------
    generations : int
        How many in a row.
    stop : bool
        End the fit as well.
    """

    def __init__(self, generations: int = 25, *, stop: bool = False) -> None:
        if not isinstance(generations, int) or generations < 1:
            raise ValueError(f"generations must be at least 1; got {generations!r}.")
        self._generations, self._stop = generations, stop
        self._still, self._warned = 0, False

    def begin(self, view: TrainingView) -> None:
        """Count the generations before this fit, where it goes on from them."""
        self._still, self._warned = 0, False
        for record in view.history_ if view.continues else ():
            self._count(record)

    def __call__(self, view: TrainingView) -> bool:
        """Whether to end the fit."""
        record = view.history_[-1]
        if not self._count(record) or self._still < self._generations:
            return False
        if not self._warned:
            warn(
                f"The deployed network has stood still for {self._still} generations: "
                f"{record['deployed_x_velocity']:.2f} m/s, a return of {record['deployed_return']:.0f} over "
                f"{record['deployed_length']:.0f} steps. Where the task pays for not falling, train without "
                "(healthy_reward=0); or try shorter episodes (max_episode_steps).",
                UserWarning,
            )
            self._warned = True
        return self._stop

    def _count(self, record: Record) -> bool:
        """Whether the generation was measured; if so, it counts."""
        if record.get("deployed_x_velocity") is None:
            return False
        if stands_still(record):
            self._still += 1
        else:
            self._still, self._warned = 0, False
        return True
