"""
From a table of cell types to a figure
======================================

A table says how likely neurons of each type are connected. This tutorial makes a network of it, trains it with these
densities kept, looks at its activity, takes parts of it away, and draws a figure for a paper.
"""

# %%
# The table
# ---------
#
# One block a row, as in an atlas: presynaptic type, postsynaptic type, probability. Here are pyramidal cells and three
# types of interneurons, with numbers in the manner of the visual cortex (Campagnola et al., 2022); ``"atlas.csv"`` does
# as well as a data frame.

import pandas as pd

atlas = pd.DataFrame(
    [
        ("Pyr", "Pyr", 0.10), ("Pyr", "PV", 0.35), ("Pyr", "SST", 0.25), ("Pyr", "VIP", 0.10),
        ("PV", "Pyr", 0.40), ("PV", "PV", 0.40), ("PV", "SST", 0.05), ("PV", "VIP", 0.05),
        ("SST", "Pyr", 0.30), ("SST", "PV", 0.30), ("SST", "SST", 0.05), ("SST", "VIP", 0.35),
        ("VIP", "Pyr", 0.05), ("VIP", "PV", 0.10), ("VIP", "SST", 0.40), ("VIP", "VIP", 0.05),
    ],
    columns=["pre", "post", "probability"],
)  # fmt: skip
atlas.pivot(index="pre", columns="post", values="probability")

# %%
# A network has shares of neurons of each type, with their signs and, if wanted, time constants; excitatory types come
# first. Neurons lie on a ring; connections become rarer with distance.

import numpy as np

from ecpolicy.anatomy import block_probabilities, distance_probabilities, ring
from ecpolicy.networks import RSNN

# share and sign
cell_types = {"Pyr": (4 / 6, 1), "PV": (1 / 6, -1), "SST": (1 / 12, -1), "VIP": (1 / 12, -1)}
network = RSNN(96, cell_types=cell_types, tau_m={"PV": 5.0})
types = network.types
positions = ring(96)[np.random.default_rng(0).permutation(96)]
peak = block_probabilities(types, atlas)
prior = distance_probabilities(positions, length=0.3, peak=peak)
print(f"{prior.mean():.3f} of the connections are expected")

# %%
# Training
# --------
#
# ``keep_density=True`` keeps the prior, on average between every two types and over distance: the search decides which
# connections there are, and not how many. The gain of recurrent connections makes up for their being fewer than half.

from ecpolicy import EvolvingConnectivityPolicy

network = network.set_params(gain_recurrent=float(np.sqrt(0.5 / prior.mean())))
policy = EvolvingConnectivityPolicy(
    network=network, initial_probability={"recurrent": prior}, keep_density=True, random_state=0
)
policy.fit("CartPole-v1")
print(f"{policy.stop_reason_} after {policy.n_generations_} generations")
print(f"score {policy.score('CartPole-v1'):.0f}")

# %%
# What there was and what there is, by type: the densities of the trained network beside those of the prior.

wiring = policy.connectome_
found = wiring.by_block().to_pandas()
found = found[found["pre"].isin(types) & found["post"].isin(types)]
expected = [
    prior[np.ix_(types == block.pre, types == block.post)].mean() for block in found.itertuples()
]
found.assign(prior=expected).round(3)

# %%
# Which triads are more frequent than in random graphs of the same densities?

print(wiring.triads(n_random=30))

# %%
# Activity
# --------

from ecpolicy.inspection import SpikeRasterDisplay, record_activity

activity = record_activity(policy, "CartPole-v1", seed=0)
SpikeRasterDisplay.from_policy_run(activity, first_step=50, n_steps=30)
pd.Series(activity.rates).groupby(types, sort=False).agg(["mean", "max"]).round(1)

# %%
# Lesions
# -------
#
# What does the network earn without one of its types, or without one kind of connections? Episodes are the same ones.

from ecpolicy.inspection import lesion_returns

neurons = lesion_returns(policy, "CartPole-v1", ["Pyr", "PV", "SST", "VIP"], n_episodes=10)
neurons.to_pandas().round(1)

# %%

names = ("Pyr", "PV", "SST", "VIP")
between = [(pre, post) for pre in names for post in names]
blocks = lesion_returns(policy, "CartPole-v1", between, n_episodes=10)
print(blocks)

# %%
# A figure
# --------
#
# Displays draw into axes of yours, so a figure is put together as ever in Matplotlib; this one has the width of a page.
# It is saved as a vector graphic, in which the many connections alone are pixels.

from matplotlib import pyplot as plt

from ecpolicy.inspection import BlockDisplay, DistanceDisplay, LesionDisplay, NetworkDisplay

figure, axes = plt.subplot_mosaic("AB;CD", figsize=(7, 5), layout="constrained")
NetworkDisplay(wiring).plot(ax=axes["A"])
BlockDisplay(wiring.by_block()).plot(ax=axes["B"])
DistanceDisplay(wiring.by_distance(positions)).plot(ax=axes["C"])
LesionDisplay(blocks).plot(ax=axes["D"])
for letter, ax in axes.items():
    ax.set_title(letter.lower(), loc="left", fontweight="bold")
figure.savefig("wiring.pdf")
