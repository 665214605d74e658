"""Naming the plateau of locomotion tasks: the policy stands still, and is paid for not falling."""

import warnings
from typing import Any

STILL = 0.1  # m/s


def stands_still(record: Any) -> bool:
    """Whether the deployed network of this entry of ``history_`` moves by less than 0.1 m/s, forward or backward."""
    velocity = record.get("deployed_x_velocity")
    return velocity is not None and abs(velocity) < STILL


class StandingStill:
    """Warn where a locomotion policy stands still for many generations, or end the fit there.

    Tasks such as Hopper, Walker2d and Humanoid pay for every step without a fall: 1,000 or 5,000 for a whole episode
    of standing, which training can take hundreds of generations to leave.

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
        self._still = 0

    def begin(self, view: Any) -> None:
        """Count anew."""
        self._still = 0

    def __call__(self, view: Any) -> bool:
        """Whether to end the fit."""
        record = view.history_[-1]
        self._still = self._still + 1 if stands_still(record) else 0
        if self._still != self._generations:
            return False
        warnings.warn(
            f"The deployed network has stood still for {self._still} generations: {record['deployed_x_velocity']:.2f} "
            f"m/s, a return of {record['deployed_return']:.0f} over {record['deployed_length']:.0f} steps. Train "
            "without the reward for not falling (healthy_reward=0) or on shorter episodes (max_episode_steps).",
            stacklevel=2,
        )
        return self._stop
