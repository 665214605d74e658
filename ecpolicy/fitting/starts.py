"""Several starts of a search, of which the best goes on: a search that got stuck early costs a few steps, not all."""

from typing import NamedTuple

from ecpolicy.evolution import State


class Starts(NamedTuple):
    """The starts that have ended, and the one under way."""

    ended: int = 0
    began: int = 0  # environment steps before the one under way
    last: float = 0.0  # mean return of its last population
    best: State | None = None  # the best of those that have ended, until the choice is made
    score: float = 0.0  # mean return of its last population


def end_start(starts: Starts, search: State, fresh: State, n_starts: int, n_env_steps: int) -> tuple[Starts, State]:
    """End a start: the next search, a fresh one or, after the last start, the best of all.

    Parameters
    ----------
    starts : Starts
    search : State
        What the start under way has come to.
    fresh : State
        What a start begins with.
    n_starts : int
    n_env_steps : int
        Taken so far.

    Returns
    -------
    (Starts, State)
        Generations are counted on, so that every start draws its own populations.
    """
    best, score = starts.best, starts.score
    if best is None or starts.last > score:
        best, score = search, starts.last
    ended = starts.ended + 1
    if ended < n_starts:
        return Starts(ended, n_env_steps, best=best, score=score), fresh._replace(generation=search.generation)
    return Starts(ended, n_env_steps), best._replace(generation=search.generation)
