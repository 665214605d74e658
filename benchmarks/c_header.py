"""The C header of a policy: bytes of flash and RAM, and microseconds per environment step, beside the library's kernel.

Flash is what ``size`` calls text of an object that holds the policy alone, compiled for size; RAM is the state, and
the stack of a step as gcc states it. Times are of this machine, on observations of an episode, the best of the rounds.
Needs gcc.
"""

import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import ecpolicy
import runner
from ecpolicy.inspection import record_activity
from ecpolicy.networks import RSNN, IntegerRSNN

OPTIONS = {"path": "", "env": "HalfCheetah-v5", "neurons": 256, "steps": 1000, "integer": False, "rounds": 5}
DRIVER = """\
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#define NET_FLOAT
#include "net.h"
#ifndef NET_INTEGER
#define net_act net_step
typedef net_action net_number;
#endif
int main(int argc, char **argv) {
    static net_state state;
    net_number action[NET_ACTIONS];
    const long steps = atol(argv[2]);
    double *seen = malloc(sizeof(double) * NET_OBSERVATIONS * steps), sum = 0;
    FILE *file = fopen(argv[1], "rb");
    if (argc != 3 || !fread(seen, sizeof(double) * NET_OBSERVATIONS, steps, file)) return 1;
    net_reset(&state);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long t = 0; t < steps; t++) {
        net_act(&state, seen + t * NET_OBSERVATIONS, action);
        sum += (double)action[0];
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.3f %.17g\\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / 1e3 / steps, sum);
    return 0;
}
"""
ALONE = {
    RSNN: '#include "net.h"\nvoid act(net_state *s, const double *o, net_action *a) { net_step(s, o, a); }\n',
    IntegerRSNN: '#include "net.h"\nvoid act(net_state *s, const int16_t *x, net_action *a) { net_step(s, x, a); }\n',
}


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def in_c(folder, flags, defines, steps, rounds):
    """Microseconds per step, the best of the rounds, and the sum of the first action."""
    run("gcc", "-std=gnu99", "-ffp-contract=off", *flags, *defines, "driver.c", "-o", "driver", "-lm", cwd=folder)
    rows = [run("./driver", "seen.bin", str(steps), cwd=folder).split() for _ in range(rounds)]
    return min(float(row[0]) for row in rows), float(rows[0][1])


def in_python(policy, observations, rounds):
    def act():
        state, total = None, 0.0
        for observation in observations:
            action, state = policy.predict(observation, state)
            total += float(np.ravel(action)[0])
        return total

    best, total = min(runner.seconds(act) for _ in range(rounds))
    return best / len(observations) * 1e6, total


def rows(options):
    kind = IntegerRSNN if options.integer else RSNN
    if options.path:
        policy = ecpolicy.load(options.path)
    else:
        policy = ecpolicy.EvolvingConnectivityPolicy(
            network=kind(options.neurons, gain_in=0.3), n_generations=2, population_size=16, max_episode_steps=50,
            random_state=0,
        ).fit(options.env)  # fmt: skip
    activity = record_activity(policy, options.env, max_episode_steps=options.steps)
    observations, steps = activity.observations, len(activity.rewards)
    python, wanted = in_python(policy, observations, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.h").write_text(policy.to_c("net"))
        (Path(folder) / "driver.c").write_text(DRIVER)
        (Path(folder) / "alone.c").write_text(ALONE[type(policy.network)])
        observations.tofile(Path(folder) / "seen.bin")
        run("gcc", "-std=c99", "-Os", "-fstack-usage", "-c", "alone.c", cwd=folder)
        yield {
            "task": options.env, "neurons": policy.excitatory_.size, "steps": steps,
            "bytes of flash (gcc -Os)": int(run("size", "alone.o", cwd=folder).split("\n")[1].split()[0]),
            "of state": int(re.search(r"State: (\d+)", policy.to_c("net")).group(1)),
            "of stack": max(int(line.split("\t")[1]) for line in (Path(folder) / "alone.su").read_text().splitlines()),
            "spikes a step": activity.spikes_per_step.mean(), "operations a step": activity.synaptic_operations.mean(),
        }  # fmt: skip
        defines = ["-DNET_INTEGER"] if isinstance(policy.network, IntegerRSNN) else []
        yield {"by": "predict, one observation at a time", "us a step": python}
        for flags in (["-Os"], ["-O2"], ["-O3", "-march=native"]):
            microseconds, total = in_c(folder, flags, defines, steps, options.rounds)
            assert np.isclose(total, wanted, rtol=1e-12), "other actions"
            yield {"by": f"gcc {' '.join(flags)}", "us a step": microseconds}
