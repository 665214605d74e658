"""
From the simulator to a chip
============================

A trained network leaves Python as a graph of NIR, the format of neuromorphic tools, or as a C header for a
microcontroller. Compiled, the header takes a few kilobytes.
"""

# %%
# What it costs
# -------------
#
# Spikes and synaptic operations are what an event-driven chip spends energy on.

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.inspection import FiringRateDisplay, record_activity
from ecpolicy.networks import RSNN

policy = EvolvingConnectivityPolicy(network=RSNN(100), random_state=0).fit("CartPole-v1")
activity = record_activity(policy, "CartPole-v1", seed=0)
FiringRateDisplay.from_policy_run(activity)
print(f"In an environment step: {activity.spikes_per_step.mean():.0f} spikes")
print(f"and {activity.synaptic_operations.mean():,.0f} synaptic operations")

# %%
# A NIR graph
# -----------
#
# In this dialect connections are matrices of -1, 0 and 1, gains stand apart; what an importer needs besides is in the
# metadata.

graph = policy.to_nir(dialect="lif")
for name, node in graph.nodes.items():
    print(f"{name:>12}: {type(node).__name__}")
print({name: getattr(value, "shape", value) for name, value in graph.metadata.items()})

# %%
# Save it with ``nir.write("policy.nir", graph)``.
#
# A C header
# ----------
#
# The beginning of the header says how to use it, and what it takes.

header = policy.to_c("cartpole")
print(header[: header.index("#ifndef")])
