"""The spiking network as a policy class of sb3-contrib's RecurrentPPO: surrogate-gradient PPO without a new algorithm.

This module is PyTorch and Stable-Baselines3 through and through, and is itself imported where it is used.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.distributions import BernoulliDistribution
from torch import Tensor, nn

from ecpolicy.networks.spiking import RealRSNN
from ecpolicy.ppo.surrogate import SpikingLayer
from ecpolicy.ppo.training import CRITIC_WIDTH
from ecpolicy.untyped import Kwargs, Space

ALONE = (
    "It learns from one environment, and a gradient, which goes back through every substep in turn, takes little "
    "longer for many: give RecurrentPPO make_vec_env(id, 16) of Stable-Baselines3."
)
THREADS = (
    "PyTorch has several threads, for which the matrices are too small, so that they wait for each other: call "
    "torch.set_num_threads(1)."
)
INITIAL_HEAD = 0.1  # standard deviation of the initial readout weights: outputs near zero, actions near uniform


class Readout(nn.Module):
    """Outputs ``R_out (rate W)``, without a bias."""

    def __init__(self, n_neurons: int, n_outputs: int, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(INITIAL_HEAD * torch.randn(n_neurons, n_outputs))

    def forward(self, rates: Tensor) -> Tensor:
        """Outputs (batch, outputs) of rates (batch, n)."""
        return self.gain * (rates @ self.weight)


class RateValue(nn.Linear):
    """A value, linear in firing rates; these as spikes per ``tau_out``, so that they are of the order of one."""

    def __init__(self, n_neurons: int, tau_out: float) -> None:
        super().__init__(n_neurons, 1)
        self.tau_out = tau_out
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, rates: Tensor) -> Tensor:
        """Values (batch, 1) of rates (batch, n) in spikes per ms."""
        return super().forward(self.tau_out * rates)


class RSNNPolicy(RecurrentActorCriticPolicy):
    """Actor and critic with recurrent spiking networks, for ``RecurrentPPO``.

    The actor is the network of :class:`ecpolicy.networks.RealRSNN` with its potentials at zero when an episode starts:
    its outputs are the logits, or the means, of the actions. The weights into and between the neurons start from
    N(0, 1); those of the actor's readout from N(0, 0.1^2), so that the first actions are near uniform.

    ``RecurrentPPO`` also knows this class as "RSNNPolicy" once this module is imported.

    Parameters
    ----------
    observation_space : gymnasium.Space
    action_space : gymnasium.Space
    lr_schedule : callable
    network : RealRSNN or dict, optional
        The network or its settings; None for the defaults.
    surrogate : {"superspike", "piecewise_linear", "sigmoid"}
    beta : float
        Steepness of the surrogate.
    log_std_init : float
        Initial logarithm of the standard deviation of continuous actions.
    shared_lstm : bool
        The critic reads the actor's rates, and its gradient stops there.
    enable_critic_lstm : bool
        The critic has a spiking network of its own. With neither, it is a feed-forward network of the observation, two
        tanh layers of 64: faster, though blind to what only memory could tell.
    optimizer_class, optimizer_kwargs
        As in Stable-Baselines3; Adam by default.
    use_sde : bool
        Not supported; ``RecurrentPPO`` passes it.

    Examples
    --------
    >>> import pytest
    >>> RecurrentPPO = pytest.importorskip("sb3_contrib").RecurrentPPO
    >>> from ecpolicy.ppo.sb3_policy import RSNNPolicy
    >>> settings = {"network": {"n_neurons": 32}, "surrogate": "sigmoid"}
    >>> model = RecurrentPPO(RSNNPolicy, "CartPole-v1", n_steps=16, device="cpu", policy_kwargs=settings)
    >>> model.policy.lstm_actor.recurrent.shape
    torch.Size([32, 32])
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        lr_schedule: Callable[[float], float],
        *,
        network: RealRSNN | Kwargs | None = None,
        surrogate: str = "superspike",
        beta: float = 10.0,
        log_std_init: float = 0.0,
        shared_lstm: bool = False,
        enable_critic_lstm: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: Kwargs | None = None,
        use_sde: bool = False,
    ) -> None:
        if use_sde:
            raise ValueError("RSNNPolicy does not support use_sde=True; give use_sde=False.")
        settings = network if isinstance(network, RealRSNN) else RealRSNN(**(network or {}))
        self.network, self.surrogate, self.beta = settings, surrogate, beta
        self.told = False  # what makes training slow
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            ortho_init=False,
            log_std_init=log_std_init,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            lstm_hidden_size=settings.n_neurons,
            shared_lstm=shared_lstm,
            enable_critic_lstm=enable_critic_lstm,
        )
        actor = SpikingLayer(self.features_dim, settings, surrogate=surrogate, beta=beta)
        n_outputs: Any = self.action_net.out_features
        self.lstm_actor: Any = actor
        self.lstm_hidden_state_shape = (1, 1, actor.hidden_size)
        self.action_net = Readout(settings.n_neurons, n_outputs, actor.r_out)
        self.value_net = RateValue(settings.n_neurons, settings.tau_out)
        self.lstm_critic: Any = None
        self.critic: Any = None
        if enable_critic_lstm:
            self.lstm_critic = SpikingLayer(self.features_dim, settings, surrogate=surrogate, beta=beta)
        elif not shared_lstm:
            self.critic = nn.Sequential(
                nn.Linear(self.features_dim, CRITIC_WIDTH), nn.Tanh(), nn.Linear(CRITIC_WIDTH, CRITIC_WIDTH), nn.Tanh()
            )
            self.value_net = nn.Linear(CRITIC_WIDTH, 1)
        settings_of_optimizer: Kwargs = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **settings_of_optimizer)

    def _get_constructor_parameters(self) -> dict[str, object]:
        """What ``save`` writes beside the weights."""
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "network": self.network,
            "surrogate": self.surrogate,
            "beta": self.beta,
            "log_std_init": self.log_std_init,
            "shared_lstm": self.shared_lstm,
            "enable_critic_lstm": self.enable_critic_lstm,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }

    def forward(  # type: ignore[override]  # as in the base class, of which its own base knows nothing
        self, obs: Tensor, lstm_states: RNNStates, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, RNNStates]:
        """Actions, values, log-probabilities and states, as ``learn`` collects them; warns once where that is slow."""
        slow = [ALONE] * (len(episode_starts) == 1) + [THREADS] * (torch.get_num_threads() > 1)
        if slow and not self.told:
            warnings.warn(f"Training RSNNPolicy is slow like this. {' '.join(slow)}", stacklevel=5)
        self.told = True
        return super().forward(obs, lstm_states, episode_starts, deterministic)

    def evaluate_actions(  # type: ignore[override]  # likewise
        self, obs: Tensor, actions: Tensor, lstm_states: RNNStates, episode_starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, log-probabilities and entropy; of binary actions as floats, which RecurrentPPO leaves as integers."""
        if isinstance(self.action_dist, BernoulliDistribution):
            actions = actions.float()
        return super().evaluate_actions(obs, actions, lstm_states, episode_starts)

    @staticmethod
    def _process_sequence(
        features: Tensor, lstm_states: tuple[Tensor, Tensor], episode_starts: Tensor, lstm: nn.LSTM
    ) -> tuple[Tensor, Any]:
        """Run a batch of sequences, each from its state, or from zeros where an episode starts.

        RecurrentPPO's buffer cuts sequences where episodes start, so only the first step of one can be a start: one
        call does them all, where the base class would go step by step.

        Parameters
        ----------
        features : Tensor, shape (n_seq * time, obs_size)
        lstm_states : pair of Tensor, shape (1, n_seq, 2 n)
        episode_starts : Tensor, shape (n_seq * time,)
        lstm : SpikingLayer
        """
        n_seq = lstm_states[0].shape[1]
        later_starts = episode_starts.reshape(n_seq, -1)[:, 1:]
        if later_starts.any():
            return RecurrentActorCriticPolicy._process_sequence(features, lstm_states, episode_starts, lstm)
        going_on = (1.0 - episode_starts.reshape(n_seq, -1)[:, 0]).view(1, n_seq, 1)
        sequence = features.reshape(n_seq, -1, lstm.input_size).swapaxes(0, 1)
        rates, states = lstm(sequence, (going_on * lstm_states[0], going_on * lstm_states[1]))
        return rates.transpose(0, 1).flatten(0, 1), states


RecurrentPPO.policy_aliases.setdefault("RSNNPolicy", RSNNPolicy)
