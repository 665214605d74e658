"""SurrogateGradientPPOPolicy: spiking networks with real weights, trained by PPO through surrogate gradients."""

from contextlib import ExitStack
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ecpolicy.constraints import Table, documented
from ecpolicy.distributions import Parameters, Point
from ecpolicy.environments import Resolved
from ecpolicy.files.archive import ModelFileError
from ecpolicy.files.codec import TINY, choice, count, known, number, only
from ecpolicy.fitting.deployed import Deployable
from ecpolicy.fitting.learner import Run
from ecpolicy.networks import Network, RealRSNN
from ecpolicy.optional import require
from ecpolicy.policies.acting import PolicyState
from ecpolicy.policies.parameters import CRITICS, PPO, check_batches
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.ppo.environment import training_environments
from ecpolicy.ppo.global_state import globals_kept
from ecpolicy.ppo.learner import PPOLearner, check_ppo_kwargs
from ecpolicy.ppo.training import LAST_UPDATE, Setting, Training, log_std, schema
from ecpolicy.random import Stream, fold_in, reserved_key, uniform
from ecpolicy.untyped import Kwargs


@documented(PPO)
class SurrogateGradientPPOPolicy(BasePolicy):
    """Policy that trains a recurrent spiking network with real weights by PPO and surrogate gradients.

    The baseline that the paper calls SG-RSNN: proximal policy optimisation, the derivative of a spike replaced by a
    surrogate, and backpropagation through time over every substep of ``n_steps`` environment steps. Training is
    sb3-contrib's ``RecurrentPPO`` with :class:`ecpolicy.ppo.sb3_policy.RSNNPolicy` and needs the packages of
    ``pip install "ecpolicy[sb3]"``; acting, scoring and loading run on the library's own kernel and need none of them.

    Parameters
    ----------
    <parameters>

    Attributes
    ----------
    weights_ : dict of str to ndarray of float32
        The deployed network: "input" (obs_size, n_neurons), "recurrent" (n_neurons, n_neurons) and "output" (n_neurons,
        n_outputs), presynaptic by postsynaptic.
    log_std_ : ndarray of float32
        Logarithm of the standard deviation of continuous actions with ``deterministic=False``; empty for others.
    deployed_update_ : int
        The update that is deployed.
    observation_space_, action_space_ : gymnasium.Space
    n_features_in_ : int
        Size of a flattened observation.
    history_ : sequence of dict
        One entry per update: its number ("generation"), returns of the episodes that ended in it (None without any),
        the deployed network's score, speed and place at the end (None where it was not evaluated, and where the
        environments do not report them), steps, losses, seconds.
    n_env_steps_ : int
        Environment steps of training; those of evaluations are in ``history_``.
    n_updates_ : int
    engine_ : str or None
        What played the last fit's episodes: "mujoco", "gymnasium" or "jax"; None of a policy that was loaded.
    notes_ : list of str
        How the last fit understood what it was given, where that may surprise; printed before the first progress line.
    stop_reason_ : str
        "max_env_steps", "score_threshold", "interrupted", "error", "partial_fit", or "callback"
        and the name of the one that ended it, such as "callback StopOnReturn".

    Examples
    --------
    >>> import pytest
    >>> sb3 = pytest.importorskip("sb3_contrib")
    >>> from ecpolicy.policies.ppo import SurrogateGradientPPOPolicy
    >>> from ecpolicy.networks import RealRSNN
    >>> network = RealRSNN(n_neurons=16, step_ms=4)
    >>> policy = SurrogateGradientPPOPolicy(network=network, n_envs=4, max_env_steps=128, random_state=0)
    >>> policy = policy.fit("CartPole-v1")
    >>> policy.weights_["recurrent"].shape
    (16, 16)
    """

    table: ClassVar[Table] = PPO

    # What every fit asks for and is settled here. Episodes are played by the CPU's kernel, as the weights are deployed.
    backend = "numpy"
    chunk_size = None
    confirm_episodes = 20

    def __init__(
        self,
        *,
        network: RealRSNN | None = None,
        surrogate: str = "superspike",
        beta: float = 10.0,
        critic: str = "feedforward",
        n_envs: int = 16,
        n_steps: int = 16,
        learning_rate: float = 3e-4,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float = 0.2,
        vf_coef: float = 1.0,
        ent_coef: float = 1e-3,
        n_epochs: int = 10,
        batch_size: int | None = None,
        ppo_kwargs: Kwargs | None = None,
        normalize_observations: bool = True,
        observation_clip: float = 10.0,
        normalize_rewards: bool = True,
        max_env_steps: int = 1_000_000,
        score_threshold: float | str | None = "auto",
        eval_every: int = 5,
        eval_episodes: int = 4,
        engine: str = "auto",
        n_jobs: int | None = None,
        timeout: float | None = None,
        warm_start: bool = False,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.network = network
        self.surrogate = surrogate
        self.beta = beta
        self.critic = critic
        self.n_envs = n_envs
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.gamma = gamma
        self.gae_lambda = gae_lambda
        self.clip_range = clip_range
        self.vf_coef = vf_coef
        self.ent_coef = ent_coef
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.ppo_kwargs = ppo_kwargs
        self.normalize_observations = normalize_observations
        self.observation_clip = observation_clip
        self.normalize_rewards = normalize_rewards
        self.max_env_steps = max_env_steps
        self.score_threshold = score_threshold
        self.eval_every = eval_every
        self.eval_episodes = eval_episodes
        self.engine = engine
        self.n_jobs = n_jobs
        self.timeout = timeout
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _check_environments(self, resolved: Resolved) -> None:
        if resolved.vectorized or resolved.on_device:
            what = "environments of Brax or MuJoCo Playground" if resolved.on_device else "a VectorEnv"
            raise ValueError(
                f"SurrogateGradientPPOPolicy cannot train on {what}: it makes n_envs={self.n_envs} environments of its "
                "own. Give an id, a gymnasium.Env, an EnvSpec, a callable that makes one, or a list of these."
            )
        if len(resolved.environments) > self.n_envs:
            raise ValueError(
                f"n_envs must be at least the number of environments given, {len(resolved.environments)}, so that each "
                f"is trained on; got {self.n_envs}."
            )
        for package in ("torch", "stable_baselines3", "sb3_contrib"):
            require(package, "Fitting SurrogateGradientPPOPolicy", extra="sb3")
        check_ppo_kwargs(self.ppo_kwargs or {})

    def _learner(self, run: Run, closing: ExitStack) -> PPOLearner:
        assert isinstance(run.network, RealRSNN)
        further, environments = dict(self.ppo_kwargs or {}), run.resolved.environments
        setting = Setting(
            run.network,
            self.critic,
            bool(self.normalize_observations),
            float(self.observation_clip),
            run.resolved.identities,
        )
        closing.enter_context(globals_kept(further.get("device", "cpu")))
        copies = closing.enter_context(training_environments(environments, int(self.n_envs), setting.environment_clip))
        numbers = ("learning_rate", "gamma", "gae_lambda", "clip_range", "ent_coef", "vf_coef")
        arguments = {name: float(getattr(self, name)) for name in numbers} | {
            "n_steps": int(self.n_steps),
            "batch_size": None if self.batch_size is None else int(self.batch_size),
            "n_epochs": int(self.n_epochs),
            "policy_kwargs": {
                "network": run.network,
                "surrogate": self.surrogate,
                "beta": float(self.beta),
                "shared_lstm": self.critic == "shared",
                "enable_critic_lstm": self.critic == "spiking",
            },
        }
        return PPOLearner(
            run,
            setting,
            copies,
            arguments,
            further,
            normalize_rewards=bool(self.normalize_rewards),
            timeout=None if self.timeout is None else float(self.timeout),
            eval_every=int(self.eval_every),
        )

    def _deployable(self, training: Training, n_outputs: int) -> Deployable:
        learnt, setting = training.best or training.current(), training.setting
        point = self._search(setting.network, learnt.observations.mean.size, n_outputs)
        shown = self._shown(setting.network, learnt.weights) | {
            "log_std_": learnt.log_std.copy(),
            "deployed_update_": learnt.update,
            "n_updates_": training.update,
        }
        standardizer = setting.standardizer(learnt.observations)
        return Deployable(setting.network, point, learnt.weights, standardizer, shown)

    def _check(self) -> RealRSNN:
        network = super()._check()
        check_batches(self.n_envs, self.n_steps, self.batch_size)
        assert isinstance(network, RealRSNN)
        return network

    def _sample_networks(self, state: PolicyState, starts: NDArray[np.bool_]) -> PolicyState:
        """``deterministic=False`` draws actions here, and always acts with the one network."""
        return state

    def _actions(self, output: NDArray[np.float32], deterministic: bool) -> np.ndarray:
        """Actions of the outputs; sampled ones are those of outputs with noise.

        The largest of logits with Gumbel noise is distributed as their softmax, the sign of a logit with logistic noise
        as a Bernoulli variable.
        """
        if deterministic:
            return self._deployed.decode(output)
        call = fold_in(reserved_key(self._deployed.seed, Stream.CONNECTIONS), self._n_sampled)
        self._n_sampled += 1
        keys = fold_in(call, np.arange(output.shape[0]))
        u = uniform(keys, output.shape[1]).astype(np.float64) + 2.0**-25  # strictly between 0 and 1
        if isinstance(self.action_space_, spaces.Box):
            from scipy.special import ndtri

            noise = np.exp(self.log_std_.astype(np.float64)) * ndtri(u)
        elif isinstance(self.action_space_, spaces.MultiBinary):
            noise = np.log(u) - np.log1p(-u)
        else:
            noise = -np.log(-np.log(u))
        return self._deployed.decode((output + noise).astype(np.float32))

    def _search(self, network: Network, obs_size: int, n_outputs: int) -> Point:
        return Point(network.shapes(obs_size, n_outputs))

    def _shown(self, network: Network, parameters: Parameters) -> dict[str, object]:
        return {"weights_": {name: weights.copy() for name, weights in parameters.items()}}

    def _trained_network(self, network: Network) -> Network:
        if not isinstance(network, RealRSNN) or network.random_start:
            raise ModelFileError("its network is another one, or starts from random potentials")
        return network.checked()

    @classmethod
    def _setting_schema(cls, network: RealRSNN, environments: tuple[str, ...]) -> Setting:
        return Setting(known(network), choice(*CRITICS), only(bool), number(low=TINY), known(environments))

    def _training_schema(self, setting: Setting, obs_size: int, n_outputs: int) -> Training:
        return schema(setting, obs_size, n_outputs, continuous=isinstance(self.action_space_, spaces.Box))

    def _shown_schema(self, n_outputs: int) -> dict[str, object]:
        updates, noise = count(LAST_UPDATE), log_std(n_outputs if isinstance(self.action_space_, spaces.Box) else 0)
        return {"n_updates_": updates, "deployed_update_": updates, "n_env_steps_": count(), "log_std_": noise}
