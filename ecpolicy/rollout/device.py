"""Whole episodes on the device: drawing the networks, their steps, physics, bookkeeping and returns in one program.

The environments are those of Brax and MuJoCo Playground: anything with pure functions ``reset(key)`` and ``step(state,
action)`` over one environment, whose state has ``obs``, ``reward`` and ``done``.

A program steps a fixed number of lanes and is given more rows than that: a lane whose episode is over takes the next
row. Every device plays a chunk of rows of its own, and nothing that it does depends on how many there are.
"""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import NDArray

from ecpolicy.distributions import BernoulliSampler, Gaussian
from ecpolicy.identity import same
from ecpolicy.kernels import device as kernels
from ecpolicy.networks import Network
from ecpolicy.networks.on_device import Twin, twin
from ecpolicy.random import NORMAL_UNIT
from ecpolicy.rollout import deal
from ecpolicy.rollout.deal import GROUP, LARGEST_OBSERVATION, Group, Rows, Scores, Sums
from ecpolicy.rollout.episodes import Play, Table
from ecpolicy.rollout.outcome import TRAVEL, EpisodeError, Outcome
from ecpolicy.rollout.workers import Plan

T = TypeVar("T")

LEAST_ROWS = 512  # of a chunk, and 16 times the lanes: lanes idle only while its last rows are played
REFILL = 32  # lanes are refilled where one in so many is idle
VECTOR = 8  # lanes that a CPU steps at a time, see :func:`in_tiles`


class Played(NamedTuple):
    """What a chunk tells of its episodes."""

    scores: Scores
    sums: Sums
    steps: Array  # () that the program made, with all its lanes in each


class _Lanes(NamedTuple):
    """Episodes that are being played; a lane's parts change together when it takes another row."""

    live: Array  # (lanes,)
    row: Array  # (lanes,) that the lane plays or has played
    place: Array  # (lanes,) of the row, where its observation sums go
    horizon: Array  # (lanes,)
    shift: Array  # (lanes, obs_size) of the row's group
    matrices: Any
    environment: Any
    network: Any
    scores: Scores
    sums: Array  # (lanes, obs_size) of obs - shift over the steps so far
    squares: Array  # (lanes, obs_size) of its square


class _Told(NamedTuple):
    """What is known of a chunk's rows; those that are being played are noted when lanes are refilled."""

    scores: Scores
    shifts: Array  # (groups, obs_size)
    sums: Array  # (places, obs_size)
    squares: Array  # (places, obs_size)
    steps: Array


class Snapshot:
    """An environment as a key: equal to those with the same content, see :mod:`ecpolicy.identity`.

    It keeps a copy, which no later change of the environment reaches: programs are traced again for other sizes. What
    cannot be compared or copied is equal to itself alone.
    """

    def __init__(self, environment: Any, identity: str | None) -> None:
        self.environment, self._content = environment, identity
        if identity is None or not same([identity], [identity]):
            self._content = None
            return
        try:
            self.environment = copy.deepcopy(environment, {id(module): module for module in list(sys.modules.values())})
        except Exception:  # of the environment's own
            self._content = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Snapshot) and self._content is not None and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


