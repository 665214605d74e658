"""What the file of a policy trained by PPO holds, and how the policy is put together from it: every part checked."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ecpolicy.distributions import Point
from ecpolicy.estimators.documents import (
    common_to_file,
    count,
    network_from_json,
    network_to_json,
    number,
    parameters,
    restore_common,
    standardizer_from_file,
    standardizer_to_file,
)
from ecpolicy.estimators.parameters import check_choice, check_flag, check_number
from ecpolicy.estimators.ppo_environment import LARGE
from ecpolicy.estimators.ppo_training import CRITICS, Learnt, Setting, Statistics, Training
from ecpolicy.fitting.deployed import Deployable, DeployedPolicy
from ecpolicy.fitting.fit import act_with, deploy
from ecpolicy.fitting.resumption import NoTraining
from ecpolicy.networks import RealRSNN
from ecpolicy.persistence import Arrays, ModelFileError, take
from ecpolicy.spaces import action_outputs

CRITIC_WIDTH = 64  # of ecpolicy.networks.recurrent_policy, which needs PyTorch to be imported
LARGEST_LOG_STD = 80.0  # noise of this size is still a finite number
LAST_UPDATE = 2**32 - 2


def to_file(policy: Any, training_state: bool) -> tuple[dict[str, Any], Arrays]:
    """The JSON document and the arrays of a fitted policy, with all that training goes on from or without."""
    document, arrays = common_to_file(policy, training_state)
    further = _training_to_file(policy._training) if training_state else _deployed_to_file(policy)
    return document | further[0], arrays | further[1]


def _deployed_to_file(policy: Any) -> tuple[dict[str, Any], Arrays]:
    """What acting needs."""
    deployed: DeployedPolicy = policy._deployed
    document, arrays = standardizer_to_file(deployed.standardizer)
    document |= {
        "network": network_to_json(deployed.network),
        "update": policy.n_updates_,
        "deployed_update": policy.deployed_update_,
        "n_env_steps": policy.n_env_steps_,
    }
    arrays |= {f"connections/{name}": weights[0] for name, weights in deployed.connections.items()}
    return document, arrays | {"log_std": policy.log_std_}


def _training_to_file(training: Training) -> tuple[dict[str, Any], Arrays]:
    """What acting and training need."""
    arrays: Arrays = {}
    for prefix in ("policy", "first", "second"):
        for name, value in sorted(getattr(training, prefix).items()):
            arrays[f"{prefix}/{name}"] = value
    _add_statistics(arrays, "observations", training.observations)
    best = training.best
    if best is not None:
        for name, value in best.weights.items():
            arrays[f"best/weights/{name}"] = value
        arrays["best/log_std"] = best.log_std
        _add_statistics(arrays, "best/observations", best.observations)
    document = {
        "network": network_to_json(training.setting.network),
        "setting": {
            "critic": training.setting.critic,
            "normalize_observations": training.setting.normalize_observations,
            "observation_clip": training.setting.observation_clip,
        },
        "n_observations": training.observations.n,
        "returns": {"var": float(training.returns.var), "mean": float(training.returns.mean),
                    "n": training.returns.n},
        "update": training.update,
        "gradient_steps": training.gradient_steps,
        "n_env_steps": training.n_env_steps,
        "n_evaluation_steps": training.n_evaluation_steps,
        "solved_at": training.solved_at,
        "best": None
        if best is None
        else {"score": best.score, "update": best.update, "n_observations": best.observations.n},
    }  # fmt: skip
    return document, arrays


def from_file(cls: Any, document: dict[str, Any], arrays: Arrays) -> Any:
    """The policy of a file."""
    policy = cls(**parameters(document, cls._get_param_names()))
    policy._check()
    names = restore_common(policy, document, arrays)
    network = network_from_json(document["network"], None)
    if not isinstance(network, RealRSNN) or network.random_start:
        raise ModelFileError("its network is another one, or starts from random potentials")
    if document["training_state"]:
        training = _training_from_file(policy, document, arrays, network, names)
        deploy(policy, training, policy.action_space_, policy.seed_)
    else:
        _deploy_alone(policy, document, arrays, network, names)
    return policy


def _deploy_alone(
    policy: Any, document: Mapping[str, Any], arrays: Arrays, network: RealRSNN, names: tuple[str, ...]
) -> None:
    """Act with the network of a file that holds nothing else."""
    outputs = action_outputs(policy.action_space_)
    shapes = network.shapes(policy.n_features_in_, outputs)
    weights = {
        name: take(arrays, f"connections/{name}", "<f4", (shape.pre, shape.post), -LARGE, LARGE)
        for name, shape in shapes.items()
    }
    log_std = take(arrays, "log_std", "<f4", _log_std_shape(policy.action_space_), -LARGE, LARGEST_LOG_STD)
    standardizer = standardizer_from_file(document, arrays, policy.n_features_in_)
    update = count(document, "update", LAST_UPDATE)
    shown = {
        "weights_": weights,
        "log_std_": log_std,
        "deployed_update_": count(document, "deployed_update", update),
        "n_updates_": update,
        "n_env_steps_": count(document, "n_env_steps"),
    }
    training = NoTraining(Setting(network, policy.critic, True, standardizer.clip, names))
    chosen = Deployable(network, Point(shapes), weights, standardizer, shown)
    act_with(policy, chosen, training, policy.action_space_, policy.seed_)


def _log_std_shape(action_space: gym.Space[Any]) -> tuple[int]:
    return (action_outputs(action_space) if isinstance(action_space, spaces.Box) else 0,)


def policy_shapes(setting: Setting, obs_size: int, action_space: gym.Space[Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the policy's parameters, by PyTorch's names; checked in the tests against what PyTorch has."""
    n, outputs, width = setting.network.n_neurons, action_outputs(action_space), CRITIC_WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "lstm_actor.input": (obs_size, n),
        "lstm_actor.recurrent": (n, n),
        "action_net.weight": (n, outputs),
    }
    if isinstance(action_space, spaces.Box):
        shapes["log_std"] = (outputs,)
    if setting.critic == "feedforward":
        shapes |= {"critic.0.weight": (width, obs_size), "critic.0.bias": (width,)}
        shapes |= {"critic.2.weight": (width, width), "critic.2.bias": (width,)}
    elif setting.critic == "spiking":
        shapes |= {"lstm_critic.input": (obs_size, n), "lstm_critic.recurrent": (n, n)}
    last = width if setting.critic == "feedforward" else n
    return shapes | {"value_net.weight": (1, last), "value_net.bias": (1,)}


