"""SurrogateGradientPPOPolicy: spiking networks with real weights, trained by PPO through surrogate gradients."""

import copy
import functools
import importlib
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from time import perf_counter
from typing import Any, NamedTuple, Self

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ecpolicy import persistence
from ecpolicy.callbacks import Callback
from ecpolicy.distributions import Connections, Parameters, Point
from ecpolicy.estimators.backends import Plays, runner
from ecpolicy.estimators.base import ENDLESS_EPISODE, BasePolicy, DeployedPolicy
from ecpolicy.estimators.environments import Resolved, resolve
from ecpolicy.estimators.evolving import interrupts
from ecpolicy.estimators.parameters import check_choice, check_flag, check_number, make_network, seed_of
from ecpolicy.estimators.training import ONE_SIDED_95, SOLVED_EPISODES, Record, deployment_key
from ecpolicy.networks import Network, RealRSNN
from ecpolicy.normalization import Standardizer
from ecpolicy.persistence import Arrays, ModelFileError, take
from ecpolicy.random import Stream, environment_seed, fold_in, key_from_seed, uniform
from ecpolicy.rollout.outcome import EpisodeError
from ecpolicy.rollout.parallel import AnyEnv, Environment, deployed_task
from ecpolicy.spaces import action_decoder, action_outputs, check_spaces, observation_encoder, observation_size

SURROGATE_NAMES = ("superspike", "piecewise_linear", "sigmoid")
CRITICS = ("feedforward", "spiking", "shared")
CRITIC_WIDTH = 64  # of ecpolicy.networks.recurrent_policy, which needs PyTorch to be imported
CONFIRM_EPISODES = 20  # fresh ones, on which a new best deployed network must hold
VARIANCE_FLOOR = 1e-8  # VecNormalize's epsilon
LARGE = float(np.finfo(np.float32).max)

# Arguments of RecurrentPPO that the policy's own parameters give, or that make no sense here.
OWN_ARGUMENTS = {
    "self", "policy", "env", "learning_rate", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range",
    "ent_coef", "vf_coef", "max_grad_norm", "policy_kwargs", "seed", "verbose", "tensorboard_log", "use_sde",
    "sde_sample_freq", "_init_setup_model",
}  # fmt: skip


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

    def current(self, score: float = np.nan) -> Learnt:
        """The network as it is now."""
        weights = {
            "input": self.policy["lstm_actor.input"],
            "recurrent": self.policy["lstm_actor.recurrent"],
            "output": self.policy["action_net.weight"],
        }
        log_std = self.policy.get("log_std", np.zeros(0, np.float32))
        return Learnt(weights, log_std, self.observations, score, self.update)


