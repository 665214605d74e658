"""What the file of a policy trained by PPO holds, and how the policy is put together from it: every part checked."""

from dataclasses import asdict, fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ecpolicy.described_spaces import space_from_json, space_to_json
from ecpolicy.estimators.files import count, history, number, parameters, to_json
from ecpolicy.estimators.parameters import check_choice, check_flag, check_number, make_network
from ecpolicy.estimators.ppo_environment import LARGE
from ecpolicy.estimators.ppo_training import CRITICS, Learnt, Setting, Statistics, Training
from ecpolicy.networks import RealRSNN
from ecpolicy.persistence import Arrays, ModelFileError, take
from ecpolicy.spaces import action_outputs, check_spaces, observation_size

CRITIC_WIDTH = 64  # of ecpolicy.networks.recurrent_policy, which needs PyTorch to be imported
LARGEST_LOG_STD = 80.0  # noise of this size is still a finite number


def to_file(policy: Any) -> tuple[dict[str, Any], Arrays]:
    """The JSON document and the arrays of a fitted policy."""
    training: Training = policy._training
    arrays: Arrays = {}
    for prefix in ("policy", "first", "second"):
        for name, value in getattr(training, prefix).items():
            arrays[f"{prefix}/{name}"] = value
    _add_statistics(arrays, "observations", training.observations)
    best = training.best
    if best is not None:
        for name, value in best.weights.items():
            arrays[f"best/weights/{name}"] = value
        arrays["best/log_std"] = best.log_std
        _add_statistics(arrays, "best/observations", best.observations)
    document = {
        "parameters": {name: to_json(name, value) for name, value in policy.get_params(deep=False).items()},
        "network": asdict(training.setting.network),
        "setting": {
            "critic": training.setting.critic,
            "normalize_observations": training.setting.normalize_observations,
            "observation_clip": training.setting.observation_clip,
        },
        "environments": list(training.setting.environments),
        "observation_space": space_to_json(policy.observation_space_),
        "action_space": space_to_json(policy.action_space_),
        "seed": policy.seed_,
        "n_observations": training.observations.n,
        "returns": {"var": float(training.returns.var), "mean": float(training.returns.mean),
                    "n": training.returns.n},
        "update": training.update,
        "gradient_steps": training.gradient_steps,
        "n_env_steps": training.n_env_steps,
        "n_evaluation_steps": training.n_evaluation_steps,
        "n_sampled": policy._n_sampled,
        "solved_at": training.solved_at,
        "stop_reason": getattr(policy, "stop_reason_", None),
        "best": None
        if best is None
        else {"score": best.score, "update": best.update, "n_observations": best.observations.n},
        "history": policy.history_,
    }  # fmt: skip
    return document, arrays


def from_file(cls: Any, document: dict[str, Any], arrays: Arrays) -> Any:
    """The policy of a file."""
    policy = cls(**parameters(document, cls._get_param_names()))
    policy._check()
    _restore(policy, document, arrays)
    return policy


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


def _restore(policy: Any, document: dict[str, Any], arrays: Arrays) -> None:
    """Set the fitted attributes that a file holds, and deploy."""
    policy.observation_space_ = space_from_json(document["observation_space"])
    policy.action_space_ = space_from_json(document["action_space"])
    check_spaces(policy.observation_space_, policy.action_space_)
    policy.n_features_in_ = obs_size = observation_size(policy.observation_space_)
    outputs = action_outputs(policy.action_space_)
    described, names, given = document["network"], document["environments"], document["setting"]
    if not isinstance(described, dict) or set(described) != {field.name for field in fields(RealRSNN)}:
        raise ModelFileError("its network is incomplete")
    network = make_network("real-rsnn", described)
    if not isinstance(network, RealRSNN) or network.random_start:
        raise ModelFileError("its network starts from random potentials")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelFileError(f"its environments are {names!r}")
    check_choice("critic", given["critic"], CRITICS)
    check_flag("normalize_observations", given["normalize_observations"])
    check_number("observation_clip", given["observation_clip"], low=0, open_low=True)
    setting = Setting(
        network, given["critic"], given["normalize_observations"], float(given["observation_clip"]), tuple(names)
    )
    shapes = policy_shapes(setting, obs_size, policy.action_space_)
    policy.seed_ = count(document, "seed", 2**64 - 1)

    def parts(prefix: str, low: float, log_std: float = LARGE) -> dict[str, NDArray[np.float32]]:
        return {
            name: take(arrays, f"{prefix}/{name}", "<f4", shape, low, log_std if name == "log_std" else LARGE)
            for name, shape in shapes.items()
        }

    best, update = None, count(document, "update", 2**32 - 2)
    if document["best"] is not None:
        wanted = network.shapes(obs_size, outputs)
        best = Learnt(
            {
                name: take(arrays, f"best/weights/{name}", "<f4", (shape.pre, shape.post), -LARGE, LARGE)
                for name, shape in wanted.items()
            },
            take(arrays, "best/log_std", "<f4", shapes.get("log_std", (0,)), -LARGE, LARGEST_LOG_STD),
            _take_statistics(arrays, "best/observations", obs_size, number(document["best"], "n_observations", 0)),
            number(document["best"], "score"),
            count(document["best"], "update", update),
        )
    returns = document["returns"]
    training = Training(
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
    policy.history_ = history(document, update)
    policy.stop_reason_ = document["stop_reason"]
    if not isinstance(policy.stop_reason_, str | None):
        raise ModelFileError(f"its stop_reason is {policy.stop_reason_!r}")
    policy._n_sampled = count(document, "n_sampled", 2**32 - 1)
    policy._deploy(training, action_space_=policy.action_space_, seed_=policy.seed_)


def _add_statistics(arrays: Arrays, prefix: str, statistics: Statistics) -> None:
    arrays[f"{prefix}/mean"], arrays[f"{prefix}/var"] = statistics.mean, statistics.var


def _take_statistics(arrays: Arrays, prefix: str, size: int, n: float) -> Statistics:
    large = float(np.finfo(np.float64).max)
    mean = take(arrays, f"{prefix}/mean", "<f8", (size,), -large, large)
    return Statistics(mean, take(arrays, f"{prefix}/var", "<f8", (size,), 0.0, large), n)