def _training_from_file(
    policy: Any, document: Mapping[str, Any], arrays: Arrays, network: RealRSNN, names: tuple[str, ...]
) -> Training:
    """What a file holds of a training."""
    obs_size, given = policy.n_features_in_, document["setting"]
    outputs = action_outputs(policy.action_space_)
    check_choice("critic", given["critic"], CRITICS)
    check_flag("normalize_observations", given["normalize_observations"])
    check_number("observation_clip", given["observation_clip"], low=0, open_low=True)
    setting = Setting(
        network, given["critic"], given["normalize_observations"], float(given["observation_clip"]), names
    )
    shapes = policy_shapes(setting, obs_size, policy.action_space_)

    def parts(prefix: str, low: float, log_std: float = LARGE) -> dict[str, NDArray[np.float32]]:
        return {
            name: take(arrays, f"{prefix}/{name}", "<f4", shape, low, log_std if name == "log_std" else LARGE)
            for name, shape in shapes.items()
        }

    best, update = None, count(document, "update", LAST_UPDATE)
    if document["best"] is not None:
        wanted = network.shapes(obs_size, outputs)
        best = Learnt(
            {
                name: take(arrays, f"best/weights/{name}", "<f4", (shape.pre, shape.post), -LARGE, LARGE)
                for name, shape in wanted.items()
            },
            take(arrays, "best/log_std", "<f4", _log_std_shape(policy.action_space_), -LARGE, LARGEST_LOG_STD),
            _take_statistics(arrays, "best/observations", obs_size, number(document["best"], "n_observations", 0)),
            number(document["best"], "score"),
            count(document["best"], "update", update),
        )
    returns = document["returns"]
    return Training(
        setting,
        parts("policy", -LARGE, LARGEST_LOG_STD),
        parts("first", -LARGE),
        parts("second", 0.0),
        count(document, "gradient_steps"),
        _take_statistics(arrays, "observations", obs_size, number(document, "n_observations", 0)),
        Statistics(np.array(number(returns, "mean")), np.array(number(returns, "var", 0)), number(returns, "n", 0)),
        update,
        count(document, "n_env_steps"),
        count(document, "n_evaluation_steps"),
        best,
        None if document["solved_at"] is None else number(document, "solved_at"),
    )


def _add_statistics(arrays: Arrays, prefix: str, statistics: Statistics) -> None:
    arrays[f"{prefix}/mean"], arrays[f"{prefix}/var"] = statistics.mean, statistics.var


def _take_statistics(arrays: Arrays, prefix: str, size: int, n: float) -> Statistics:
    large = float(np.finfo(np.float64).max)
    mean = take(arrays, f"{prefix}/mean", "<f8", (size,), -large, large)
    return Statistics(mean, take(arrays, f"{prefix}/var", "<f8", (size,), 0.0, large), n)