class SurrogateGradientPPOPolicy(BasePolicy):
    """Policy that trains a recurrent spiking network with real weights by PPO and surrogate gradients.

    The baseline that the paper calls SG-RSNN: proximal policy optimisation, the derivative of a spike replaced by a
    surrogate, and backpropagation through time over every substep of ``n_steps`` environment steps. Training is
    sb3-contrib's ``RecurrentPPO`` with :class:`ecpolicy.networks.recurrent_policy.RSNNPolicy` and needs the packages of
    ``pip install "ecpolicy[sb3]"``; acting, scoring and loading run on the library's own kernel and need none of them.

    Parameters
    ----------
    n_neurons, step_ms, dt, tau_syn, tau_m, tau_out, gain_in, gain_recurrent, gain_out
        The network: see :class:`ecpolicy.networks.RealRSNN`. Potentials are zero when an episode starts.
    surrogate : {"superspike", "piecewise_linear", "sigmoid"}, default "superspike"
    beta : float, default 10.0
        Steepness of the surrogate.
    critic : {"feedforward", "spiking", "shared"}, default "feedforward"
        What estimates values during training: two tanh layers of the observation (fast; blind to what only memory could
        tell), a spiking network of its own, or a linear readout of the actor's rates. It is not deployed.
    n_envs : int, default 16
        Environments that are stepped together (paper: 2048). A list of environments takes turns in filling them.
    n_steps : int, default 16
        Environment steps of each per update, over which gradients go back in time.
    learning_rate : float, default 3e-4
    gamma, gae_lambda : float, default 0.99 and 0.95
        Discount factors of rewards, and of advantages beyond it.
    clip_range : float, default 0.2
    vf_coef, ent_coef : float, default 1.0 and 1e-3
        Weights of the value loss and the entropy.
    max_grad_norm : float, default 0.5
    n_epochs : int, default 10
        Passes over the steps of an update.
    batch_size : int or None, default None
        Environment steps per gradient; None for all of the update.
    ppo_kwargs : dict or None, default None
        Further arguments of ``sb3_contrib.RecurrentPPO``, such as ``{"target_kl": 0.02, "device": "cuda"}``. The device
        is the CPU by default.
    normalize_observations : bool, default True
        Standardise observations by the mean and variance of all observations so far.
    observation_clip : float, default 10.0
        (Standardised) observations are clipped to [-observation_clip, observation_clip].
    normalize_rewards : bool, default True
        Divide rewards by the standard deviation of the discounted return. With steps of fixed size, a critic takes long
        to reach the returns of tasks such as CartPole-v1, of the order of 100.
    max_env_steps : int, default 1_000_000
        Training ends after the update in which it has taken this many environment steps; with ``warm_start`` those of
        earlier fits count.
    score_threshold : "auto", float or None, default "auto"
        Fit ends when the deployed network reaches this mean return, confirmed on 100 fresh episodes. "auto" is the
        environment's registered ``reward_threshold``, if it has one; None turns this off.
    eval_every : int, default 5
        Updates between evaluations of the deployed network; the best one is deployed, as measured on fresh episodes.
    eval_episodes : int, default 4
        Episodes of an evaluation.
    n_jobs : int or None, default None
        joblib workers for the episodes of evaluations and of ``score``. Results do not depend on it.
    warm_start : bool, default False
        Continue the last fit instead of starting anew. Weights, optimiser, statistics and history go on; environments
        start new episodes, so the result is not that of an uninterrupted fit.
    random_state : int, numpy Generator or RandomState, or None
        An integer makes training reproducible on the same machine, bit for bit.
    verbose : int, default 0
        Print a line every so many evaluations.

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
    history_ : list of dict
        One entry per update: returns of the episodes that ended in it (None without any), the deployed network's score
        (None where it was not evaluated), steps, losses, seconds.
    n_env_steps_ : int
        Environment steps of training; those of evaluations are in ``history_``.
    n_updates_ : int
    stop_reason_ : str
        "max_env_steps", "score_threshold", "callback", "interrupted" or "error".

    Examples
    --------
    >>> import pytest
    >>> sb3 = pytest.importorskip("sb3_contrib")
    >>> from ecpolicy.estimators.ppo import SurrogateGradientPPOPolicy
    >>> policy = SurrogateGradientPPOPolicy(n_neurons=16, step_ms=4, n_envs=4, max_env_steps=128, random_state=0)
    >>> policy = policy.fit("CartPole-v1")
    >>> policy.weights_["recurrent"].shape
    (16, 16)
    """

    # What BasePolicy asks of how episodes are played: the kernel of the CPU, which is what the weights are exported to.
    backend = "numpy"
    chunk_size = None

    def __init__(
        self,
        *,
        n_neurons: int = 256,
        step_ms: float = 16.6,
        dt: float = 0.5,
        tau_syn: float = 5.0,
        tau_m: float = 10.0,
        tau_out: float = 10.0,
        gain_in: float = 0.1,
        gain_recurrent: float = 1.0,
        gain_out: float = 5.0,
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
        max_grad_norm: float = 0.5,
        n_epochs: int = 10,
        batch_size: int | None = None,
        ppo_kwargs: dict[str, Any] | None = None,
        normalize_observations: bool = True,
        observation_clip: float = 10.0,
        normalize_rewards: bool = True,
        max_env_steps: int = 1_000_000,
        score_threshold: float | str | None = "auto",
        eval_every: int = 5,
        eval_episodes: int = 4,
        n_jobs: int | None = None,
        warm_start: bool = False,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_neurons = n_neurons
        self.step_ms = step_ms
        self.dt = dt
        self.tau_syn = tau_syn
        self.tau_m = tau_m
        self.tau_out = tau_out
        self.gain_in = gain_in
        self.gain_recurrent = gain_recurrent
        self.gain_out = gain_out
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
        self.max_grad_norm = max_grad_norm
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
        self.n_jobs = n_jobs
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, environments: Any, y: None = None, *, callbacks: Sequence[Callback] | None = None) -> Self:
        """Train on an environment, or on a list of environments.

        Ctrl-C ends training after the current update; a second one at once. Whatever happens, the policy stays usable
        with what the last finished update learnt.

        Parameters
        ----------
        environments : environment, or list of environments
            An id, a ``gymnasium.Env`` (of which ``n_envs`` copies are made), an ``EnvSpec``, a callable that makes one,
            or a list of these.
        y : None
            Ignored; scikit-learn's place for labels.
        callbacks : sequence of callables, optional
            Called with the policy after every update; a callback that returns True ends training.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            Where sb3-contrib or PyTorch is missing.
        TypeError, ValueError
            Naming the parameter or environment, what was given and what is wanted.
        EpisodeError
            Where an environment raises, or returns NaN.
        """
        network = self._check()
        called = list(callbacks or [])
        for callback in called:
            if not callable(callback):
                raise TypeError(f"callbacks must be callables that take the policy; got {callback!r}.")
        resolved = resolve(environments)
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
        _require_sb3()
        further = self._check_ppo_kwargs()
        setting = Setting(
            network, self.critic, bool(self.normalize_observations), float(self.observation_clip), resolved.names
        )
        warm = bool(self.warm_start) and hasattr(self, "_training")
        if warm:
            self._check_continuable(resolved, setting)
        seed = self.seed_ if warm else seed_of(self.random_state)
        point = Point(
            network.shapes(observation_size(resolved.observation_space), action_outputs(resolved.action_space))
        )
        bar: Any = resolved.reward_threshold if self.score_threshold == "auto" else self.score_threshold
        threshold = None if bar is None else float(bar)
        reason, began = "error", False
        with (
            runner("numpy", resolved, network, point, n_jobs=self.n_jobs, chunk_size=None) as episodes,
            _globals_kept(further.get("device", "cpu")),
            interrupts() as interrupted,
        ):
            ppo = _PPO(self, further, setting, resolved, seed, self._training if warm else None)
            training = ppo.training()
            judge = _Judge(
                episodes,
                seed,
                len(resolved.environments),
                np.inf if resolved.time_limited else ENDLESS_EPISODE,
                threshold,
                int(self.eval_episodes),
            )
            history = list(self.history_) if warm else []
            try:
                while not (end := self._reason_to_stop(training, judge.threshold, began and interrupted())):
                    start = perf_counter()
                    training, record = ppo.advance(training)
                    last = training.n_env_steps >= self.max_env_steps or interrupted()
                    if training.update % self.eval_every == 0 or last:
                        training, record["deployed_return"] = judge.assess(training)
                    record["best_deployed_return"] = training.best.score if training.best else None
                    record["n_evaluation_steps"] = training.n_evaluation_steps
                    record["seconds"] = perf_counter() - start
                    history.append(record)
                    self._publish(training, history, resolved, seed)
                    began = True
                    self._print(record)
                    stops = [callback(self) for callback in called]
                    if any(stops):
                        end = "callback"
                        break
                reason = end
            except KeyboardInterrupt:
                reason = "interrupted"
                raise
            finally:
                ppo.close()
                if began or warm:
                    self.stop_reason_ = reason
                if began:
                    for callback in called:
                        getattr(callback, "finish", lambda policy: None)(self)
        if reason == "interrupted":
            warnings.warn(f"Interrupted: fit ended after update {self.n_updates_}.", stacklevel=2)
        return self

    def _check(self) -> RealRSNN:
        """Check the parameters that need no PyTorch; the network that they describe."""

        def number(*names: str, **bounds: Any) -> None:
            for name in names:
                check_number(name, getattr(self, name), **bounds)

        number("n_envs", "n_steps", "n_epochs", "max_env_steps", "eval_every", "eval_episodes", low=1, integer=True)
        number("beta", "learning_rate", "clip_range", "max_grad_norm", "observation_clip", low=0, open_low=True)
        number("gamma", "gae_lambda", low=0, high=1)
        number("vf_coef", "ent_coef", low=0)
        if self.n_envs * self.n_steps < 2:
            raise ValueError("n_envs * n_steps must be at least 2, as advantages are standardised over them.")
        if self.batch_size is not None:
            number("batch_size", low=2, integer=True)
            if self.n_envs * self.n_steps % self.batch_size == 1:
                raise ValueError(
                    f"batch_size={self.batch_size} leaves one of the {self.n_envs * self.n_steps} steps of an update "
                    "(n_envs * n_steps) for a batch of its own, over which advantages cannot be standardised. Give a "
                    "divisor of these."
                )
        for name in ("normalize_observations", "normalize_rewards", "warm_start"):
            check_flag(name, getattr(self, name))
        if not isinstance(self.verbose, bool):
            number("verbose", low=0, integer=True)
        if self.n_jobs is not None:
            number("n_jobs", low=-np.inf, integer=True)
            if self.n_jobs == 0:
                raise ValueError("n_jobs must be None or a number of workers as in joblib, not 0.")
        check_choice("surrogate", self.surrogate, SURROGATE_NAMES)
        check_choice("critic", self.critic, CRITICS)
        if isinstance(self.score_threshold, str) and self.score_threshold != "auto":
            raise ValueError(f'score_threshold must be "auto", a number or None; got {self.score_threshold!r}.')
        if not isinstance(self.score_threshold, str | None):
            number("score_threshold", low=-np.inf)
        if not isinstance(self.random_state, np.random.Generator | np.random.RandomState | None):
            number("random_state", low=0, high=2**64 - 1, integer=True)
        if not isinstance(self.ppo_kwargs, dict | None):
            raise TypeError(f"ppo_kwargs must be a dict or None; got {self.ppo_kwargs!r}.")
        for name, value in (self.ppo_kwargs or {}).items():
            if not isinstance(value, int | float | str | None):
                raise TypeError(f"ppo_kwargs[{name!r}] must be a number, a string, a bool or None; got {value!r}.")
        settings = {field.name: getattr(self, field.name) for field in fields(RealRSNN) if hasattr(self, field.name)}
        network = make_network("real-rsnn", {**settings, "random_start": False})
        assert isinstance(network, RealRSNN)
        return network

    def _check_ppo_kwargs(self) -> dict[str, Any]:
        """The further arguments of RecurrentPPO; raises ValueError where it does not take one."""
        from sb3_contrib import RecurrentPPO

        known = set(inspect.signature(RecurrentPPO.__init__).parameters) - OWN_ARGUMENTS
        given = dict(self.ppo_kwargs or {})
        if not set(given) <= known:
            raise ValueError(
                f"ppo_kwargs may hold {sorted(known)}; got {sorted(set(given) - known)}. What is a parameter of "
                "SurrogateGradientPPOPolicy is to be given as such."
            )
        return given

    def _check_continuable(self, resolved: Resolved, setting: Setting) -> None:
        """Raise where the earlier training does not fit these environments or parameters."""
        for name in ("observation_space", "action_space"):
            if getattr(self, f"{name}_") != getattr(resolved, name):
                raise ValueError(
                    f"Training so far was for the {name} {getattr(self, f'{name}_')}, the environment has "
                    f"{getattr(resolved, name)}. Fit without warm_start to start anew."
                )
        trained = self._training.setting
        for name in ("critic", "normalize_observations"):
            if getattr(trained, name) != getattr(setting, name):
                raise ValueError(
                    f"Training so far had {name}={getattr(trained, name)!r}; it cannot go on with "
                    f"{getattr(setting, name)!r}. Fit without warm_start to start anew."
                )
        if trained.network.n_neurons != setting.network.n_neurons:
            raise ValueError(
                f"Training so far was of {trained.network.n_neurons} neurons; n_neurons is now "
                f"{setting.network.n_neurons}. Fit without warm_start to start anew."
            )

    def _reason_to_stop(self, training: Training, threshold: float | None, interrupted: bool) -> str:
        """Why there is no further update, or an empty string."""
        if threshold is not None and training.solved_at is not None and training.solved_at >= threshold:
            return "score_threshold"
        if training.n_env_steps >= self.max_env_steps:
            return "max_env_steps"
        return "interrupted" if interrupted else ""

    def _publish(self, training: Training, history: list[Record], resolved: Resolved, seed: int) -> None:
        """Make a finished update the fitted state, all at once."""
        if training.update == 1:
            self._n_sampled = 0
        self.history_, self.seed_ = history, seed
        self.observation_space_, self.action_space_ = resolved.observation_space, resolved.action_space
        self.n_features_in_ = observation_size(resolved.observation_space)
        self._deploy(training)

    def _deploy(self, training: Training) -> None:
        """Act with the best network, or with the current one before any evaluation."""
        learnt = training.best or training.current()
        setting = training.setting
        self._training = training
        outputs = action_outputs(self.action_space_)
        point = Point(setting.network.shapes(self.n_features_in_, outputs))
        self._deployed = DeployedPolicy(
            network=setting.network,
            distribution=point,  # type: ignore[arg-type]  # episodes of the deployed network ask for its mode alone
            parameters=learnt.weights,
            standardizer=_standardizer(learnt.observations, setting),
            connections=point.mode(learnt.weights),
            decode=action_decoder(self.action_space_),
            seed=self.seed_,
        )
        self.weights_ = {name: weights.copy() for name, weights in learnt.weights.items()}
        self.log_std_ = learnt.log_std.copy()
        self.deployed_update_, self.n_updates_ = learnt.update, training.update
        self.n_env_steps_ = training.n_env_steps

    def _sample_networks(self, connections: Connections | None, starts: NDArray[np.bool_]) -> Any:
        """``deterministic=False`` draws actions here, and always acts with the one network."""
        return connections

    def _actions(self, output: NDArray[np.float32], deterministic: bool) -> NDArray[Any]:
        """Actions of the outputs; sampled ones are those of outputs with noise.

        The largest of logits with Gumbel noise is distributed as their softmax, the sign of a logit with logistic noise
        as a Bernoulli variable.
        """
        if deterministic:
            return self._deployed.decode(output)
        first = self._n_sampled
        self._n_sampled = first + output.shape[0]
        key = fold_in(fold_in(key_from_seed(self._deployed.seed), np.uint32(2**32 - 1)), Stream.CONNECTIONS)
        keys = fold_in(key, np.arange(first, self._n_sampled))
        u = uniform(keys, output.shape[1]).astype(np.float64) + 2.0**-25  # strictly between 0 and 1
        if isinstance(self.action_space_, spaces.Box):
            from scipy.special import ndtri

            noise = np.exp(self.log_std_.astype(np.float64)) * ndtri(u)
        elif isinstance(self.action_space_, spaces.MultiBinary):
            noise = np.log(u) - np.log1p(-u)
        else:
            noise = -np.log(-np.log(u))
        return self._deployed.decode((output + noise).astype(np.float32))

    def _print(self, record: Record) -> None:
        if not self.verbose or record["deployed_return"] is None:
            return
        if record["update"] // self.eval_every % int(self.verbose) == 0:
            finished = record["return_mean"]
            sys.stdout.write(
                f"update {record['update']:>5} | {record['n_env_steps']:>10,} steps"
                f" | return {'   none' if finished is None else f'{finished:9.2f}'}"
                f" | deployed {record['deployed_return']:9.2f}, best {record['best_deployed_return']:.2f}\n"
            )
            sys.stdout.flush()

    def _to_file(self) -> tuple[dict[str, Any], Arrays]:
        training: Training = self._training
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
            "parameters": {name: _to_json(name, value) for name, value in self.get_params(deep=False).items()},
            "network": asdict(training.setting.network),
            "setting": {
                "critic": training.setting.critic,
                "normalize_observations": training.setting.normalize_observations,
                "observation_clip": training.setting.observation_clip,
            },
            "environments": list(training.setting.environments),
            "observation_space": persistence.space_to_json(self.observation_space_),
            "action_space": persistence.space_to_json(self.action_space_),
            "seed": self.seed_,
            "n_observations": training.observations.n,
            "returns": {"var": float(training.returns.var), "mean": float(training.returns.mean),
                        "n": training.returns.n},
            "update": training.update,
            "gradient_steps": training.gradient_steps,
            "n_env_steps": training.n_env_steps,
            "n_evaluation_steps": training.n_evaluation_steps,
            "n_sampled": self._n_sampled,
            "solved_at": training.solved_at,
            "stop_reason": getattr(self, "stop_reason_", None),
            "best": None
            if best is None
            else {"score": best.score, "update": best.update, "n_observations": best.observations.n},
            "history": self.history_,
        }  # fmt: skip
        return document, arrays

    @classmethod
    def _from_file(cls, document: dict[str, Any], arrays: Arrays, network: Network | None = None) -> Self:
        given = document["parameters"]
        known = set(cls._get_param_names())
        if not isinstance(given, dict) or set(given) != known:
            different = sorted(set(given) ^ known) if isinstance(given, dict) else given
            raise ModelFileError(f"its parameters differ from this release's in {different}")
        policy = cls(**given)
        policy._check()
        _restore(policy, document, arrays)
        return policy


