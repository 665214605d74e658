"""
The wiring as data
==================

Connection probabilities are what is learnt, so there is one for every pair of neurons. This tutorial looks at
densities and motifs of a trained network, and trains one with an anatomy of our own.
"""

# %%
# Densities
# ---------

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.networks import RSNN

policy = EvolvingConnectivityPolicy(network=RSNN(100), random_state=0).fit("CartPole-v1")
connectome = policy.connectome_
for (pre, post), density in connectome.densities().items():
    print(f"{pre:>12} to {post:<6} {density:.3f}")

# %%
# Tables and graphs
# -----------------
#
# The same connections as a pandas table, a SciPy sparse array or a networkx graph.

frame = connectome.to_pandas()
frame.groupby(["pre_group", "post_group"])["probability"].agg(["size", "mean"]).round(3)

# %%

print(connectome.to_networkx())
print(connectome.to_sparse("sign").shape)

# %%
# Motifs
# ------
#
# How often each of the 16 triads occurs, against random graphs with as many connections between and within the groups.

from ecpolicy.inspection import MotifDisplay

census = connectome.triads(n_random=30, seed=0)
MotifDisplay(census).plot()
print(census)

# %%
# Neurons on a ring
# -----------------
#
# Initial probabilities are a prior. Here neurons sit on a ring, excitatory and inhibitory ones in turn; connections
# become unlikely with distance, and beyond a tenth of the ring there are none, at any time: probabilities of exactly 0
# and 1 stay.

import numpy as np

from ecpolicy.anatomy import distance_probabilities, ring
from ecpolicy.inspection import ConnectionProbabilityDisplay

in_turn = np.concatenate([np.arange(0, 100, 2), np.arange(1, 100, 2)])  # excitatory first
positions = ring(100)[in_turn]
prior = distance_probabilities(positions, length=0.1, peak=0.8, reach=0.1)
local = EvolvingConnectivityPolicy(
    network=RSNN(100), initial_probability={"recurrent": prior}, random_state=0
)
local.fit("CartPole-v1")
print(f"{local.n_generations_} generations, density {local.connectivity_['recurrent'].mean():.3f}")
ConnectionProbabilityDisplay.from_estimator(local)