class Program(NamedTuple):
    """What a compiled program depends on."""

    environment: Snapshot
    network: Network
    n_outputs: int
    lanes: int  # of a device
    devices: tuple[jax.Device, ...]

    @property
    def rows(self) -> int:
        """The rows of a chunk, whole groups and as many for each lane; those that are not used cost next to nothing."""
        step = GROUP * self.lanes
        return -(-LEAST_ROWS // step) * step


def observation(state: Any) -> Array:
    """The observation that a policy sees: Playground also has privileged ones."""
    seen: Array = state.obs["state"] if isinstance(state.obs, Mapping) else state.obs
    return seen


def sizes(environment: Any) -> tuple[int, int]:
    """Sizes of an observation and of an action; nothing is computed.

    Raises
    ------
    ValueError
        Where the environment is not one environment, or its observation not a flat array.
    """
    state = jax.eval_shape(environment.reset, jax.random.PRNGKey(0))
    if isinstance(state.obs, Mapping) and "state" not in state.obs:
        raise ValueError(f'The environment observes {sorted(state.obs)}; wanted an array, or a "state" among them.')
    shape = observation(state).shape
    if len(shape) != 1 or shape[0] == 0 or state.done.shape != ():
        raise ValueError(
            f"The environment's observation has shape {shape} and its done shape {state.done.shape}; wanted (n,) and "
            "(). Give the environment itself, without a wrapper that makes a batch of it."
        )
    return shape[0], int(environment.action_size)


@lru_cache(maxsize=16)
def compiled(program: Program) -> Any:
    """The jitted program that plays one chunk on every device.

    Takes matrices by name as (planes, flips) or (means, standard deviation); then, per chunk (chunks, ...), the rows,
    their places and how many they are; then what is the same for all: mean, inverse_std, clip and the zero of
    :func:`ecpolicy.kernels.device.rounded`. Gives what each chunk :class:`Played`, (chunks, ...), to every process.
    """
    environment, network = program.environment.environment, twin(program.network)

    def play(slices: Any, chunk: Any, shared: Any) -> Any:
        chunk = jax.tree.map(lambda part: part[0], chunk)
        played = play_chunk(environment, network, program.n_outputs, program.lanes, slices, *chunk, *shared)
        return jax.tree.map(lambda part: lax.all_gather(part, "chunks"), played)

    mesh, same = Mesh(np.array(program.devices), ("chunks",)), PartitionSpec()
    specs = (same, PartitionSpec("chunks"), same)
    return jax.jit(jax.shard_map(play, mesh=mesh, in_specs=specs, out_specs=same, check_vma=False))


def play_chunk(
    environment: Any,
    network: Twin,
    n_outputs: int,
    lanes: int,
    slices: Mapping[str, tuple[Array, Array]],
    rows: Rows,
    places: Array,
    count: Array,
    mean: Array,
    inverse_std: Array,
    clip: Array,
    zero: Array,
) -> Played:
    """Play the first ``count`` rows of a chunk, each in the first lane that is free; see :func:`compiled`.

    As many rows as there are lanes are made ready at a time: their networks are drawn and their environments are reset,
    so that a lane takes one over by copying it. What is left over from a chunk's last rows is stepped and not noted.
    """
    size, obs_size, tile = rows.seeds.shape[0], mean.shape[0], tile_size(lanes)

    def make_ready(first: Array) -> _Lanes:
        """The rows from ``first`` on, at the start of their episodes."""
        part, place = jax.tree.map(lambda each: lax.dynamic_slice_in_dim(each, first, lanes), (rows, places))
        drawn = {name: draw(*slices[name], part.keys[name], part.signs, zero) for name in slices}
        keys = jnp.stack([jnp.zeros_like(part.seeds), part.seeds], axis=1)
        begun = in_tiles(jax.vmap(environment.reset), tile, keys)
        zeros, sums = jnp.zeros(lanes), jnp.zeros((lanes, obs_size))
        return _Lanes(
            jnp.ones(lanes, jnp.bool_), first + lax.iota(jnp.int32, lanes), place, part.horizons, sums,
            network.prepare(drawn), begun, network.initial_state(part.membrane_keys, n_outputs),
            Scores(zeros, zeros.astype(jnp.int32), zeros.astype(jnp.bool_), zeros, zeros), sums, sums,
        )  # fmt: skip

    def step(matrices: Any, state: Any, now: Any) -> tuple[Any, Any]:
        """The next states of networks and environments."""
        x = jnp.clip((observation(now) - mean) * inverse_std, -clip, clip)
        state, output = network.step(matrices, state, x, zero)
        after = jax.vmap(environment.step)(now, jnp.clip(output, -1, 1))
        return state, jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, now)

    def advance(now: _Lanes) -> _Lanes:
        """One step of all lanes."""
        seen, past, live = observation(now.environment), now.scores, now.live
        deviation = jnp.where(live[:, None], seen - now.shift, 0)
        state, after = in_tiles(step, tile, now.matrices, now.network, now.environment)
        velocity, position = travel(after)
        scores = Scores(
            past.returns + jnp.where(live, after.reward, 0),
            past.lengths + live,
            past.spoilt | (live & ~(jnp.abs(seen) <= LARGEST_OBSERVATION).all(axis=1)),
            past.velocities + jnp.where(live, velocity, 0),
            jnp.where(live, position, past.positions),
        )
        return now._replace(
            live=live & (after.done == 0) & (scores.lengths < now.horizon),
            environment=after,
            network=state,
            scores=scores,
            sums=now.sums + deviation,
            squares=now.squares + kernels.rounded(deviation * deviation, zero),
        )

    def play_block(carry: tuple[Array, _Lanes, _Told]) -> tuple[Array, _Lanes, _Told]:
        """Make the next rows ready and play until all of them have begun or, where they are the last, ended."""
        first, now, told = carry
        ready, n_ready = make_ready(first), jnp.minimum(count - first, lanes)
        opens = (lax.iota(jnp.int32, lanes) < n_ready) & (ready.place % GROUP == 0)
        shifts = told.shifts.at[jnp.where(opens, ready.place // GROUP, size)].set(
            observation(ready.environment).astype(jnp.float32), mode="drop"
        )
        ready, told = ready._replace(shift=shifts[ready.place // GROUP]), told._replace(shifts=shifts)

        def unfinished(carry: tuple[Array, _Lanes, _Told]) -> Any:
            taken, now, _ = carry
            return (taken < n_ready) | ((first + lanes >= count) & now.live.any())

        def play_on(carry: tuple[Array, _Lanes, _Told]) -> tuple[Array, _Lanes, _Told]:
            """Let idle lanes take ready rows, play until some lanes are idle again, and note how far all have come."""
            taken, now, told = carry
            now, begun = refilled(now, ready, taken, n_ready, size)
            taken += begun
            rows_wait = first + taken < count

            def busy(state: tuple[Array, _Lanes]) -> Any:
                n_live = state[1].live.sum(dtype=jnp.int32)
                return (n_live > 0) & ~(rows_wait & (lanes - n_live >= max(lanes // REFILL, 1)))

            steps, now = lax.while_loop(busy, lambda state: (state[0] + 1, advance(state[1])), (told.steps, now))
            note = jax.tree.map(lambda whole, lane: whole.at[now.row].set(lane, mode="drop"), told.scores, now.scores)
            sums, squares = (
                whole.at[now.place].set(lane, mode="drop")
                for whole, lane in ((told.sums, now.sums), (told.squares, now.squares))
            )
            return taken, now, _Told(note, told.shifts, sums, squares, steps)

        _, now, told = lax.while_loop(unfinished, play_on, (jnp.int32(0), now, told))
        return first + lanes, now, told

    def nothing(*shape: int, dtype: Any = jnp.float32) -> Array:
        return jnp.zeros(shape, dtype)

    idle = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), jax.eval_shape(make_ready, jnp.int32(0)))
    scores = Scores(
        nothing(size), nothing(size, dtype=jnp.int32), nothing(size, dtype=jnp.bool_), nothing(size), nothing(size)
    )
    sums = nothing(size, obs_size)
    told = _Told(scores, nothing(size // GROUP, obs_size), sums, sums, jnp.int32(0))
    told = lax.while_loop(lambda carry: carry[0] < count, play_block, (jnp.int32(0), idle, told))[2]
    sums, squares = (jax.vmap(pairwise_sum)(part.reshape(-1, GROUP, obs_size)) for part in (told.sums, told.squares))
    return Played(told.scores, Sums(told.shifts, sums, squares), told.steps)


def tile_size(lanes: int) -> int:
    """How many of these lanes are stepped at a time: on a CPU few, see :func:`in_tiles`, elsewhere all."""
    return VECTOR if jax.default_backend() == "cpu" else lanes


def in_tiles(function: Callable[..., Any], tile: int, *parts: Any) -> Any:
    """``function`` of parts (lanes, ...), for ``tile`` lanes at a time by the same code.

    A CPU's compiler contracts a product and a sum into one operation with one rounding, and not always the same ones in
    the last vector of lanes as in those before. A tile is one vector, so that all lanes are treated alike and an
    episode is the same in whatever lane it is played.
    """
    if all(part.shape[0] == tile for part in jax.tree.leaves(parts)):
        return function(*parts)
    split = jax.tree.map(lambda part: part.reshape(-1, tile, *part.shape[1:]), parts)
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), lax.map(lambda some: function(*some), split))


def refilled(now: _Lanes, ready: _Lanes, taken: Array, n_ready: Array, nowhere: int) -> tuple[_Lanes, Array]:
    """Idle lanes with the next ready rows, from the one numbered ``taken`` on, and how many have begun.

    Where no row is left a lane becomes a copy of some row, whose state is a valid one, and is noted ``nowhere``.
    """
    idle = ~now.live
    number = taken + jnp.cumsum(idle, dtype=jnp.int32) - 1  # of the row that an idle lane takes
    begins = idle & (number < n_ready)

    def taken_over(new: Array, old: Array) -> Array:
        flags = idle.reshape(idle.shape + (1,) * (old.ndim - 1))
        return jnp.where(flags, new[jnp.minimum(number, idle.size - 1)], old)

    refilled: _Lanes = jax.tree.map(taken_over, ready, now)
    live = now.live | begins
    row, place = (jnp.where(live, part, nowhere) for part in (refilled.row, refilled.place))
    return refilled._replace(live=live, row=row, place=place), begins.sum(dtype=jnp.int32)


def travel(state: Any) -> tuple[Array, Array]:
    """The x-velocity and the x-position that locomotion tasks report in their metrics; NaN for others."""
    metrics = getattr(state, "metrics", None)
    if not isinstance(metrics, Mapping) or not set(TRAVEL) <= set(metrics):
        unknown = jnp.full(jnp.shape(state.reward), jnp.nan, jnp.float32)
        return unknown, unknown
    return metrics[TRAVEL[0]].astype(jnp.float32), metrics[TRAVEL[1]].astype(jnp.float32)


def draw(first: Array, second: Array, keys: Array, signs: Array, zero: Array) -> Array:
    """One matrix of every row: bits from (planes, flips), real weights from (means, standard deviation)."""
    if first.dtype == jnp.uint32:
        return jnp.where(signs[:, None, None] == 0, second, kernels.sample(keys, first, second))
    return kernels.perturb(keys, signs, first, second, zero)


def pairwise_sum(terms: Array) -> Array:
    """The sum over the leading axis in an order of our own: the same on every device, and accurate in float32."""
    while terms.shape[0] > 1:
        half = -(-terms.shape[0] // 2)
        terms = terms[:half] + jnp.pad(terms[half:], ((0, 2 * half - terms.shape[0]), (0, 0)))
    return terms[0]


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

    def __init__(self, plan: Plan, chunk_size: int | None) -> None:
        lanes = chunk_size or default_chunk_size()
        self._lanes = -(-lanes // tile_size(lanes)) * tile_size(lanes)
        identities = plan.identities or (None,) * len(plan.environments)
        n_outputs, devices = int(np.prod(plan.action_space.shape or ())), tuple(jax.devices())
        self._programs = [
            Program(Snapshot(*pair), plan.network, n_outputs, self._lanes, devices)
            for pair in zip(plan.environments, identities, strict=True)
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
        slices = _slices(networks.sampler)
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


def _chunk(rows: Rows, dealt: Sequence[Group], size: int) -> tuple[Rows, NDArray[np.int32], np.int32]:
    """What a device was dealt, as :func:`play_chunk` takes it; the zeros that follow are rows of no meaning."""
    index = deal.rows_of(dealt)

    def padded(part: NDArray[Any]) -> NDArray[Any]:
        return np.pad(part, ((0, size - index.size), *((0, 0),) * (part.ndim - 1)))

    some: Rows = jax.tree.map(lambda part: padded(part[index]), rows)
    return some, padded(deal.places(dealt)), np.int32(index.size)


def _gathered(dealt: Sequence[Sequence[Sequence[Group]]], played: Sequence[Played]) -> tuple[Scores, Sums]:
    """The scores of all rows and the sums of all groups, in their order."""
    rows, numbers, scores, sums = [], [], [], []
    for each, chunks in zip(dealt, played, strict=True):
        for device, some in enumerate(each):
            rows.append(deal.rows_of(some))
            numbers.append(np.array([group.number for group in some], np.int64))
            scores.append(Scores(*(part[device, : rows[-1].size] for part in chunks.scores)))
            sums.append(Sums(*(part[device, : len(some)] for part in chunks.sums)))

    def joined(parts: Sequence[Any], order: Sequence[NDArray[np.int64]]) -> Any:
        index = np.argsort(np.concatenate(order))
        return jax.tree.map(lambda *each: np.concatenate(each)[index], *parts)

    return joined(scores, rows), joined(sums, numbers)


def _slices(sampler: Any) -> dict[str, tuple[Any, Any]]:
    """What every matrix is drawn from, by name."""
    if isinstance(sampler, BernoulliSampler):
        return {
            name: (kernels.halves(planes), kernels.halves(flips)) for name, (planes, flips) in sampler.slices.items()
        }
    distribution = sampler.distribution
    step = np.float32(distribution.sigma * NORMAL_UNIT if isinstance(distribution, Gaussian) else 0)
    return {name: (np.asarray(mean), step) for name, mean in sampler.parameters.items()}
