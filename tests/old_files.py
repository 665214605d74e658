"""Policies of every kind, saved by the version at hand, for later versions to load: they must act as they did.

    python tests/old_files.py tests/data/files/<version>

Beside the files goes ``expected.json``: the environment of each, and what ``predict`` did over an episode.
"""

import json
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np

import ecpolicy
from ecpolicy import ESPolicy, EvolvingConnectivityPolicy, SurrogateGradientPPOPolicy
from ecpolicy.anatomy import distance_probabilities, ring
from ecpolicy.networks import GRU, LSTM, RSNN, RealRSNN

SEARCH = {"population_size": 40, "n_generations": 4, "eval_episodes": 2, "confirm_episodes": 4, "random_state": 3}
PPO = {"network": RealRSNN(17, step_ms=4.0), "n_envs": 2, "n_steps": 64, "max_env_steps": 512, "n_epochs": 2,
       "random_state": 3}  # fmt: skip
PRIOR = {"recurrent": distance_probabilities(ring(33), length=0.2, peak=0.9), "output": 0.25}

POLICIES = {
    "ec": (EvolvingConnectivityPolicy(**{**SEARCH, "n_generations": 30}, network=RSNN(33)), "CartPole-v1"),
    "ec_prior": (
        EvolvingConnectivityPolicy(
            **SEARCH, network=RSNN(33), max_episode_steps=[(0, 20), (4000, np.int64(40))],
            learning_rate=[(0, 0.3), (2000, 0.1)], eps=np.float32(0.02), initial_probability=PRIOR, n_jobs=2,
            timeout=60.0,
        ),
        "Pendulum-v1",
    ),
    "ec_sgd": (
        EvolvingConnectivityPolicy(
            **SEARCH, network=RSNN(16), optimizer="sgd", learning_rate=30.0, max_episode_steps=30, keep_best=False
        ),
        "Acrobot-v1",
    ),
    "es_rsnn": (ESPolicy(**SEARCH, network=RealRSNN(17), max_episode_steps=40), "Pendulum-v1"),
    "es_gru": (ESPolicy(**SEARCH, network=GRU(9)), "CartPole-v1"),
    "es_lstm": (ESPolicy(**SEARCH, network=LSTM(9), max_episode_steps=40), "Pendulum-v1"),
    "ppo": (SurrogateGradientPPOPolicy(**PPO), "CartPole-v1"),
    "ppo_spiking_critic": (SurrogateGradientPPOPolicy(**PPO, critic="spiking", eval_every=2), "Pendulum-v1"),
}  # fmt: skip


def episode(policy, environment_id):
    """The actions of the deployed network, and the return, over an episode."""
    environment = gym.make(environment_id)
    observation, _ = environment.reset(seed=11)
    state, actions, total, over = None, [], 0.0, False
    while not over:
        action, state = policy.predict(observation, state)
        observation, reward, terminated, truncated, _ = environment.step(action)
        actions.append(np.asarray(action).tolist())
        total += float(reward)
        over = terminated or truncated
    return {"actions": actions, "return": total}


def main():
    """Train, save, and note what the policies do."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    expected = {}
    for name, (policy, environment) in POLICIES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            policy.fit(environment)
        policy.save(folder / f"{name}.ecp")
        expected[name] = {
            "class": type(policy).__name__,
            "environment": environment,
            "n_env_steps": policy.n_env_steps_,
            "history": len(policy.history_),
            "last": {name: value for name, value in policy.history_[-1].items() if name != "seconds"},
            **episode(ecpolicy.load(folder / f"{name}.ecp"), environment),
        }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
