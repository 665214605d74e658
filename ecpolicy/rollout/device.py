"""Playing tables of episodes on all devices of all processes.

The environments are those of Brax and MuJoCo Playground: anything with pure functions ``reset(key)`` and ``step(state,
action)`` over one environment, whose state has ``obs``, ``reward`` and ``done``.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar, cast

import jax
import numpy as np
from numpy.typing import NDArray

from ecpolicy.rollout import deal
from ecpolicy.rollout.deal import GROUP, Group, Rows, Scores, Sums
from ecpolicy.rollout.device_environment import Environment, Snapshot
from ecpolicy.rollout.device_program import VECTOR, Played, Program, compiled, tile_size
from ecpolicy.rollout.episodes import Play, Table
from ecpolicy.rollout.outcome import EpisodeError, Outcome
from ecpolicy.rollout.workers import Plan

T = TypeVar("T")


def default_chunk_size() -> int:
    """Lanes of a device. A CPU has one tile of them: more take longer in proportion, and idle at the end of a chunk."""
    return VECTOR if jax.default_backend() == "cpu" else 2048


class DeviceRunner:
    """Plays tables on all devices of all processes; the counterpart of :class:`ecpolicy.rollout.runner.Runner`.

    Parameters
    ----------
    plan : Plan
    chunk_size : int or None
        Lanes, the episodes that a device plays at once; None for 2048, or 8 on a CPU, which takes
        multiples of 8 alone and rounds other numbers up.
    """

    plays_beside = True
    seconds = None  # one program steps environments and networks alike

    def __init__(self, plan: Plan, chunk_size: int | None) -> None:
        lanes = chunk_size or default_chunk_size()
        self._lanes = -(-lanes // tile_size(lanes)) * tile_size(lanes)
        identities = plan.identities or (None,) * len(plan.environments)
        n_outputs, devices = int(np.prod(plan.action_space.shape or ())), tuple(jax.devices())
        self._programs = [
            Program(Snapshot(cast(Environment, made), identity), plan.network, n_outputs, self._lanes, devices)
            for made, identity in zip(plan.environments, identities, strict=True)
        ]
        self.lane_steps = 0  # steps that the programs have made so far, times their lanes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def run(
        self, play: Play[T], ahead: Table | None = None, wanted: Callable[[T | None], bool] = lambda result: True
    ) -> tuple[T, Outcome | Exception | None]:
        """Play what ``play`` asks for, and the episodes ``ahead`` with the first of it, in the same programs.

        Episodes ahead with other networks are not played: nothing would be gained by playing them early.

        Returns
        -------
        (result, Outcome or Exception or None)
            As :meth:`ecpolicy.rollout.runner.Runner.run`. The outcomes are the same for any number of devices and
            processes.
        """
        if ahead is not None and not wanted(None):
            ahead = None
        outcome: Outcome | None = None
        played: Outcome | Exception | None = None
        while True:
            try:
                table = next(play) if outcome is None else play.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result, played if played is not None and wanted(result) else None
            if ahead is not None and ahead.networks is table.networks:
                outcome, played = self._play_beside(table, ahead)
            else:
                outcome = self._play_alone(table)
            ahead = None

    def _play_alone(self, table: Table) -> Outcome:
        (outcome,) = self._play([table])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _play_beside(self, table: Table, ahead: Table) -> tuple[Outcome, Outcome | Exception]:
        """The outcomes of two tables; an error that may be of the second is given in its place."""
        try:
            outcome, played = self._play([table, ahead])
        except Exception as error:  # of the device's
            return self._play_alone(table), error
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, played

    def _play(self, tables: Sequence[Table]) -> list[Outcome | EpisodeError]:
        """The outcomes of tables with the same networks; all that the devices have to do is asked for at once."""
        groups, rows, networks = deal.groups(tables), deal.rows(tables), tables[0].networks
        mean, inverse_std = (part.astype(np.float32) for part in networks.standardizer[:2])
        shared = mean, inverse_std, np.float32(networks.standardizer.clip), np.uint32(0)
        slices = networks.sampler.for_device()
        try:
            dealt, asked = [], []
            for number, program in enumerate(self._programs):
                waiting = [group for group in groups if group.environment == number]
                for each in deal.rounds(waiting, program.rows // GROUP, len(program.devices)):
                    chunks = [_chunk(rows, some, program.rows) for some in each]
                    stacked = jax.tree.map(lambda *parts: np.stack(parts), *chunks)
                    asked.append(compiled(program)(slices, stacked, shared))
                    dealt.append(each)
            played = [jax.tree.map(np.asarray, chunks) for chunks in asked]
        except jax.errors.JaxRuntimeError as error:
            raise self._explain(error) from error
        self.lane_steps += self._lanes * sum(int(chunks.steps.sum()) for chunks in played)
        return deal.outcomes(tables, groups, *_gathered(dealt, played))

    def _explain(self, error: Exception) -> Exception:
        """An error of the device in the user's terms."""
        size = self._lanes
        if "RESOURCE_EXHAUSTED" not in str(error):
            return EpisodeError(f"The device failed while it played {size} members at once: {error}")
        return MemoryError(
            f"The device ran out of memory with {size} members at once. Try chunk_size={max(size // 2, 1)}, or a "
            f"smaller network. XLA says: {str(error).splitlines()[0]}"
        )


def _chunk(
    rows: Rows[np.ndarray], dealt: Sequence[Group], size: int
) -> tuple[Rows[np.ndarray], NDArray[np.int32], np.int32]:
    """What a device was dealt, as :func:`play_chunk` takes it; the zeros that follow are rows of no meaning."""
    index = deal.rows_of(dealt)

    def padded(part: np.ndarray) -> np.ndarray:
        return np.pad(part, ((0, size - index.size), *((0, 0),) * (part.ndim - 1)))

    some: Rows[np.ndarray] = jax.tree.map(lambda part: padded(part[index]), rows)
    return some, padded(deal.places(dealt)), np.int32(index.size)


def _gathered(
    dealt: Sequence[Sequence[Sequence[Group]]], played: Sequence[Played[np.ndarray]]
) -> tuple[Scores[np.ndarray], Sums[np.ndarray]]:
    """The scores of all rows and the sums of all groups, in their order."""
    rows, numbers, scores, sums = [], [], [], []
    for each, chunks in zip(dealt, played, strict=True):
        for device, some in enumerate(each):
            rows.append(deal.rows_of(some))
            numbers.append(np.array([group.number for group in some], np.int64))
            scores.append(Scores(*(part[device, : rows[-1].size] for part in chunks.scores)))
            sums.append(Sums(*(part[device, : len(some)] for part in chunks.sums)))

    def joined(parts: Sequence[T], order: Sequence[NDArray[np.int64]]) -> T:
        index = np.argsort(np.concatenate(order))
        whole: T = jax.tree.map(lambda *each: np.concatenate(each)[index], *parts)
        return whole

    return joined(scores, rows), joined(sums, numbers)
