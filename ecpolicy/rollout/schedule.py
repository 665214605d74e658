"""What is played next: the episodes that a decision waits for first, those of the next generation beside them."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from ecpolicy.rollout.episodes import Play, Table
from ecpolicy.rollout.outcome import Outcome, below

T = TypeVar("T")


class Chunk(NamedTuple):
    """A part of a table, as it is handed out."""

    number: int
    table: Table


class _Asked:
    """A table that was asked for, and what has come of it."""

    def __init__(self, table: Table, size: int) -> None:
        self.chunks = deque(enumerate(table.chunks(size)))
        self.outcomes: list[Outcome | None] = [None] * len(self.chunks)

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the whole table, once it is there."""
        done = [outcome for outcome in self.outcomes if outcome is not None]
        return below(done) if len(done) == len(self.outcomes) else None


class Schedule(Generic[T]):
    """What is to be played next, and what follows from what was played. Threads may share it.

    Parameters
    ----------
    play : Play
        Its tables come first; it goes on where one of them has been played.
    ahead : Table or None
        Episodes to play beside these, as long as they are wanted.
    wanted : callable (result or None) -> bool
        Whether those are still wanted, given the result of ``play`` if there is one.
    size : callable Table -> int
        Members of a chunk.
    """

    def __init__(
        self, play: Play[T], ahead: Table | None, wanted: Callable[[T | None], bool], size: Callable[[Table], int]
    ) -> None:
        self.lock = threading.RLock()
        self.n_dropped = 0  # times that chunks which may have been handed out were given up
        self.ahead: Outcome | Exception | None = None  # what came of the episodes ahead
        self._play, self._wanted, self._size = play, wanted, size
        self._done: list[T] = []
        self._out: dict[int, tuple[_Asked, int, Chunk]] = {}  # what is being played, by number
        self._n_handed_out = 0
        self._second = None if ahead is None else _Asked(ahead, size(ahead))
        self._first: _Asked | None = None
        self._go_on(None)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to wait for."""
        with self.lock:
            return bool(self._done) and self._second is None

    @property
    def result(self) -> T:
        """What ``play`` came to."""
        return self._done[0]

    def is_wanted(self, chunk: Chunk) -> bool:
        """Whether the outcome of a chunk that was handed out is still waited for."""
        return chunk.number in self._out

    def pull(self) -> Chunk | None:
        """The next chunk; None where there is none at present."""
        with self.lock:
            self.look()
            for asked in (self._first, self._second):
                if asked is not None and asked.chunks:
                    index, table = asked.chunks.popleft()
                    chunk = Chunk(self._n_handed_out, table)
                    self._n_handed_out += 1
                    self._out[chunk.number] = asked, index, chunk
                    return chunk
            return None

    def deliver(self, number: int, outcome: Outcome) -> None:
        """Note what came of a chunk."""
        with self.lock:
            if number not in self._out:
                return
            asked, index, _ = self._out.pop(number)
            asked.outcomes[index] = outcome
            whole = asked.outcome
            if whole is None:
                return
            if asked is self._second:
                self.ahead, self._second = whole, None
            else:
                self._go_on(whole)
            self.look()

    def fail(self, error: Exception) -> None:
        """Raise an error, or keep it for when the episodes ahead are asked for, where it may be theirs."""
        with self.lock:
            if self._second is None:
                raise error
            self.ahead = error
            self._drop()
            for asked, index, chunk in self._out.values():  # to be played again, without those ahead
                asked.chunks.appendleft((index, chunk.table))
            self._out.clear()

    def look(self) -> None:
        """Drop the episodes ahead where they are no longer wanted."""
        with self.lock:
            if self._second is not None and not self._wanted(self._done[0] if self._done else None):
                self._drop()

    def seeds(self) -> list[int]:
        """The seeds that the chunks which are being played begin with."""
        with self.lock:
            return [int(chunk.table.seeds[0]) for _, _, chunk in self._out.values()]

    def _drop(self) -> None:
        self._out = {number: out for number, out in self._out.items() if out[0] is not self._second}
        self._second = None
        self.n_dropped += 1

    def _go_on(self, outcome: Outcome | None) -> None:
        """Send an outcome to who asked for it, and note what it asks for next."""
        self._first = None
        try:
            table = next(self._play) if outcome is None else self._play.send(outcome)
        except StopIteration as end:
            self._done.append(end.value)
        except BaseException:
            self._second = None  # the error is not theirs
            raise
        else:
            self._first = _Asked(table, self._size(table))
