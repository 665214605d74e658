"""Whole episodes on the device: drawing the networks, their steps, physics, bookkeeping and returns in one program.

A program steps a fixed number of lanes and is given more rows than that: a lane whose episode is over takes the next
row. Every device plays a chunk of rows of its own, and nothing that it does depends on how many there are.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec
from jax.typing import DTypeLike

from ecpolicy.networks import Network
from ecpolicy.networks.xla import bits as kernels
from ecpolicy.networks.xla.twins import Tree, Twin, twin
from ecpolicy.rollout.deal import GROUP, LARGEST_OBSERVATION, A, Rows, Scores, Sums
from ecpolicy.rollout.device_environment import Environment, Snapshot, State, observation, travel

LEAST_ROWS = 512  # of a chunk, and 16 times the lanes: lanes idle only while its last rows are played
REFILL = 32  # lanes are refilled where one in so many is idle
VECTOR = 8  # lanes that a CPU steps at a time, see :func:`in_tiles`


class Played(NamedTuple, Generic[A]):
    """What a chunk tells of its episodes."""

    scores: Scores[A]
    sums: Sums[A]
    steps: A  # () that the program made, with all its lanes in each


class _Lanes(NamedTuple):
    """Episodes that are being played; a lane's parts change together when it takes another row."""

    live: Array  # (lanes,)
    row: Array  # (lanes,) that the lane plays or has played
    place: Array  # (lanes,) of the row, where its observation sums go
    horizon: Array  # (lanes,)
    shift: Array  # (lanes, obs_size) of the row's group
    matrices: Tree
    environment: State
    network: Tree
    scores: Scores[Array]
    sums: Array  # (lanes, obs_size) of obs - shift over the steps so far
    squares: Array  # (lanes, obs_size) of its square


class _Told(NamedTuple):
    """What is known of a chunk's rows; those that are being played are noted when lanes are refilled."""

    scores: Scores[Array]
    shifts: Array  # (groups, obs_size)
    sums: Array  # (places, obs_size)
    squares: Array  # (places, obs_size)
    steps: Array


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


@lru_cache(maxsize=16)
def compiled(program: Program) -> Callable[..., Played[Array]]:
    """The jitted program that plays one chunk on every device.

    Takes matrices by name as (planes, flips) or (means, standard deviation); then, per chunk (chunks, ...), the rows,
    their places and how many they are; then what is the same for all: mean, inverse_std, clip and the zero of
    :func:`ecpolicy.networks.xla.bits.rounded`. Gives what each chunk :class:`Played`, (chunks, ...), to every process.
    """
    environment, network = program.environment.environment, twin(program.network)

    def play(slices: Tree, chunk: Tree, shared: Tree) -> Tree:
        chunk = jax.tree.map(lambda part: part[0], chunk)
        played = play_chunk(environment, network, program.n_outputs, program.lanes, slices, *chunk, *shared)
        return jax.tree.map(lambda part: lax.all_gather(part, "chunks"), played)

    mesh, same = Mesh(np.array(program.devices), ("chunks",)), PartitionSpec()
    specs = (same, PartitionSpec("chunks"), same)
    return jax.jit(jax.shard_map(play, mesh=mesh, in_specs=specs, out_specs=same, check_vma=False))


def play_chunk(
    environment: Environment,
    network: Twin,
    n_outputs: int,
    lanes: int,
    slices: Mapping[str, tuple[Array, Array]],
    rows: Rows[Array],
    places: Array,
    count: Array,
    mean: Array,
    inverse_std: Array,
    clip: Array,
    zero: Array,
) -> Played[Array]:
    """Play the first ``count`` rows of a chunk, each in the first lane that is free; see :func:`compiled`.

    As many rows as there are lanes are made ready at a time: their networks are drawn and their environments are reset,
    so that a lane takes one over by copying it. What is left over from a chunk's last rows is stepped and not noted.
    """
    size, obs_size, tile = rows.seeds.shape[0], mean.shape[0], tile_size(lanes)
    mean, inverse_std = mean[None], inverse_std[None]  # (1, obs_size)

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

    def step(matrices: Tree, state: Tree, now: State) -> tuple[Tree, State]:
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
            past.lengths + live.astype(jnp.int32),
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

        def unfinished(carry: tuple[Array, _Lanes, _Told]) -> Array:
            taken, now, _ = carry
            return (taken < n_ready) | ((first + lanes >= count) & now.live.any())

        def play_on(carry: tuple[Array, _Lanes, _Told]) -> tuple[Array, _Lanes, _Told]:
            """Let idle lanes take ready rows, play until some lanes are idle again, and note how far all have come."""
            taken, now, told = carry
            now, begun = refilled(now, ready, taken, n_ready, size)
            taken += begun
            rows_wait = first + taken < count

            def busy(state: tuple[Array, _Lanes]) -> Array:
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

    def nothing(*shape: int, dtype: DTypeLike = jnp.float32) -> Array:
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


def in_tiles(function: Callable[..., Tree], tile: int, *parts: Tree) -> Tree:
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
