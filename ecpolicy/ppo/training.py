"""What continues a training by PPO, in plain arrays, and what a file holds of it: nothing here needs PyTorch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.distributions import Parameters
from ecpolicy.files.codec import array, count, known, number, optional
from ecpolicy.networks import RealRSNN
from ecpolicy.normalization import Standardizer

VARIANCE_FLOOR = 1e-8  # VecNormalize's epsilon
CRITIC_WIDTH = 64  # units of the feed-forward critic's layers
LARGEST_LOG_STD = 80.0  # noise of this size is still a finite number
LAST_UPDATE = 2**32 - 2


class Statistics(NamedTuple):
    """Running mean and variance, as VecNormalize keeps them."""

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    n: float  # observations, and VecNormalize's small start value


class Learnt(NamedTuple):
    """A network worth deploying and what goes with it."""

    weights: Parameters  # "input", "recurrent", "output": (pre, post)
    log_std: NDArray[np.float32]  # (outputs,) of continuous actions, else (0,)
    observations: Statistics
    score: float  # what it was kept for
    update: int


class Setting(NamedTuple):
    """What a deployed network's score depends on, apart from the network and the observation statistics."""

    network: RealRSNN
    critic: str
    normalize_observations: bool
    observation_clip: float
    environments: tuple[str, ...]

    @property
    def environment_clip(self) -> float:
        """Where environments clip observations; VecNormalize clips those that it standardises."""
        return np.inf if self.normalize_observations else self.observation_clip

    def standardizer(self, observations: Statistics) -> Standardizer:
        """How observations entered the network in training."""
        if not self.normalize_observations:
            mean = np.zeros_like(observations.mean)
            return Standardizer(mean, np.ones_like(mean), self.observation_clip)
        inverse_std = 1 / np.sqrt(observations.var + VARIANCE_FLOOR)
        return Standardizer(observations.mean.copy(), inverse_std, self.observation_clip)


class Training(NamedTuple):
    """All that continues a fit, in plain arrays: nothing here needs PyTorch."""

    setting: Setting
    policy: Parameters  # of the actor, the critic and the action distribution, by PyTorch's names
    first: Parameters  # Adam's moments of each of these
    second: Parameters
    gradient_steps: int
    observations: Statistics
    returns: Statistics  # of discounted returns, which scale the rewards
    update: int = 0
    n_env_steps: int = 0
    n_evaluation_steps: int = 0
    best: Learnt | None = None
    solved_at: float | None = None  # the score threshold that the best network reached

    @property
    def generation(self) -> int:
        """The last update."""
        return self.update

    def is_sound(self) -> bool:
        """Whether the best network is one of the training's."""
        return self.best is None or self.best.update <= self.update

    def current(self, score: float = np.nan) -> Learnt:
        """The network as it is now."""
        weights = {
            "input": self.policy["lstm_actor.input"],
            "recurrent": self.policy["lstm_actor.recurrent"],
            "output": self.policy["action_net.weight"],
        }
        log_std = self.policy.get("log_std", np.zeros(0, np.float32))
        return Learnt(weights, log_std, self.observations, score, self.update)


def schema(setting: Setting, obs_size: int, n_outputs: int, *, continuous: bool) -> Training:
    """What a file holds of a training, for :mod:`ecpolicy.files.codec`."""
    noise = n_outputs if continuous else 0
    shapes = parameter_shapes(setting, obs_size, n_outputs, continuous=continuous)

    def statistics(shape: tuple[int, ...]) -> Statistics:
        return Statistics(array("<f8", shape), array("<f8", shape, low=0), number(low=0))

    def parameters(low: float | None = None) -> dict[str, np.ndarray]:
        return {name: array("<f4", shape, low) for name, shape in shapes.items()}

    weights = {name: array("<f4", shape[:2]) for name, shape in setting.network.shapes(obs_size, n_outputs).items()}
    best = Learnt(weights, log_std(noise), statistics((obs_size,)), number(), count(LAST_UPDATE))
    return Training(
        setting=known(setting),
        policy=parameters() | ({"log_std": log_std(noise)} if continuous else {}),
        first=parameters(),
        second=parameters(low=0),
        gradient_steps=count(),
        observations=statistics((obs_size,)),
        returns=statistics(()),
        update=count(LAST_UPDATE),
        n_env_steps=count(),
        n_evaluation_steps=count(),
        best=optional(best),
        solved_at=optional(number()),
    )


def log_std(n: int) -> np.ndarray:
    """What a file holds of the logarithm of the noise of continuous actions."""
    return array("<f4", (n,), high=LARGEST_LOG_STD)


def parameter_shapes(
    setting: Setting, obs_size: int, n_outputs: int, *, continuous: bool
) -> dict[str, tuple[int, ...]]:
    """Shapes of the policy's parameters, by PyTorch's names; checked in the tests against what PyTorch has."""
    n, width = setting.network.n_neurons, CRITIC_WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "lstm_actor.input": (obs_size, n),
        "lstm_actor.recurrent": (n, n),
        "action_net.weight": (n, n_outputs),
    }
    if continuous:
        shapes["log_std"] = (n_outputs,)
    if setting.critic == "feedforward":
        shapes |= {"critic.0.weight": (width, obs_size), "critic.0.bias": (width,)}
        shapes |= {"critic.2.weight": (width, width), "critic.2.bias": (width,)}
    elif setting.critic == "spiking":
        shapes |= {"lstm_critic.input": (obs_size, n), "lstm_critic.recurrent": (n, n)}
    last = width if setting.critic == "feedforward" else n
    return shapes | {"value_net.weight": (1, last), "value_net.bias": (1,)}
