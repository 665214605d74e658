"""Playing tables of episodes: those that a decision waits for first, those of the next generation beside them.

What is asked for comes from a :data:`ecpolicy.rollout.episodes.Play`. Chunks of it are played in turn here, in threads
or on workers; results do not depend on which.
"""

import os
import threading
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from ecpolicy.cleanup import clean_up
from ecpolicy.rollout.engines import Engine, Unfinished, WorkersLost, engine
from ecpolicy.rollout.episodes import CHUNK, Networks, Play, Table
from ecpolicy.rollout.outcome import EpisodeError, Outcome, below
from ecpolicy.rollout.time_limit import can_limit
from ecpolicy.rollout.workers import Call, Instances, Plan, is_instance, packed, play, retire, work

T = TypeVar("T")

DEPLOYED_CHUNK = 2  # episodes of the deployed network, which plays few: every worker should get some


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


class Crew(Protocol):
    """Plays what a schedule hands out; a context manager that owns the environments and the workers."""

    def play(self, schedule: Schedule[Any]) -> None:
        """Play until the schedule is finished."""

    def close(self, error: BaseException | None) -> None:
        """End workers and close environments."""


class Here:
    """One chunk after the other, in this thread."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._instances = plan, Instances(plan)

    def play(self, schedule: Schedule[Any]) -> None:
        """Play until the schedule is finished."""
        while (chunk := schedule.pull()) is not None:
            schedule.deliver(chunk.number, play(self._plan, chunk.table, self._instances))

    def close(self, error: BaseException | None) -> None:
        """Close the environments that were made."""
        clean_up(self._instances.close, error=error)


class Workers:
    """Chunks on the workers of an engine; those that a lost worker took with it are sent again."""

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._plan, self._engine = plan, engine
        self._sent = plan if engine.in_this_process else packed(plan)
        self._token = uuid.uuid4().hex
        self._plan_shared: Any = None
        self._networks_shared: list[tuple[Networks, Any]] = []  # the last ones, with what workers get for them
        engine.__enter__()

    def play(self, schedule: Schedule[Any]) -> None:
        """Play until the schedule is finished."""
        missing: dict[int, Chunk] = {}
        failures = 0

        def pull() -> tuple[int, Sequence[Any]] | None:
            chunk = again.pop() if again else schedule.pull()
            if chunk is None:
                return None
            missing[chunk.number] = chunk
            shared = self._share(chunk.table.networks)
            without: Any = None
            call = Call(self._token, os.getpid(), chunk.table._replace(networks=without))
            return chunk.number, (*shared, call)

        while not schedule.finished:
            again = [chunk for chunk in missing.values() if schedule.is_wanted(chunk)]
            missing.clear()
            came = 0
            try:
                for number, outcome in self._engine.run(work, pull):
                    came += 1
                    missing.pop(number, None)
                    schedule.deliver(number, outcome)
                    if schedule.finished:
                        break
            except WorkersLost as error:
                self._plan_shared, self._networks_shared = None, []
                failures = 1 if came else failures + 1
                if failures == self._engine.attempts:
                    first = missing[min(missing)].table.seeds[0]
                    raise EpisodeError(
                        f"Workers died {failures} times over the same episodes, the first of them started with "
                        f"reset(seed={first}): the environment kills its process, or memory is short. {error}"
                    ) from error
            except Unfinished as error:
                waiting = [int(chunk.table.seeds[0]) for chunk in missing.values()]
                raise EpisodeError(
                    f"No worker finished its episodes within timeout={self._plan.timeout} s: an environment hangs, or "
                    f"the limit is too short. Unfinished are the chunks that begin with reset(seed=...) {waiting[:8]}."
                ) from error

    def close(self, error: BaseException | None) -> None:
        """End what was started."""
        clean_up(
            lambda: self._engine.__exit__(None if error is None else type(error), error, None),
            lambda: retire(lambda instances: instances.token == self._token),  # where workers were threads
            error=error,
        )

    def _share(self, networks: Networks) -> tuple[Any, Any]:
        """What workers get for the plan and for these networks, each shared once as long as it is the same object."""
        if self._plan_shared is None:
            self._plan_shared = self._engine.share(self._sent)
        shared = next((shared for known, shared in self._networks_shared if known is networks), None)
        if shared is None:
            shared = self._engine.share(networks)
            self._networks_shared = [*self._networks_shared[-1:], (networks, shared)]
        return self._plan_shared, shared


class Runner:
    """Plays what it is asked for; a context manager that owns the environments and the workers.

    Parameters
    ----------
    plan : Plan
    n_jobs : int or None
        As in joblib; ``joblib.parallel_config`` chooses the backend. A vector environment is always played here, and so
        is an instance where workers are threads, which cannot share it.
    """

    def __init__(self, plan: Plan, n_jobs: int | None) -> None:
        self._plan, self._crew = plan, _crew(plan, n_jobs)
        self.plays_beside = not isinstance(self._crew, Here)  # which has nothing that could be idle

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._crew.close(error)

    def run(
        self, play: Play[T], ahead: Table | None = None, wanted: Callable[[T | None], bool] = lambda result: True
    ) -> tuple[T, Outcome | Exception | None]:
        """Play what ``play`` asks for, and the episodes ``ahead`` beside it; see :class:`Schedule`.

        Returns
        -------
        (result, Outcome or Exception or None)
            What ``play`` came to, and what came of the episodes ahead: None where they were not wanted in the end. The
            error that they ended with is given and not raised, so that what they were played ahead of is not lost.
        """
        schedule: Schedule[T] = Schedule(play, ahead, wanted, self._size)
        while not schedule.finished:
            try:
                self._crew.play(schedule)
            except Exception as error:
                schedule.fail(error)
        return schedule.result, schedule.ahead

    def _size(self, table: Table) -> int:
        if self._plan.vectorized:
            return table.members
        return DEPLOYED_CHUNK if table.keys is None and isinstance(self._crew, Workers) else CHUNK


def _crew(plan: Plan, n_jobs: int | None) -> Crew:
    given = any(is_instance(environment) for environment in plan.environments)
    workers = None if plan.vectorized else engine(n_jobs, timeout=plan.timeout, threads=not given)
    if workers is not None:
        return Workers(plan, workers)
    if plan.timeout is not None and not can_limit():
        warnings.warn(
            f"timeout={plan.timeout} has no effect: only the main thread can interrupt an environment, and only where "
            "SIGALRM has no handler that was set from other than Python. Fit in the main thread, or on workers "
            "(n_jobs).",
            RuntimeWarning,
            stacklevel=3,
        )
    return Here(plan)
