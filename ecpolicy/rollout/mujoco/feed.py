"""The rows of a table, for threads that take the next one wherever an episode ends."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions import Connections
from ecpolicy.normalization import Moments
from ecpolicy.rollout.outcome import (
    EpisodeError,
    Outcome,
    bad_return,
    beside,
    started_with,
)
from ecpolicy.rollout.schedule import Chunk, Schedule


class Open:
    """A chunk of a table that is being played: its networks, and what is known of its episodes so far."""

    def __init__(self, chunk: Chunk, obs_size: int) -> None:
        self.chunk, table = chunk, chunk.table
        rows = table.seeds.size
        self.left = rows
        self.returns, self.lengths = np.zeros(rows), np.zeros(rows, np.int64)
        self.travel = np.full((rows, 2), np.nan)
        self.sums, self.squares = np.zeros((2, rows, obs_size))
        # Sums are of deviations from the first observation of the episodes that are added up together.
        self.shifts = np.zeros((table.episodes, obs_size))
        self.shifted = [threading.Event() for _ in range(table.episodes)]
        self._lock = threading.Lock()
        self._drawn: tuple[Connections, NDArray[np.int64]] | None = None

    def network(self, row: int) -> dict[str, np.ndarray]:
        """The connections of the network that plays a row; those of the whole chunk are drawn together."""
        with self._lock:
            if self._drawn is None:
                self._drawn = self.chunk.table.draw()
        connections, owners = self._drawn
        owner = owners[row // self.chunk.table.episodes]
        return {name: drawn[owner] for name, drawn in connections.items()}

    def outcome(self) -> Outcome:
        """The outcome of the chunk (members, episodes)."""
        table = self.chunk.table
        for row in np.flatnonzero(~np.isfinite(self.returns)):
            raise EpisodeError(bad_return(self.returns[row], started_with(table.seeds[row])))
        columns = []
        for k in range(table.episodes):
            rows = slice(k, None, table.episodes)
            sums, squares = (part[rows].sum(axis=0) for part in (self.sums, self.squares))
            moments = Moments.from_sums(int(self.lengths[rows].sum()), self.shifts[k], sums, squares)
            columns.append(
                Outcome(self.returns[rows, None], self.lengths[rows, None], moments, self.travel[rows, None])
            )
        return beside(columns)


class Feed:
    """The rows that threads take, one by one, from the chunks of a schedule.

    Parameters
    ----------
    schedule : Schedule
    obs_size : int
    deliver : callable (number, Outcome)
        What is done with the outcome of a chunk.
    """

    def __init__(self, schedule: Schedule[Any], obs_size: int, deliver: Callable[[int, Any], None]) -> None:
        self.closed = False
        self._schedule, self._obs_size, self._deliver = schedule, obs_size, deliver
        self._rows: deque[tuple[Open, int]] = deque()
        self._changed = threading.Condition()

    def take(self, count: int, *, wait: bool) -> list[tuple[Open, int]]:
        """Up to ``count`` further rows; where there is none, and ``wait`` is set, those that come before the end."""
        taken: list[tuple[Open, int]] = []
        with self._changed:
            while not self.closed:
                while len(taken) < count and (self._rows or self._refill()):
                    row = self._rows.popleft()
                    if self.is_wanted(row[0]):
                        taken.append(row)
                if taken or not wait or self._schedule.finished:
                    break
                self._changed.wait()
        return taken

    def _refill(self) -> bool:
        chunk = self._schedule.pull()
        if chunk is None:
            return False
        opened = Open(chunk, self._obs_size)
        in_order = np.arange(chunk.table.seeds.size).reshape(-1, chunk.table.episodes).T.reshape(-1)
        self._rows.extend((opened, int(row)) for row in in_order)
        return True

    @property
    def n_dropped(self) -> int:
        """How often chunks that were handed out were given up."""
        return self._schedule.n_dropped

    def is_wanted(self, opened: Open) -> bool:
        """Whether the outcome of a chunk is still waited for."""
        return self._schedule.is_wanted(opened.chunk)

    def ended(self, opened: Open) -> None:
        """Note that an episode of a chunk has ended."""
        with self._changed:
            opened.left -= 1
        if not opened.left:
            self._deliver(opened.chunk.number, opened.outcome())

    def wake(self) -> None:
        """Let those who wait for rows look again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out nothing more; what is being played is given up."""
        self.closed = True
        self.wake()
