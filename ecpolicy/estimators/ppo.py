"""SurrogateGradientPPOPolicy: spiking networks with real weights, trained by PPO through surrogate gradients."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from time import perf_counter
from typing import Any, NamedTuple, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ecpolicy.callbacks import Callback, Chain, Progress
from ecpolicy.callbacks.protocol import chained
from ecpolicy.distributions import Point
from ecpolicy.estimators import ppo_files
from ecpolicy.estimators.backends import Engine, Plays, engine, runner
from ecpolicy.estimators.base import BasePolicy, DeployedPolicy, PolicyState
from ecpolicy.estimators.environments import Resolved, resolve
from ecpolicy.estimators.evolving import check_same_spaces, notes, warn_of_another_task
from ecpolicy.estimators.judging import Judge, deployed_measures
from ecpolicy.estimators.loop import interrupts, train
from ecpolicy.estimators.observation_statistics import initial_moments
from ecpolicy.estimators.parameters import (
    check_choice,
    check_fit,
    check_flag,
    check_number,
    endless_episode,
    make_network,
    seed_of,
)
from ecpolicy.estimators.ppo_environment import training_environments
from ecpolicy.estimators.ppo_training import (
    CRITICS,
    Learnt,
    PPOTrainer,
    Setting,
    Training,
    check_ppo_kwargs,
    globals_kept,
)
from ecpolicy.estimators.resumption import ResumeFrom, adopt, earlier_training, own_training
from ecpolicy.estimators.training import Record
from ecpolicy.history import appended
from ecpolicy.networks import Network, RealRSNN
from ecpolicy.optional import require
from ecpolicy.persistence import Arrays
from ecpolicy.random import Stream, fold_in, reserved_key, uniform
from ecpolicy.rollout.episodes import Networks
from ecpolicy.rollout.outcome import Outcome
from ecpolicy.spaces import action_outputs, observation_size

CONFIRM_EPISODES = 20  # fresh ones, on which a new best deployed network must hold
SURROGATE_NAMES = ("superspike", "piecewise_linear", "sigmoid")


class _Run(NamedTuple):
    """What one call of fit or partial_fit works with."""

    trainer: PPOTrainer
    runner: Plays
    judge: Judge
    resolved: Resolved
    seed: int
    engine: Engine


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
    engine : {"auto", "mujoco", "gymnasium"}, default "auto"
        What plays the episodes of evaluations and of ``score``; see :class:`ecpolicy.EvolvingConnectivityPolicy`.
    n_jobs : int or None, default None
        joblib workers for the episodes of evaluations and of ``score``. Results do not depend on it.
    timeout : float or None, default None
        Seconds that an update, or two episodes of an evaluation, may take before ``fit`` and ``score`` give up with an
        EpisodeError, for environments that may hang; in the main thread.
    warm_start : bool, default False
        Continue the last fit instead of starting anew. Weights, optimiser, statistics and history go on; environments
        start new episodes, so the result is not that of an uninterrupted fit.
    random_state : int, numpy Generator or RandomState, or None
        An integer makes training reproducible on the same machine, bit for bit.
    verbose : int, default 0
        Print a line every so many evaluations, see :class:`ecpolicy.callbacks.Progress`.

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
        "max_env_steps", "score_threshold", "callback", "interrupted", "error" or "partial_fit".

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
        engine: str = "auto",
        n_jobs: int | None = None,
        timeout: float | None = None,
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
        self.engine = engine
        self.n_jobs = n_jobs
        self.timeout = timeout
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        environments: Any,
        y: None = None,
        *,
        callbacks: Callback | Sequence[Callback] | None = None,
        resume_from: ResumeFrom | None = None,
        observation_statistics: Any = None,
    ) -> Self:
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
        callbacks : callable or sequence of callables, optional
            Called with a read-only view of the policy after every update; one that returns True ends training. See
            :mod:`ecpolicy.callbacks`.
        resume_from : path-like or Checkpoint, optional
            Go on from a saved training instead of starting anew, as with ``warm_start``: environments start new
            episodes, so the result is not that of an uninterrupted fit.
        observation_statistics : VecNormalize or (mean, variance, count), optional
            Of observations made before, which the normalisation of a new training starts from.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            Where sb3-contrib or PyTorch is missing.
        TypeError, ValueError
            Naming the parameter or environment, what was given and what is wanted.
        FileNotFoundError, ModelFileError
            Where ``resume_from`` does not exist, or is damaged.
        EpisodeError
            Where an environment raises, hangs, returns NaN or changes its spaces.
        """
        called = chained(callbacks)
        earlier, observation_statistics = earlier_training(self, resume_from, observation_statistics)
        with (
            self._prepared(environments, earlier, observation_statistics) as run,
            interrupts() as interrupted,
        ):
            if self.verbose:
                called = Chain(called, Progress(int(self.verbose) * int(self.eval_every)))
            if earlier is not None:
                adopt(self, earlier)
            training = run.trainer.training()

            def step() -> None:
                nonlocal training
                training = self._advance(run, training, interrupted)

            def reason(began: bool) -> str:
                nonlocal training
                if not began and earlier is not None:
                    training = _measure_again(run, training)
                return self._reason_to_stop(training, run.judge.threshold, began and interrupted())

            stopped = train(self, called, continues=earlier is not None, step=step, reason=reason)
        if stopped == "interrupted":
            warnings.warn(f"Interrupted: fit ended after update {self.n_updates_}.", stacklevel=2)
        return self

    def partial_fit(self, environments: Any, y: None = None) -> Self:
        """Train for one update, going on from where the last ``fit`` or ``partial_fit`` ended.

        The network is evaluated after it. Environments start new episodes at every call, so the result is not that of
        ``fit``.

        Parameters
        ----------
        environments, y
            As for ``fit``.

        Returns
        -------
        self
        """
        earlier = own_training(self)
        with self._prepared(environments, earlier) as run:
            training = run.trainer.training()
            if earlier is not None:
                training = _measure_again(run, training)
            self._advance(run, training, lambda: True)
        self.stop_reason_ = "partial_fit"
        return self

    @contextmanager
    def _prepared(self, environments: Any, earlier: Any, observation_statistics: Any = None) -> Iterator[_Run]:
        """Check everything; what trains on these environments, whose copies are closed with the context.

        ``earlier`` is the policy whose training goes on, or None.
        """
        network = self._check()
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
        for package in ("torch", "stable_baselines3", "sb3_contrib"):
            require(package, "Fitting SurrogateGradientPPOPolicy", extra="sb3")
        further = dict(self.ppo_kwargs or {})
        check_ppo_kwargs(further)
        setting = Setting(
            network, self.critic, bool(self.normalize_observations), float(self.observation_clip), resolved.identities
        )
        if earlier is not None:
            _check_continuable(earlier, resolved, setting)
            if earlier is not self:
                warn_of_another_task(earlier, resolved.identities)
        seed = seed_of(self.random_state) if earlier is None else earlier.seed_
        moments = initial_moments(observation_statistics, resolved.observation_space, continues=earlier is not None)
        played_by = engine(self.engine, "numpy", resolved)
        bar: Any = resolved.reward_threshold if self.score_threshold == "auto" else self.score_threshold
        with (
            runner(
                "numpy",
                resolved,
                network,
                engine=played_by,
                n_jobs=self.n_jobs,
                timeout=self.timeout,
                chunk_size=None,
            ) as episodes,
            globals_kept(further.get("device", "cpu")),
            training_environments(resolved.environments, int(self.n_envs), setting.environment_clip) as copies,
        ):
            judge = Judge(
                seed,
                resolved.horizons(otherwise=endless_episode(self)),
                threshold=None if bar is None else float(bar),
                eval_episodes=int(self.eval_episodes),
                confirm_episodes=CONFIRM_EPISODES,
            )
            trainer = PPOTrainer(
                self, further, setting, copies, seed, None if earlier is None else earlier._training, moments
            )
            yield _Run(trainer, episodes, judge, resolved, seed, played_by)

    def _advance(self, run: _Run, training: Training, last: Callable[[], bool]) -> Training:
        """One update, evaluated where that is due or it is the last, and published."""
        start = perf_counter()
        training, record = run.trainer.advance(training)
        ends = training.n_env_steps >= self.max_env_steps or last()
        if training.update % self.eval_every == 0 or ends:
            training, deployed = _assess(run, training)
            record.update(deployed_measures(deployed))
        record["best_deployed_return"] = training.best.score if training.best else None
        record["n_evaluation_steps"] = training.n_evaluation_steps
        record["seconds"] = perf_counter() - start
        self._publish(training, record, run)
        return training

    def _check(self) -> RealRSNN:
        """Check the parameters that need no PyTorch; the network that they describe."""

        def number(*names: str, **bounds: Any) -> None:
            for name in names:
                check_number(name, getattr(self, name), **bounds)

        check_fit(self)
        number("n_envs", "n_steps", "n_epochs", "max_env_steps", "eval_every", "eval_episodes", low=1, integer=True)
        number("beta", "learning_rate", "clip_range", "max_grad_norm", low=0, open_low=True)
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
        check_flag("normalize_rewards", self.normalize_rewards)
        check_choice("surrogate", self.surrogate, SURROGATE_NAMES)
        check_choice("critic", self.critic, CRITICS)
        if not isinstance(self.ppo_kwargs, dict | None):
            raise TypeError(f"ppo_kwargs must be a dict or None; got {self.ppo_kwargs!r}.")
        for name, value in (self.ppo_kwargs or {}).items():
            if not isinstance(value, int | float | str | None):
                raise TypeError(f"ppo_kwargs[{name!r}] must be a number, a string, a bool or None; got {value!r}.")
        settings = {field.name: getattr(self, field.name) for field in fields(RealRSNN) if hasattr(self, field.name)}
        network = make_network("real-rsnn", {**settings, "random_start": False})
        assert isinstance(network, RealRSNN)
        return network

    def _reason_to_stop(self, training: Training, threshold: float | None, interrupted: bool) -> str:
        """Why there is no further update, or an empty string."""
        if threshold is not None and training.solved_at is not None and training.solved_at >= threshold:
            return "score_threshold"
        if training.n_env_steps >= self.max_env_steps:
            return "max_env_steps"
        return "interrupted" if interrupted else ""

    def _publish(self, training: Training, record: Record, run: _Run) -> None:
        """Make a finished update the fitted state."""
        first = training.update == 1
        further: dict[str, Any] = {
            "history_": appended([] if first else self.history_, record),
            "observation_space_": run.resolved.observation_space,
            "n_features_in_": observation_size(run.resolved.observation_space),
            "notes_": list(notes(self, run.resolved, run.engine)),
            "engine_": run.engine.name,
            "stop_reason_": None,
        }
        if first:
            further["_n_sampled"] = 0
        self._deploy(training, action_space_=run.resolved.action_space, seed_=run.seed, **further)

    def _deploy(self, training: Training, *, action_space_: spaces.Space[Any], seed_: int, **further: Any) -> None:
        """Act with the best network, or with the current one before any evaluation.

        Everything is made first and set, with ``further`` attributes, in one step that Ctrl-C cannot come into.
        """
        learnt = training.best or training.current()
        setting = training.setting
        outputs, obs_size = action_outputs(action_space_), learnt.observations.mean.size
        point = Point(setting.network.shapes(obs_size, outputs))
        standardizer = setting.standardizer(learnt.observations)
        deployed = DeployedPolicy.of(setting.network, point, learnt.weights, standardizer, action_space_, seed_)
        self.__dict__.update(
            further
            | {
                "_training": training,
                "_deployed": deployed,
                "action_space_": action_space_,
                "seed_": seed_,
                "weights_": {name: weights.copy() for name, weights in learnt.weights.items()},
                "log_std_": learnt.log_std.copy(),
                "deployed_update_": learnt.update,
                "n_updates_": training.update,
                "n_env_steps_": training.n_env_steps,
            }
        )

    def _sample_networks(self, state: PolicyState, starts: NDArray[np.bool_]) -> PolicyState:
        """``deterministic=False`` draws actions here, and always acts with the one network."""
        return state

    def _actions(self, output: NDArray[np.float32], deterministic: bool) -> NDArray[Any]:
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

    def _to_file(self, training_state: bool = True) -> tuple[dict[str, Any], Arrays]:
        return ppo_files.to_file(self, training_state)

    @classmethod
    def _from_file(cls, document: dict[str, Any], arrays: Arrays, network: Network | None = None) -> Self:
        loaded: Self = ppo_files.from_file(cls, document, arrays)
        return loaded


