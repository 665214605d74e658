"""Fit on environments in JAX against its parts: environment steps/s end to end, the physics alone, the network alone.

All run in this process on the same device, one after the other. The physics alone is the environments' own ``step``
over as many members in one jitted loop, with constant actions; the network alone is the spiking network in the same
loop, fed with noise. Both count every member in every step; the fit counts the steps of episodes, and not those of
lanes that idle while the last episodes of a chunk are played. With ``--endless`` no episode ends before the horizon, as
late in training, and both sides do the same work.

    python benchmarks/device_throughput.py [--env brax/hopper] [--population 10240] [--chunk-size N] [--generations 4]
"""

import argparse
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.environments import resolve
from ecpolicy.evolution import member_keys
from ecpolicy.fitting.backends import Engine, runner
from ecpolicy.networks import RSNN
from ecpolicy.networks.xla import bits as device
from ecpolicy.random import key_from_seed
from ecpolicy.rollout.device import default_chunk_size
from ecpolicy.rollout.episodes import Networks, playing, population

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
    compiling, seconds = time.perf_counter() - began, []
    for _ in range(2):
        began = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        seconds.append(time.perf_counter() - began)
    return compiling, min(seconds)


def physics(environment, members, steps):
    """The environments alone: (seconds to compile, member-steps/s)."""
    action = jnp.zeros((members, environment.action_size))

    def run(keys):
        def step(_, state):
            after = jax.vmap(environment.step)(state, action)
            return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)

        return lax.fori_loop(0, steps, step, jax.vmap(environment.reset)(keys))

    compiling, seconds = compile_and_time(run, jax.random.split(jax.random.PRNGKey(0), members))
    return compiling, members * steps / seconds


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

    compiling, seconds = compile_and_time(run, connections, state, jnp.uint32(0))
    return compiling, members * steps / seconds


def surplus(policy, resolved):
    """Steps of the program times lanes, over the steps of a generation's episodes, for networks drawn as now.

    The second figure is what chunks of 256 members come to that are each played until the longest episode is over.
    """
    setting, search = policy._training.setting, policy._training.search
    sampler = policy._deployed.distribution.sampler(search.parameters)
    keys = member_keys(key_from_seed(1), 0, policy.population_size)
    horizons = (float(policy.max_episode_steps),)
    table = population(Networks(sampler, setting.standardizer(search.moments)), keys, n_episodes=1, horizons=horizons)
    with runner(policy, "jax", resolved, setting.network, Engine("jax")) as plays:
        outcome, _ = plays.run(playing(table))
    lengths = outcome.lengths[:, 0]
    waiting = sum(256 * lengths[first : first + 256].max() for first in range(0, lengths.size, 256))
    return plays.lane_steps / outcome.n_steps, waiting / outcome.n_steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="+", default=["brax/inverted_pendulum"])
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--neurons", type=int, default=256)
    parser.add_argument("--chunk-size", type=int)
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--horizon", type=int, default=1000, help="steps of an episode, at most")
    parser.add_argument("--endless", action="store_true", help="no episode ends before the horizon")
    parser.add_argument("--steps", type=int, default=100, help="steps over which the parts are timed")
    arguments = parser.parse_args()
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compilations.append(seconds) if event == COMPILED else None
    )
    for name in arguments.env:
        began = time.perf_counter()
        resolved = resolve(name)
        if arguments.endless:
            resolved = resolve(Endless(resolved.environments[0]))
        making, devices = time.perf_counter() - began, jax.devices()
        print(f"\n{name} on {len(devices)} x {devices[0].device_kind}, made in {making:.0f} s")
        policy = EvolvingConnectivityPolicy(
            network=RSNN(arguments.neurons),
            population_size=arguments.population,
            n_generations=1,
            max_episode_steps=arguments.horizon,
            chunk_size=arguments.chunk_size,
            eval_episodes=1,
            confirm_episodes=1,
            random_state=0,
            warm_start=True,
        )
        compilations.clear()
        (environment,) = resolved.environments
        policy.fit(environment)
        print(
            f"first generation: {policy.history_[0]['seconds']:.1f} s, of which XLA compiled {sum(compilations):.1f} s"
        )
        compilations.clear()
        rates = []
        for generation in range(2, arguments.generations + 1):
            policy.set_params(n_generations=generation).fit(environment)
            before, record = policy.history_[-2:]
            steps = record["n_env_steps"] - before["n_env_steps"]
            evaluation = record["n_evaluation_steps"] - before["n_evaluation_steps"]
            rates.append((steps + evaluation) / record["seconds"])
            print(
                f"generation {generation}: {record['seconds']:.2f} s, episodes of {record['episode_length']:.0f} steps "
                f"on average, {rates[-1]:,.0f} environment steps/s"
            )
        print(f"compilations after the first generation: {len(compilations)}")
        refilled, waiting = surplus(policy, resolved)
        print(f"steps of lanes over those of a generation's episodes: {refilled:.2f}; without refilling: {waiting:.2f}")
        members = min(arguments.chunk_size or default_chunk_size(), arguments.population)
        deployed = policy._deployed
        compiling, alone = physics(environment, members, arguments.steps)
        print(f"physics alone, {members} members: {alone:,.0f} member-steps/s; compiled in {compiling:.1f} s")
        n_outputs = resolved.action_space.shape[0]
        compiling, spiking = network(deployed.network, policy.n_features_in_, n_outputs, members, arguments.steps)
        print(f"network alone, {members} members: {spiking:,.0f} member-steps/s; compiled in {compiling:.1f} s")
        print(f"fit: {np.median(rates):,.0f} environment steps/s, {np.median(rates) / alone:.2f} of the physics alone")
        memory = jax.local_devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in memory:
            print(f"peak device memory: {memory['peak_bytes_in_use'] / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
