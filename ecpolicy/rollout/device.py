"""Whole episodes on the device: drawing the members, their networks, physics, bookkeeping and returns in one program.

The environments are those of Brax and MuJoCo Playground: anything with pure functions ``reset(key)`` and ``step(state,
action)`` over one environment, whose state has ``obs``, ``reward`` and ``done``.

Members are played in chunks of a fixed size, each on one device. Devices take chunks in turn, so that the program, and
with it every rounding, is the same whatever their number; chunks tell each other returns and observation sums only.
"""

import copy
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import NDArray

from ecpolicy.distributions import BernoulliSampler
from ecpolicy.identity import same
from ecpolicy.kernels import device as kernels
from ecpolicy.networks import Network
from ecpolicy.networks.on_device import Twin, twin
from ecpolicy.normalization import Moments
from ecpolicy.random import NORMAL_UNIT
from ecpolicy.rollout.episodes import Play, Table
from ecpolicy.rollout.outcome import TRAVEL, EpisodeError, Outcome, below, beside
from ecpolicy.rollout.workers import Plan

T = TypeVar("T")

EPISODES_PER_CHUNK = 20  # of the deployed network
FOREVER = 2**31 - 1  # steps
LARGEST_OBSERVATION = 1e15  # squares of larger ones, summed up, would leave the range of float32


class Played(NamedTuple):
    """What a chunk tells of its episodes."""

    returns: Array  # (members,)
    lengths: Array  # (members,)
    spoilt: Array  # (members,) an observation was NaN, infinite or beyond LARGEST_OBSERVATION
    velocities: Array  # (members,) sum of the x-velocities, NaN where the environment reports none
    positions: Array  # (members,) last x-position, likewise
    sums: Array  # of obs - shift over all steps: (members, obs_size) while they are played, in the end (obs_size,)
    squares: Array  # of its square
    shift: Array  # (obs_size,) the first observation of the chunk's first member


class _Live(NamedTuple):
    """The loop over environment steps."""

    t: Array
    live: Array  # (members,)
    environment: Any
    network: Any
    played: Played


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
    """What a compiled program depends on, apart from the sizes of its inputs."""

    environment: Snapshot
    network: Network
    n_outputs: int
    devices: tuple[jax.Device, ...]


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
    """The jitted program that plays one chunk on every device; one compilation for each chunk size.

    Takes matrices by name as (planes, flips); then, per chunk (chunks, members, ...), keys by matrix, keys of initial
    potentials, environment seeds and which members are meant; then what is the same for all: mean, inverse_std, clip,
    horizon and the zero of :func:`ecpolicy.kernels.device.rounded`. Gives what each chunk :class:`Played`, (chunks,
    ...), to every process.
    """
    environment, network, n_outputs, devices = program.environment.environment, twin(program.network), *program[2:]

    def play(slices: Any, chunk: Any, shared: Any) -> Any:
        chunk = jax.tree.map(lambda part: part[0], chunk)
        played = play_chunk(environment, network, n_outputs, slices, *chunk, *shared)
        return jax.tree.map(lambda part: lax.all_gather(part, "chunks"), played)

    mesh, same = Mesh(np.array(devices), ("chunks",)), PartitionSpec()
    specs = (same, PartitionSpec("chunks"), same)
    return jax.jit(jax.shard_map(play, mesh=mesh, in_specs=specs, out_specs=same, check_vma=False))


