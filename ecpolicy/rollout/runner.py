"""Playing tables of episodes: those that a decision waits for first, those of the next generation beside them.

What is asked for comes from a :data:`ecpolicy.rollout.episodes.Play`. Chunks of it are played in turn here, in threads
or on workers; results do not depend on which.
"""

import os
import uuid
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from joblib import effective_n_jobs

from ecpolicy.cleanup import clean_up
from ecpolicy.rollout.engines import Engine, JoblibEngine, Unfinished, WorkersLost, engine
from ecpolicy.rollout.episodes import CHUNK, Networks, Play, Table
from ecpolicy.rollout.mujoco.threads import Threads
from ecpolicy.rollout.outcome import EpisodeError, Outcome
from ecpolicy.rollout.schedule import Chunk, Schedule
from ecpolicy.rollout.seconds import Seconds
from ecpolicy.rollout.time_limit import can_limit
from ecpolicy.rollout.workers import Call, Instances, Plan, is_instance, packed, play, player, retire, work

T = TypeVar("T")

DEPLOYED_CHUNK = 2  # episodes of the deployed network, which plays few: every worker should get some


class Crew(Protocol):
    """Plays what a schedule hands out; a context manager that owns the environments and the workers."""

    @property
    def seconds(self) -> Seconds:
        """That playing has taken so far, of all workers together."""

    def play(self, schedule: Schedule[T]) -> None:
        """Play until the schedule is finished."""

    def close(self, error: BaseException | None) -> None:
        """End workers and close environments."""


class Here:
    """One chunk after the other, in this thread."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._instances = plan, Instances(plan)
        self.seconds = Seconds()

    def play(self, schedule: Schedule[T]) -> None:
        """Play until the schedule is finished."""
        while (chunk := schedule.pull()) is not None:
            outcome = play(self._plan, chunk.table, self._instances)
            self.seconds = self.seconds.plus(outcome.seconds)
            schedule.deliver(chunk.number, outcome)

    def close(self, error: BaseException | None) -> None:
        """Close the environments that were made."""
        clean_up(self._instances.close, error=error)


class Workers:
    """Chunks on the workers of an engine; those that a lost worker took with it are sent again."""

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._plan, self._engine, self.seconds = plan, engine, Seconds()
        self._sent = plan if engine.in_this_process else packed(plan)
        self._token = uuid.uuid4().hex
        self._plan_shared: object = None
        self._networks_shared: list[tuple[Networks, object]] = []  # the last ones, with what workers get for them
        engine.__enter__()

    def play(self, schedule: Schedule[T]) -> None:
        """Play until the schedule is finished."""
        missing: dict[int, Chunk] = {}
        failures = 0

        def pull() -> tuple[int, Sequence[object]] | None:
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
                    self.seconds = self.seconds.plus(outcome.seconds)
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

    def _share(self, networks: Networks) -> tuple[object, object]:
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

    @property
    def seconds(self) -> Seconds:
        """That playing has taken so far, of all workers together."""
        return self._crew.seconds

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
    if plan.robots and (workers is None or isinstance(workers, JoblibEngine)):
        return Threads([player(plan) for _ in range(1 if workers is None else effective_n_jobs(n_jobs))])
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
