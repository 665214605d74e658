"""Fit on environments in JAX against its parts: environment steps/s end to end, the physics alone, the network alone.

All run in this process on the same device, one after the other. The physics alone is the environments' own ``step``
over as many members in one jitted loop, with constant actions; the network alone is the spiking network in the same
loop, fed with noise. Both count every member in every step; the fit counts the steps of episodes, and not those of
lanes that idle while the last episodes of a chunk are played. With ``--endless`` no episode ends before the horizon, as
late in training, and both sides do the same work.
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.distributions import Bernoulli
from ecpolicy.environments import resolve
from ecpolicy.evolution import member_keys
from ecpolicy.fitting.backends import Engine, runner
from ecpolicy.networks import RSNN
from ecpolicy.networks.xla import bits as device
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.random import key_from_seed
from ecpolicy.rollout.device import default_chunk_size
from ecpolicy.rollout.episodes import Networks, playing, population
from learnt import learnt
from runner import seconds

# A chunk size of 0 is the library's choice; ``steps`` are those over which the parts are timed.
OPTIONS = {"env": ["brax/inverted_pendulum"], "population": 256, "neurons": 256, "chunk_size": 0, "generations": 4,
           "horizon": 1000, "endless": False, "steps": 100}  # fmt: skip
COMPILED = "/jax/core/compile/backend_compile_duration"


class Endless:
    """An environment whose episodes go on whatever happens."""

    def __init__(self, environment):
        self.environment = environment
        self.reset, self.action_size = environment.reset, environment.action_size
        self.observation_size = environment.observation_size

    def step(self, state, action):
        after = self.environment.step(state, action)
        finite = {"obs": jnp.nan_to_num(after.obs), "reward": jnp.nan_to_num(after.reward)}  # of bodies that lie about
        return after.replace(done=jnp.zeros_like(after.done), **finite)


def compile_and_time(function, *arguments):
    """Seconds to compile, and seconds of the best of two runs."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    compiling = time.perf_counter() - began
    return compiling, min(seconds(lambda: jax.block_until_ready(program(*arguments)))[0] for _ in range(2))


def physics(environment, members, steps):
    """The environments alone: (seconds to compile, member-steps/s)."""
    action = jnp.zeros((members, environment.action_size))

    def run(keys):
        def step(_, state):
            after = jax.vmap(environment.step)(state, action)
            return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)

        return lax.fori_loop(0, steps, step, jax.vmap(environment.reset)(keys))

    compiling, taken = compile_and_time(run, jax.random.split(jax.random.PRNGKey(0), members))
    return compiling, members * steps / taken


def network(rsnn, obs_size, n_outputs, members, steps):
    """The spiking network alone: (seconds to compile, member-steps/s)."""
    n, words = rsnn.n_neurons, 2 * -(-rsnn.n_neurons // 64)
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    connections = (
        jax.random.bits(keys[0], (members, 2 * obs_size, words)),
        jax.random.bits(keys[1], (members, words, n)),
        jax.random.bits(keys[2], (members, n_outputs, words)),
    )
    state = device.State(
        jax.random.uniform(keys[3], (members, n)),
        jnp.zeros((members, n)),
        jnp.zeros((members, words), jnp.uint32),
        jnp.zeros((members, n_outputs)),
    )
    advance = partial(
        device.rsnn_step, n_excitatory=rsnn.n_excitatory, substeps=rsnn.substeps, constants=rsnn.constants(obs_size)
    )

    def run(connections, state, zero):
        def step(t, state):
            x = jax.random.normal(jax.random.fold_in(keys[0], t), (members, obs_size))
            return advance(connections, state, x, zero)[0]

        return lax.fori_loop(0, steps, step, state)

    compiling, taken = compile_and_time(run, connections, state, jnp.uint32(0))
    return compiling, members * steps / taken


def surplus(policy, resolved):
    """Steps of the program times lanes, over the steps of a generation's episodes, for networks drawn as now.

    The second figure is what chunks of 256 members come to that are each played until the longest episode is over.
    """
    found = learnt(policy)
    rho = {part: found[f"search/parameters/{part}"] for part in policy.connectivity_}
    moments = Moments(*(found[f"search/moments/{part}"] for part in Moments._fields))
    standardizer = Standardizer.of(moments, enabled=True, clip=policy.observation_clip)
    sampler = Bernoulli(policy.network.shapes(policy.n_features_in_, resolved.action_space.shape[0])).sampler(rho)
    keys = member_keys(key_from_seed(1), 0, policy.population_size)
    horizons = (float(policy.max_episode_steps),)
    table = population(Networks(sampler, standardizer), keys, n_episodes=1, horizons=horizons)
    with runner(policy, "jax", resolved, policy.network, Engine("jax")) as plays:
        outcome, _ = plays.run(playing(table))
    lengths = outcome.lengths[:, 0]
    waiting = sum(256 * lengths[first : first + 256].max() for first in range(0, lengths.size, 256))
    return plays.lane_steps / outcome.n_steps, waiting / outcome.n_steps


def rows(options):
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compilations.append(seconds) if event == COMPILED else None
    )
    for name in options.env:
        making, resolved = seconds(resolve, name)
        if options.endless:
            resolved = resolve(Endless(resolved.environments[0]))
        (environment,) = resolved.environments
        policy = EvolvingConnectivityPolicy(
            network=RSNN(options.neurons), population_size=options.population, max_episode_steps=options.horizon,
            chunk_size=options.chunk_size or None, eval_episodes=1, confirm_episodes=1, random_state=0, warm_start=True,
        )  # fmt: skip
        rates = []
        for generation in range(1, options.generations + 1):
            compilations.clear()
            policy.set_params(n_generations=generation).fit(environment)
            record, before = policy.history_[-1], policy.history_[-2] if generation > 1 else {}
            steps = sum(record[count] - before.get(count, 0) for count in ("n_env_steps", "n_evaluation_steps"))
            rates.append(steps / record["seconds"])
            yield {"task": name, "generation": generation, "s": record["seconds"], "s of compiling": sum(compilations),
                   "mean length": record["episode_length"], "steps/s": rates[-1]}  # fmt: skip
        refilled, waiting = surplus(policy, resolved)
        members = min(options.chunk_size or default_chunk_size(), options.population)
        physics_compiling, alone = physics(environment, members, options.steps)
        sizes = policy.n_features_in_, resolved.action_space.shape[0]
        network_compiling, spiking = network(policy.network, *sizes, members, options.steps)
        memory, fit = jax.local_devices()[0].memory_stats() or {}, np.median(rates[1:] or rates)
        yield {
            "task": name, "devices": f"{len(jax.devices())} x {jax.devices()[0].device_kind}", "s to make": making,
            "lanes' steps over episodes'": refilled, "without refilling": waiting, "members": members,
            "fit steps/s": fit, "physics alone": alone, "s to compile": physics_compiling, "network alone": spiking,
            "s to compile it": network_compiling, "fit over physics": fit / alone,
            "peak bytes": memory.get("peak_bytes_in_use"),
        }  # fmt: skip
