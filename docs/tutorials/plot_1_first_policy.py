"""
A first policy
==============

Train a network of 1-bit connections on CartPole-v1, see how it learns, and look at its spikes.
"""

# %%
# Training
# --------
#
# A policy is an estimator: parameters go to its constructor, the environment to ``fit``. Every generation draws a
# population of networks from connection probabilities, plays an episode with each, and moves the probabilities towards
# those of the better ones. Training ends when the environment's registered threshold is reached, confirmed on 100 fresh
# episodes.

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.callbacks import ProbabilityHistogram

histogram = ProbabilityHistogram()
policy = EvolvingConnectivityPolicy(random_state=0)
policy.fit("CartPole-v1", callbacks=histogram)
print(f"{policy.stop_reason_} after {policy.n_generations_} generations")
print(f"{policy.n_env_steps_:,} environment steps")

# %%
# What is deployed is one network: the connections with a probability above one half. Its score is measured on fresh
# episodes.

returns = policy.episode_returns("CartPole-v1", n_episodes=100)
print(f"mean return {returns.mean():.1f} ± {returns.std():.1f}")

# %%
# How it learnt
# -------------
#
# Learning curves of several trainings show their spread; of one, they are a line.

from ecpolicy.inspection import LearningCurveDisplay

display = LearningCurveDisplay.from_policy_run(policy, label="best network so far")
LearningCurveDisplay.from_policy_run(policy, y="return_mean", ax=display.ax_, label="population")

# %%
# The probabilities start at one half and end near 0 or 1, but never at them: every connection goes on being tried.

from ecpolicy.inspection import ConnectionProbabilityDisplay

ConnectionProbabilityDisplay.from_policy_run(policy, histogram)

# %%
# What it does
# ------------
#
# Half of the neurons are excitatory, half inhibitory. Every environment step lasts 33 substeps of half a millisecond.

from ecpolicy.inspection import SpikeRasterDisplay

SpikeRasterDisplay.from_estimator(policy, "CartPole-v1", first_step=50, n_steps=40)

# %%
# Acting
# ------
#
# ``predict`` takes an observation and the state that it returned before, as in Stable-Baselines3.

import gymnasium as gym

environment = gym.make("CartPole-v1")
observation, _ = environment.reset(seed=0)
action, state = policy.predict(observation)
action, state = policy.predict(observation, state)
print(action)
environment.close()