def play_chunk(
    environment: Any,
    network: Twin,
    n_outputs: int,
    slices: Mapping[str, tuple[Array, Array]],
    keys: Mapping[str, Array],
    signs: Array,
    membrane_keys: Array,
    seeds: Array,
    meant: Array,
    mean: Array,
    inverse_std: Array,
    clip: Array,
    horizon: Array,
    zero: Array,
) -> Played:
    """Draw the members of a chunk and play an episode with each, until all are done; see :func:`compiled`."""
    members, obs_size = seeds.shape[0], mean.shape[0]
    matrices = network.prepare({name: draw(*slices[name], keys[name], signs, zero) for name in slices})
    step = jax.vmap(environment.step)

    def advance(now: _Live) -> _Live:
        seen, past = observation(now.environment), now.played
        live = now.live[:, None]
        deviation = seen - past.shift
        x = jnp.clip((seen - mean) * inverse_std, -clip, clip)
        state, output = network.step(matrices, now.network, x, zero)
        after = step(now.environment, jnp.clip(output, -1, 1))
        after = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, now.environment)
        velocity, position = travel(after)
        played = Played(
            past.returns + jnp.where(now.live, after.reward, 0),
            past.lengths + now.live,
            past.spoilt | (now.live & ~(jnp.abs(seen) <= LARGEST_OBSERVATION).all(axis=1)),
            past.velocities + jnp.where(now.live, velocity, 0),
            jnp.where(now.live, position, past.positions),
            past.sums + jnp.where(live, deviation, 0),
            past.squares + jnp.where(live, deviation * deviation, 0),
            past.shift,
        )
        t = now.t + 1
        return _Live(t, now.live & (after.done == 0) & (t < horizon), after, state, played)

    def none(*shape: int, dtype: Any = jnp.float32) -> Array:
        return jnp.zeros((members, *shape), dtype)

    begun = jax.vmap(environment.reset)(jnp.stack([jnp.zeros_like(seeds), seeds], axis=1))
    nothing = Played(
        none(), none(dtype=jnp.int32), none(dtype=jnp.bool_), none(), none(), none(obs_size), none(obs_size),
        observation(begun)[0].astype(jnp.float32),
    )  # fmt: skip
    start = _Live(jnp.int32(0), meant, begun, network.initial_state(membrane_keys, n_outputs), nothing)
    played: Played = lax.while_loop(lambda now: jnp.any(now.live), advance, start).played
    return played._replace(sums=pairwise_sum(played.sums), squares=pairwise_sum(played.squares))


def travel(state: Any) -> tuple[Array, Array]:
    """The x-velocity and the x-position that locomotion tasks report in their metrics; NaN for others."""
    metrics = getattr(state, "metrics", None)
    if not isinstance(metrics, Mapping) or not set(TRAVEL) <= set(metrics):
        unknown = jnp.full(jnp.shape(state.reward), jnp.nan, jnp.float32)
        return unknown, unknown
    return metrics[TRAVEL[0]].astype(jnp.float32), metrics[TRAVEL[1]].astype(jnp.float32)


def draw(first: Array, second: Array, keys: Array, signs: Array, zero: Array) -> Array:
    """One matrix of every member: bits from (planes, flips), real weights from (means, standard deviation)."""
    if first.dtype == jnp.uint32:
        return kernels.sample(keys, first, second)
    return kernels.perturb(keys, signs, first, second, zero)