def _assess(run: _Run, training: Training) -> tuple[Training, Outcome]:
    """Score the network and keep it if it is the best; the episodes that tell how it does now."""
    network, best = training.current(), training.best
    score = -np.inf if best is None else best.score
    verdict, _ = run.runner.run(run.judge.assess(_networks(training.setting, network), training.update, score))
    assessed = training._replace(
        best=network._replace(score=verdict.confirmed.score) if verdict.beats(score) else best,
        n_evaluation_steps=training.n_evaluation_steps + verdict.n_steps,
        solved_at=run.judge.threshold if verdict.solved else training.solved_at,
    )
    return assessed, verdict.screening


def _measure_again(run: _Run, training: Training) -> Training:
    """Measure the best network on what is trained on now: on the same task its score is the same, bit for bit."""
    best = training.best
    if best is None:
        return training._replace(solved_at=None)
    confirming = run.judge.confirm(_networks(training.setting, best), best.update)
    (score, _, solved, n_steps, _), _ = run.runner.run(confirming)
    return training._replace(
        best=best._replace(score=score),
        solved_at=run.judge.threshold if solved else None,
        n_evaluation_steps=training.n_evaluation_steps + (0 if score == best.score else n_steps),
    )


def _networks(setting: Setting, learnt: Learnt) -> Networks:
    """The one network that was learnt, as it observes."""
    return Networks(Point({}).sampler(learnt.weights), setting.standardizer(learnt.observations))


def _check_continuable(earlier: Any, resolved: Resolved, setting: Setting) -> None:
    """Raise where the earlier training does not fit these environments or parameters."""
    check_same_spaces(earlier, resolved)
    trained = earlier._training.setting
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