class _Judge(NamedTuple):
    """Evaluates the deployed network during a fit."""

    runner: Plays
    seed: int
    n_environments: int
    horizon: float
    threshold: float | None
    eval_episodes: int

    def assess(self, training: Training) -> tuple[Training, float]:
        """Score the network; keep it if it holds on fresh episodes; see whether the task is solved.

        A few episodes pick candidates and further ones decide, so that a lucky first score keeps no network.
        """
        network, best, bar = training.current(), training.best, self.threshold
        steps = 0

        def play(stream: Stream, first: int, count: int) -> NDArray[np.float64]:
            nonlocal steps
            key = fold_in(fold_in(key_from_seed(self.seed), training.update), np.uint32(2**32 - 1))
            keys = fold_in(fold_in(key, stream), np.arange(self.n_environments))[:, None, :]
            task = deployed_task(
                network.weights,
                environment_seed(fold_in(keys, np.arange(first, first + count))),
                membrane_key=deployment_key(self.seed),
                standardizer=_standardizer(network.observations, training.setting),
                horizon=self.horizon,
            )
            outcome = self.runner.run(task)
            steps += outcome.n_steps
            return outcome.fitness

        screened = float(play(Stream.EVALUATION, 0, self.eval_episodes).mean())
        solved = False
        if best is None or screened > best.score or (bar is not None and screened >= bar):
            returns = play(Stream.CONFIRMATION, 0, CONFIRM_EPISODES)
            if bar is not None and returns.mean() >= bar:
                returns = np.append(returns, play(Stream.CONFIRMATION, returns.size, SOLVED_EPISODES - returns.size))
                error = returns.std() / np.sqrt(returns.size)
                solved = bool(returns.mean() - ONE_SIDED_95 * error >= bar)
            score = float(returns.mean())
            if best is None or score > best.score or solved:
                best = network._replace(score=score)
        n_evaluation_steps = training.n_evaluation_steps + steps
        solved_at = bar if solved else training.solved_at
        return training._replace(best=best, n_evaluation_steps=n_evaluation_steps, solved_at=solved_at), screened


