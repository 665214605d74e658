"""Several starts of a search, of which the best goes on: a search that got stuck early costs a few steps, not all."""

from typing import NamedTuple

from ecpolicy.evolution import State


class Starts(NamedTuple):
    """The starts that have ended."""

    ended: int = 0
    best: State | None = None  # the best of them, where it is not what goes on anyway
    score: float = 0.0  # mean return of its last population


def end_start(starts: Starts, search: State, score: float, fresh: State, n_starts: int) -> tuple[Starts, State]:
    """End a start: the next search, a fresh one or, after the last start, the best of all.

    Parameters
    ----------
    starts : Starts
        The earlier ones.
    search : State
        What this start has come to.
    score : float
        Mean return of its last population.
    fresh : State
        What a start begins with.
    n_starts : int

    Returns
    -------
    (Starts, State)
        Generations are counted on, so that every start draws its own populations.
    """
    if starts.best is None or score > starts.score:
        starts = starts._replace(best=search, score=score)
    assert starts.best is not None
    ended = starts.ended + 1
    if ended < n_starts:
        return starts._replace(ended=ended), fresh._replace(generation=search.generation)
    return Starts(ended), starts.best._replace(generation=search.generation)
