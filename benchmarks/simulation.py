"""Whole episodes of a policy of integers in its Verilog: every spike, readout and action against the library's.

The test bench plays the observations of the policy's own episodes; actions are compared with those of ``predict`` as
well. Where anything differs, there is an error and no row. Cycles are those of the chip, seconds those of the
simulation. The policy is trained for so many steps with tuned settings. Needs Verilator 5: apt-get install verilator.
"""

import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import runner
from ecpolicy import EvolvingConnectivityPolicy, tuned
from ecpolicy.inspection import record_activity
from ecpolicy.networks import RSNN, IntegerRSNN

OPTIONS = {"env": ["CartPole-v1", "Pendulum-v1", "Hopper-v5"], "neurons": 256, "lanes": 1, "train_steps": 200_000,
           "episodes": 10}  # fmt: skip
VERILATOR = ["verilator", "--binary", "--timing", "-O3", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--top", "policy_tb"]


def trained(environment, neurons, steps):
    found = tuned(environment)
    gain_in = found.parameters.get("network", RSNN()).gain_in
    settings = found.parameters | {"network": IntegerRSNN(neurons, gain_in=gain_in)}
    policy = EvolvingConnectivityPolicy(**settings, max_env_steps=steps, n_generations=10_000, random_state=0)
    return policy.fit(found.environment)


def simulate(folder):
    """Seconds, and what the test bench says."""
    subprocess.run([*VERILATOR, "policy.v", "policy_tb.v"], cwd=folder, check=True, capture_output=True)
    return runner.seconds(
        lambda: subprocess.run(["obj_dir/Vpolicy_tb"], cwd=folder, check=True, capture_output=True, text=True).stdout
    )


def actions_of(policy, folder):
    """The environment's actions in ``actions.hex``, which has whole numbers of 32 bits, the first one lowest."""
    lines = (Path(folder) / "actions.hex").read_text().split()
    numbers = np.array([bytes.fromhex(line)[::-1] for line in lines]).view("<i4").reshape(len(lines), -1)
    if not hasattr(policy.action_space_, "low"):
        return numbers.reshape(len(lines), *policy.action_space_.shape)
    unit = 1 / policy.network.constants(policy.n_features_in_).scale_out
    return policy._deployed.decode((numbers / unit).astype(np.float32))


def rows(options):
    for environment in options.env:
        policy = trained(environment, options.neurons, options.train_steps)
        episodes = [record_activity(policy, environment, seed=seed) for seed in range(options.episodes)]
        with tempfile.TemporaryDirectory() as folder:
            policy.to_verilog(folder, lanes=options.lanes, episodes=[each.observations for each in episodes])
            actions = actions_of(policy, folder)
            np.testing.assert_array_equal(actions, np.concatenate([each.actions for each in episodes]))
            seconds, said = simulate(folder)
        passed = re.search(r"PASS: (\d+) steps, (\d+) substeps, (\d+) cycles", said)
        if not passed:
            raise RuntimeError(said[-2000:])
        steps, substeps, cycles = map(int, passed.groups())
        yield {
            "task": environment, "neurons": options.neurons, "episodes": options.episodes,
            "return": np.mean([each.rewards.sum() for each in episodes]), "steps": steps,
            "substeps": substeps, "spikes": sum(int(each.spikes.sum()) for each in episodes),
            "cycles an action": cycles, "seconds": seconds,
        }  # fmt: skip