class _PPO:
    """RecurrentPPO on copies of the environments, one update at a time; everything of Stable-Baselines3 is in here."""

    def __init__(
        self,
        parameters: SurrogateGradientPPOPolicy,
        further: Mapping[str, Any],
        setting: Setting,
        resolved: Resolved,
        seed: int,
        earlier: Training | None,
    ) -> None:
        from sb3_contrib import RecurrentPPO
        from stable_baselines3.common.logger import Logger
        from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

        from ecpolicy.networks.recurrent_policy import RSNNPolicy

        p, n = parameters, int(parameters.n_envs)
        self._setting, self._resumed = setting, earlier
        make = functools.partial(_training_environment, resolved, setting)
        self._env: Any = VecNormalize(
            VecMonitor(DummyVecEnv([functools.partial(make, i) for i in range(n)])),
            norm_obs=bool(p.normalize_observations),
            norm_reward=bool(p.normalize_rewards),
            clip_obs=float(p.observation_clip),
            gamma=float(p.gamma),
            epsilon=VARIANCE_FLOOR,
        )
        # Every fit has a stream of its own: a warm start must not repeat the episodes and draws of the first one.
        stream = fold_in(fold_in(key_from_seed(seed), 0 if earlier is None else earlier.update), Stream.ENVIRONMENT)
        self._model: Any = RecurrentPPO(
            RSNNPolicy,
            self._env,
            learning_rate=float(p.learning_rate),
            n_steps=int(p.n_steps),
            batch_size=None if p.batch_size is None else int(p.batch_size),
            n_epochs=int(p.n_epochs),
            gamma=float(p.gamma),
            gae_lambda=float(p.gae_lambda),
            clip_range=float(p.clip_range),
            ent_coef=float(p.ent_coef),
            vf_coef=float(p.vf_coef),
            max_grad_norm=float(p.max_grad_norm),
            policy_kwargs={
                "network": setting.network,
                "surrogate": p.surrogate,
                "beta": float(p.beta),
                "shared_lstm": p.critic == "shared",
                "enable_critic_lstm": p.critic == "spiking",
            },
            seed=int(environment_seed(stream)) >> 1,  # environment i is seeded with it + i, below 2**31
            **{"device": "cpu", **further},
        )
        self._model.set_logger(Logger(folder=None, output_formats=[]))
        if earlier is not None:
            self._load(earlier)

    def _load(self, earlier: Training) -> None:
        """Go on from earlier weights, optimiser and statistics."""
        import torch

        policy, env = self._model.policy, self._env
        policy.load_state_dict({name: torch.tensor(value) for name, value in earlier.policy.items()})
        if earlier.gradient_steps:
            state = policy.optimizer.state
            for name, parameter in policy.named_parameters():
                state[parameter] = {
                    "step": torch.tensor(float(earlier.gradient_steps)),
                    "exp_avg": torch.tensor(earlier.first[name]).to(parameter.device),
                    "exp_avg_sq": torch.tensor(earlier.second[name]).to(parameter.device),
                }
        if env.norm_obs:
            env.obs_rms.mean, env.obs_rms.var = earlier.observations.mean.copy(), earlier.observations.var.copy()
            env.obs_rms.count = earlier.observations.n
        env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count = earlier.returns
        self._model.num_timesteps = earlier.n_env_steps

    def training(self) -> Training:
        """Everything as it is now; what evaluations found stays as it was in the earlier training."""
        policy, env = self._model.policy, self._env
        state = policy.optimizer.state
        arrays = {name: _to_array(value) for name, value in policy.state_dict().items()}
        first, second, steps = {}, {}, [0]
        for name, parameter in policy.named_parameters():
            moments = state.get(parameter, {})
            first[name] = _to_array(moments["exp_avg"]) if moments else np.zeros_like(arrays[name])
            second[name] = _to_array(moments["exp_avg_sq"]) if moments else np.zeros_like(arrays[name])
            steps.append(int(moments["step"]) if moments else 0)
        size = policy.lstm_actor.input_size
        observations = _statistics(env.obs_rms) if env.norm_obs else Statistics(np.zeros(size), np.ones(size), 0.0)
        new = Training(self._setting, arrays, first, second, max(steps), observations, _statistics(env.ret_rms))
        earlier = self._resumed
        if earlier is None:
            return new
        best, solved_at = (earlier.best, earlier.solved_at) if earlier.setting == self._setting else (None, None)
        return new._replace(
            update=earlier.update,
            n_env_steps=earlier.n_env_steps,
            n_evaluation_steps=earlier.n_evaluation_steps,
            best=best,
            solved_at=solved_at,
        )

    def advance(self, before: Training) -> tuple[Training, Record]:
        """One rollout and the update that learns from it."""
        from stable_baselines3.common.callbacks import BaseCallback

        class Finished(BaseCallback):
            """Collects the episodes that end."""

            def __init__(self) -> None:
                super().__init__()
                self.episodes: list[Mapping[str, float]] = []

            def _on_step(self) -> bool:
                self.episodes += [info["episode"] for info in self.locals["infos"] if "episode" in info]
                return True

        model, finished = self._model, Finished()
        diverged: ValueError | None = None
        try:
            model.learn(model.n_steps * model.n_envs, callback=finished, log_interval=None, reset_num_timesteps=False)
        except ValueError as error:  # PyTorch's distributions refuse NaN
            diverged = error
        logged = model.logger.name_to_value
        after = self.training()._replace(
            update=before.update + 1,
            n_env_steps=int(model.num_timesteps),
            n_evaluation_steps=before.n_evaluation_steps,
            best=before.best,
            solved_at=before.solved_at,
        )
        bad = [name for name, value in after.policy.items() if not np.isfinite(value).all()]
        if bad:
            raise FloatingPointError(
                f"Update {after.update} made {bad} infinite or NaN; the policy is that of the update before. Give a "
                "smaller learning_rate or max_grad_norm."
            ) from diverged
        if diverged is not None:
            raise diverged
        returns = [float(episode["r"]) for episode in finished.episodes]
        lengths = [float(episode["l"]) for episode in finished.episodes]
        record = {
            "update": after.update,
            "n_episodes": len(returns),
            "return_mean": float(np.mean(returns)) if returns else None,
            "episode_length": float(np.mean(lengths)) if lengths else None,
            "deployed_return": None,
            "best_deployed_return": None,
            "n_env_steps": after.n_env_steps,
            "n_evaluation_steps": after.n_evaluation_steps,
            "policy_loss": _logged(logged, "policy_gradient_loss"),
            "value_loss": _logged(logged, "value_loss"),
            "entropy_loss": _logged(logged, "entropy_loss"),
            "approx_kl": _logged(logged, "approx_kl"),
            "clip_fraction": _logged(logged, "clip_fraction"),
            "explained_variance": _logged(logged, "explained_variance"),
            "seconds": 0.0,
        }
        return after, record

    def close(self) -> None:
        """Close the copies of the environments."""
        self._env.close()


