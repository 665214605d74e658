"""What a generation takes on 10 to 1,000 workers, on paper: a model whose every constant is measured here or given.

    seconds(W) = serial + broadcast(W) + tasks * overhead + ceil(tasks / W) * task + evaluation

serial: gradient and update in the process that trains; broadcast: the parameters, passed on from worker to worker in
log2(W) rounds; overhead: what the scheduler does for a task (benchmarks/clusters.py --horizon 1); task: 16 members'
episodes; evaluation: the deployed network's episodes, which come after the update. Network and overhead are assumptions
that the command line sets.

    python benchmarks/cluster_model.py [--env Hopper-v5] [--population 10240] [--steps 1000] [--overhead 0.004]
                                       [--bandwidth 125e6] [--latency 0.001] [--workers 1 10 100 ...]
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


def seconds_of(function, *arguments):
    function(*arguments)  # compile
    return runner.seconds(function, *arguments)


def main():
    parser = runner.parser(__doc__)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--population", type=int, default=10240)
    parser.add_argument("--steps", type=int, default=1000, help="length of the episodes")
    parser.add_argument("--overhead", type=float, default=0.004, help="seconds of the scheduler per task")
    parser.add_argument("--bandwidth", type=float, default=125e6, help="bytes per second between two machines")
    parser.add_argument("--latency", type=float, default=0.001, help="seconds of a message")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 32, 100, 320, 640, 1000])
    arguments = parser.parse_args()

    resolved, network = resolve(arguments.env), RSNN()
    sizes = observation_size(resolved.observation_space), action_outputs(resolved.action_space)
    distribution = Bernoulli(network.shapes(*sizes))
    plan = Plan(resolved.environments, resolved.observation_space, resolved.action_space, network, False)
    rho, keys = distribution.init(), fold_in(key_from_seed(0), np.arange(arguments.population))
    standardizer = Standardizer.of(Moments.empty(sizes[0]), enabled=True, clip=10.0)
    networks = Networks(distribution.sampler(rho), standardizer)
    chunk = population(networks, keys, n_episodes=1, horizons=(float(arguments.steps),)).chunk(0, CHUNK)
    call = Call("0" * 32, 0, chunk._replace(networks=None))
    taken, outcome = seconds_of(play, plan, chunk, Instances(plan))
    per_step = taken / outcome.n_steps
    utility = centered_ranks(np.arange(arguments.population, dtype=float))
    gradient_seconds, gradient = seconds_of(distribution.gradient, rho, keys, utility)
    optimizer = adam(0.15)
    update_seconds, _ = seconds_of(optimizer.update, gradient, optimizer.init(rho), rho)
    serial = gradient_seconds + update_seconds
    rho_bytes = len(cloudpickle.dumps(networks))
    call_bytes, outcome_bytes = len(cloudpickle.dumps(call)), len(cloudpickle.dumps(outcome))

    tasks, one = math.ceil(arguments.population / CHUNK), CHUNK * arguments.steps * per_step
    evaluation = 2 * arguments.steps * per_step + 2 * arguments.latency
    print(
        f"{arguments.env}, population {arguments.population:,}, episodes of {arguments.steps} steps: {tasks} tasks of "
        f"{one:.2f} s ({1e6 * per_step:.0f} µs a step), serial {serial:.2f} s, evaluation {evaluation:.2f} s; once a "
        f"generation {rho_bytes:,} bytes of networks to draw from (the plan: {len(cloudpickle.dumps(plan)):,}), per "
        f"task {call_bytes:,} bytes out and {outcome_bytes:,} back"
    )
    print(
        "| workers | bytes from the trainer | bytes to it | broadcast | seconds a generation | speedup | efficiency |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    alone = serial + tasks * one + evaluation
    for workers in arguments.workers:
        rounds = math.ceil(math.log2(workers)) if workers > 1 else 0
        broadcast = rounds * (rho_bytes / arguments.bandwidth + arguments.latency)
        total = serial + broadcast + tasks * arguments.overhead + math.ceil(tasks / workers) * one + evaluation
        out = rho_bytes + tasks * call_bytes
        print(
            f"| {workers:,} | {out / 1e6:.1f} MB | {tasks * outcome_bytes / 1e6:.1f} MB | {1000 * broadcast:.0f} ms | "
            f"{total:.1f} | {alone / total:.0f} | {alone / total / workers:.0%} |"
        )


if __name__ == "__main__":
    main()
