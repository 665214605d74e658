"""What a generation takes on 10 to 1,000 workers, on paper: a model whose every constant is measured here or given.

    seconds(W) = serial + broadcast(W) + tasks * overhead + ceil(tasks / W) * task + evaluation

serial: gradient and update in the process that trains; broadcast: the parameters, passed on from worker to worker in
log2(W) rounds; overhead: what the scheduler does for a task (run.py clusters --horizon 1); task: 16 members'
episodes; evaluation: the deployed network's episodes, which come after the update. Network and overhead are assumptions
that the command line sets.
"""

import math

import cloudpickle
import numpy as np

import runner
from ecpolicy.distributions import Bernoulli
from ecpolicy.environments import resolve
from ecpolicy.fitness_shaping import centered_ranks
from ecpolicy.networks import RSNN
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.optimizers import adam
from ecpolicy.random import fold_in, key_from_seed
from ecpolicy.rollout.episodes import CHUNK, Networks, population
from ecpolicy.rollout.workers import Call, Instances, Plan, play
from ecpolicy.spaces import action_outputs, observation_size

OPTIONS = {"env": "Hopper-v5", "population": 10240, "steps": 1000, "overhead": 0.004, "bandwidth": 125e6,
           "latency": 0.001, "workers": [1, 10, 32, 100, 320, 640, 1000]}  # fmt: skip


def seconds_of(function, *arguments):
    function(*arguments)  # compile
    return runner.seconds(function, *arguments)


def rows(options):
    resolved, network = resolve(options.env), RSNN()
    sizes = observation_size(resolved.observation_space), action_outputs(resolved.action_space)
    distribution = Bernoulli(network.shapes(*sizes))
    plan = Plan(resolved.environments, resolved.observation_space, resolved.action_space, network, False)
    rho, keys = distribution.init(), fold_in(key_from_seed(0), np.arange(options.population))
    standardizer = Standardizer.of(Moments.empty(sizes[0]), enabled=True, clip=10.0)
    networks = Networks(distribution.sampler(rho), standardizer)
    chunk = population(networks, keys, n_episodes=1, horizons=(float(options.steps),)).chunk(0, CHUNK)
    call = Call("0" * 32, 0, chunk._replace(networks=None))
    taken, outcome = seconds_of(play, plan, chunk, Instances(plan))
    per_step = taken / outcome.n_steps
    utility = centered_ranks(np.arange(options.population, dtype=float))
    gradient_seconds, gradient = seconds_of(distribution.gradient, rho, keys, utility)
    optimizer = adam(0.15)
    update_seconds, _ = seconds_of(optimizer.update, gradient, optimizer.init(rho), rho)
    serial = gradient_seconds + update_seconds
    rho_bytes = len(cloudpickle.dumps(networks))
    call_bytes, outcome_bytes = len(cloudpickle.dumps(call)), len(cloudpickle.dumps(outcome))

    tasks, one = math.ceil(options.population / CHUNK), CHUNK * options.steps * per_step
    evaluation = 2 * options.steps * per_step + 2 * options.latency
    yield {
        "task": options.env, "population": options.population, "steps": options.steps, "tasks": tasks,
        "s of a task": one, "us a step": 1e6 * per_step, "serial s": serial, "evaluation s": evaluation,
        "bytes of the networks": rho_bytes,
        "of the plan": len(cloudpickle.dumps(plan)), "of a call": call_bytes, "of an outcome": outcome_bytes,
    }  # fmt: skip
    alone = serial + tasks * one + evaluation
    for workers in options.workers:
        rounds = math.ceil(math.log2(workers)) if workers > 1 else 0
        broadcast = rounds * (rho_bytes / options.bandwidth + options.latency)
        total = serial + broadcast + tasks * options.overhead + math.ceil(tasks / workers) * one + evaluation
        out = rho_bytes + tasks * call_bytes
        yield {
            "workers": workers, "MB from the trainer": out / 1e6, "MB to it": tasks * outcome_bytes / 1e6,
            "ms of broadcast": 1000 * broadcast, "s a generation": total, "speedup": alone / total,
            "efficiency": alone / total / workers,
        }  # fmt: skip