class _TrainingEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment with flat observations, and with the actions that Stable-Baselines3 knows how to sample.

    A Box of any shape is trained as a vector in [-1, 1] where it is bounded, which the deployed network's decoder maps
    to the action; choices count from zero.
    """

    def __init__(self, env: AnyEnv, clip: float) -> None:
        super().__init__(env)  # type: ignore[arg-type]
        space: Any = env.action_space
        self._clip, self._encode = clip, observation_encoder(env.observation_space)
        self._decode = action_decoder(space)
        self._original = space
        size = observation_size(env.observation_space)
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        if isinstance(space, spaces.Box):
            bound = np.where((space.bounded_below & space.bounded_above).reshape(-1), 1.0, LARGE).astype(np.float32)
            self.action_space = spaces.Box(-bound, bound, dtype=np.float32)
        elif isinstance(space, spaces.Discrete):
            self.action_space = spaces.Discrete(int(space.n))
        elif isinstance(space, spaces.MultiDiscrete):
            self.action_space = spaces.MultiDiscrete(space.nvec.reshape(-1))
        else:
            self.action_space = spaces.MultiBinary(action_outputs(space))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observation, flat."""
        observation, info = self._guarded(lambda: self.env.reset(seed=seed, options=options), "reset")
        return self._observe(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step with an action of the trained space."""
        taken = self._action(action)
        observation, reward, terminated, truncated, info = self._guarded(lambda: self.env.step(taken), "step")
        if not np.isfinite(float(reward)):
            raise EpisodeError(f"A reward is {reward}. Mend the environment, or wrap it to replace such values.")
        return self._observe(observation), reward, bool(terminated), bool(truncated), info

    def _guarded(self, call: Callable[[], Any], what: str) -> Any:
        try:
            return call()
        except Exception as error:
            raise EpisodeError(f"The environment raised {type(error).__name__}: {error} in {what}.") from error

    def _action(self, action: Any) -> Any:
        space = self._original
        if isinstance(space, spaces.Box):
            return self._decode(np.asarray(action, dtype=np.float32)[None])[0]
        if isinstance(space, spaces.Discrete):
            return np.int64(action) + np.int64(space.start)
        if isinstance(space, spaces.MultiDiscrete):
            return np.asarray(np.reshape(action, space.start.shape) + space.start, dtype=space.dtype)
        return np.asarray(np.reshape(action, space.shape), dtype=space.dtype)

    def _observe(self, observation: Any) -> NDArray[np.float64]:
        try:
            flat = np.asarray(self._encode(observation), dtype=np.float64)
        except ValueError as error:
            raise EpisodeError(str(error)) from error
        if not np.isfinite(flat).all():
            raise EpisodeError(
                f"An observation is NaN or infinite: {flat}. Mend the environment, or wrap it to replace such values."
            )
        return np.clip(flat, -self._clip, self._clip)


def _training_environment(resolved: Resolved, setting: Setting, i: int) -> gym.Env[Any, Any]:
    """Environment ``i`` of those that are stepped together: the given ones take turns."""
    given: Environment = resolved.environments[i % len(resolved.environments)]
    if isinstance(given, gym.Env):
        try:
            made: AnyEnv = copy.deepcopy(given)
        except Exception as error:
            raise ValueError(
                f"{given} cannot be copied ({type(error).__name__}: {error}), and training steps several at once. Give "
                "its id or a callable that makes one."
            ) from error
    else:
        assert callable(given)
        made = given()
    return _TrainingEnv(made, np.inf if setting.normalize_observations else setting.observation_clip)


def _require_sb3() -> None:
    """Raise ImportError unless the packages that train can be imported."""
    for package in ("torch", "stable_baselines3", "sb3_contrib"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"Fitting SurrogateGradientPPOPolicy needs {package}, which cannot be imported ({error}). Install it: "
                'pip install "ecpolicy[sb3]".'
            ) from error


@contextmanager
def _globals_kept(device: str) -> Iterator[None]:
    """Give back the global states of random numbers and threads, which Stable-Baselines3 sets; train on one thread.

    The layer's matrices are small: a second thread costs more than it gains, and changes the rounding.
    """
    import torch

    threads = torch.get_num_threads()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    devices = [] if device == "cpu" else list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _standardizer(observations: Statistics, setting: Setting) -> Standardizer:
    """How observations entered the network in training."""
    if not setting.normalize_observations:
        return Standardizer(np.zeros_like(observations.mean), np.ones_like(observations.mean), setting.observation_clip)
    inverse_std = 1 / np.sqrt(observations.var + VARIANCE_FLOOR)
    return Standardizer(observations.mean.copy(), inverse_std, setting.observation_clip)


def _statistics(running: Any) -> Statistics:
    return Statistics(np.array(running.mean, np.float64), np.array(running.var, np.float64), float(running.count))


def _to_array(tensor: Any) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)


def _logged(logged: Mapping[str, Any], name: str) -> float | None:
    value = logged.get(f"train/{name}")
    return None if value is None or not np.isfinite(value) else float(value)


def _add_statistics(arrays: Arrays, prefix: str, statistics: Statistics) -> None:
    arrays[f"{prefix}/mean"], arrays[f"{prefix}/var"] = statistics.mean, statistics.var


def _take_statistics(arrays: Arrays, prefix: str, size: int, count: float) -> Statistics:
    large = float(np.finfo(np.float64).max)
    mean = take(arrays, f"{prefix}/mean", "<f8", (size,), -large, large)
    return Statistics(mean, take(arrays, f"{prefix}/var", "<f8", (size,), 0.0, large), count)


def _policy_shapes(setting: Setting, obs_size: int, action_space: gym.Space[Any]) -> dict[str, tuple[int, ...]]:
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


def _restore(policy: SurrogateGradientPPOPolicy, document: dict[str, Any], arrays: Arrays) -> None:
    """Set the fitted attributes that a file holds, and deploy."""
    policy.observation_space_ = persistence.space_from_json(document["observation_space"])
    policy.action_space_ = persistence.space_from_json(document["action_space"])
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
    shapes = _policy_shapes(setting, obs_size, policy.action_space_)
    policy.seed_ = _count(document, "seed", 2**64 - 1)

    def parts(prefix: str, low: float) -> dict[str, NDArray[np.float32]]:
        return {name: take(arrays, f"{prefix}/{name}", "<f4", shape, low, LARGE) for name, shape in shapes.items()}

    best, update = None, _count(document, "update", 2**32 - 2)
    if document["best"] is not None:
        wanted = network.shapes(obs_size, outputs)
        best = Learnt(
            {
                name: take(arrays, f"best/weights/{name}", "<f4", (shape.pre, shape.post), -LARGE, LARGE)
                for name, shape in wanted.items()
            },
            take(arrays, "best/log_std", "<f4", shapes.get("log_std", (0,)), -LARGE, LARGE),
            _take_statistics(arrays, "best/observations", obs_size, _number(document["best"], "n_observations", 0)),
            _number(document["best"], "score"),
            _count(document["best"], "update", update),
        )
    returns = document["returns"]
    training = Training(
        setting,
        parts("policy", -LARGE),
        parts("first", -LARGE),
        parts("second", 0.0),
        _count(document, "gradient_steps"),
        _take_statistics(arrays, "observations", obs_size, _number(document, "n_observations", 0)),
        Statistics(np.array(_number(returns, "mean")), np.array(_number(returns, "var", 0)), _number(returns, "n", 0)),
        update,
        _count(document, "n_env_steps"),
        _count(document, "n_evaluation_steps"),
        best,
        None if document["solved_at"] is None else _number(document, "solved_at"),
    )
    policy.history_ = document["history"]
    if not isinstance(policy.history_, list) or len(policy.history_) != update:
        raise ModelFileError("its history does not have one record per update")
    for record in policy.history_:
        if set(record) != set(policy.history_[0]):
            raise ModelFileError("the records of its history differ")
        for name, value in record.items():
            if value is not None:
                _number(record, name)
    policy.stop_reason_ = document["stop_reason"]
    if not isinstance(policy.stop_reason_, str | None):
        raise ModelFileError(f"its stop_reason is {policy.stop_reason_!r}")
    policy._n_sampled = _count(document, "n_sampled", 2**32 - 1)
    policy._deploy(training)


def _count(document: Mapping[str, Any], name: str, high: float = 2**63) -> int:
    value = document[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
        raise ModelFileError(f"its {name} is {value!r}")
    return value


def _number(document: Mapping[str, Any], name: str, low: float = -np.inf) -> float:
    value = document[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value) or value < low:
        raise ModelFileError(f"its {name} is {value!r}")
    return float(value)


def _to_json(name: str, value: Any) -> Any:
    """A parameter as JSON has it; a generator given as random_state is not kept, the seed drawn from it is."""
    if isinstance(value, dict):
        return {key: _to_json(key, part) for key, part in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if name == "random_state":
        return None
    raise TypeError(f"The parameter {name}={value!r} cannot be saved.")