def pairwise_sum(terms: Array) -> Array:
    """The sum over the leading axis in an order of our own: the same on every device, and accurate in float32."""
    while terms.shape[0] > 1:
        half = -(-terms.shape[0] // 2)
        terms = terms[:half] + jnp.pad(terms[half:], ((0, 2 * half - terms.shape[0]), (0, 0)))
    return terms[0]


def default_chunk_size() -> int:
    """Members that a device plays at once, at most: part of the result. On a CPU they should stay in its caches."""
    return 256 if jax.default_backend() == "cpu" else 2048


class DeviceRunner:
    """Plays tasks on all devices of all processes; the counterpart of :class:`ecpolicy.rollout.parallel.Runner`.

    Parameters
    ----------
    plan : Plan
    chunk_size : int or None
        Members that a device plays at once; None for all of them, up to 2048, or 256 on a CPU.
    """

    def __init__(self, plan: Plan, chunk_size: int | None) -> None:
        self._plan = plan
        identities = plan.identities or (None,) * len(plan.environments)
        self._environments = [Snapshot(*pair) for pair in zip(plan.environments, identities, strict=True)]
        self._devices = tuple(jax.devices())
        self._chunk_size = chunk_size or default_chunk_size()

    plays_beside = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def run(
        self, play: Play[T], ahead: Table | None = None, wanted: Callable[[T | None], bool] = lambda result: True
    ) -> tuple[T, Outcome | Exception | None]:
        """Play what ``play`` asks for; the outcome is the same for any number of devices and processes."""
        outcome = None
        while True:
            try:
                table = next(play) if outcome is None else play.send(outcome)
            except StopIteration as end:
                return end.value, None
            outcome = self._outcome(table)

    def _outcome(self, task: Table) -> Outcome:
        members, deployed = task.members, task.keys is None
        if deployed:
            task = task._replace(keys=np.zeros((task.seeds.size, 2), np.uint32))
        size = EPISODES_PER_CHUNK if deployed else min(self._chunk_size, members)
        slices = _slices(task.networks.sampler, deployed)
        return beside([self._play(task, slices, size, episode) for episode in range(task.episodes)])

    def _play(self, task: Table, slices: Any, size: int, episode: int) -> Outcome:
        """One episode of every member on one of the environments."""
        plan, members = self._plan, task.members
        assert task.keys is not None
        rows, index = slice(episode, None, task.episodes), int(task.environments[episode])
        seeds, standardizer = task.seeds[rows], task.networks.standardizer
        each = (
            task.networks.sampler.streams(task.keys[rows]),
            np.resize(np.array([1, -1], np.float32), members),
            task.membrane_keys[rows],
            seeds.astype(np.uint32),
            np.ones(members, np.bool_),
        )
        mean = standardizer.mean.astype(np.float32)
        inverse_std = standardizer.inverse_std.astype(np.float32)
        horizon = np.int32(min(task.horizons[episode], FOREVER))
        shared = mean, inverse_std, np.float32(standardizer.clip), horizon, np.uint32(0)
        n_outputs = int(np.prod(plan.action_space.shape or ()))
        run = compiled(Program(self._environments[index], plan.network, n_outputs, self._devices))
        at_once = size * len(self._devices)
        outcomes = []
        for start in range(0, members, at_once):
            chunks = jax.tree.map(lambda part, start=start: self._deal(part[start : start + at_once], size), each)
            try:
                played = jax.tree.map(np.asarray, run(slices, chunks, shared))
            except jax.errors.JaxRuntimeError as error:
                raise self._explain(error, size) from error
            for number, first in enumerate(range(start, min(start + at_once, members), size)):
                chunk = jax.tree.map(lambda part, number=number: part[number], played)
                outcomes.append(_outcome(chunk, seeds[first : first + size]))
        return below(outcomes)

    def _deal(self, part: NDArray[Any], size: int) -> NDArray[Any]:
        """Members (n, ...) as chunks (devices, size, ...); those that are missing are zero."""
        missing = size * len(self._devices) - part.shape[0]
        padded = np.pad(part, ((0, missing), *((0, 0),) * (part.ndim - 1)))
        return padded.reshape(len(self._devices), size, *part.shape[1:])

    def _explain(self, error: Exception, size: int) -> Exception:
        """An error of the device in the user's terms."""
        if "RESOURCE_EXHAUSTED" not in str(error):
            return EpisodeError(f"The device failed while it played {size} members at once: {error}")
        smaller = max(size // 2, 1)
        return MemoryError(
            f"The device ran out of memory with {size} members at once. Try chunk_size={smaller}, or a smaller "
            f"network. XLA says: {str(error).splitlines()[0]}"
        )


def _slices(sampler: Any, deployed: bool) -> dict[str, tuple[Any, Any]]:
    """What every matrix is drawn from, by name; the deployed network is drawn as well, whatever the keys."""
    if isinstance(sampler, BernoulliSampler):
        return {
            name: (kernels.halves(planes * np.uint64(not deployed)), kernels.halves(flips))
            for name, (planes, flips) in sampler.slices.items()
        }
    step = np.float32(0 if deployed else sampler.distribution.sigma * NORMAL_UNIT)
    return {name: (np.asarray(mean), step) for name, mean in sampler.parameters.items()}


def _outcome(played: Any, seeds: NDArray[np.int64]) -> Outcome:
    """Check the episodes of a chunk that were meant; their outcome, one column."""
    returns, lengths = (part[: seeds.size].astype(np.float64) for part in (played.returns, played.lengths))
    for member in np.flatnonzero(played.spoilt):
        raise EpisodeError(
            f"An observation is NaN, infinite or beyond {LARGEST_OBSERVATION:g} in the episode started with "
            f"reset(PRNGKey({seeds[member]})), after at most {lengths[member]:.0f} steps. Mend the environment, or "
            "wrap it to end such episodes."
        )
    for member in np.flatnonzero(~np.isfinite(returns)):
        raise EpisodeError(
            f"The return is {returns[member]} in the episode started with reset(PRNGKey({seeds[member]})): a reward "
            "was NaN or infinite. Mend the environment."
        )
    sums = (part.astype(np.float64) for part in (played.shift, played.sums, played.squares))
    moments = Moments.from_sums(int(lengths.sum()), *sums)
    velocities, positions = (part[: seeds.size].astype(np.float64) for part in (played.velocities, played.positions))
    travelled = np.stack([velocities / np.maximum(lengths, 1), positions], axis=1)
    return Outcome(returns[:, None], lengths.astype(np.int64)[:, None], moments, travelled[:, None])
