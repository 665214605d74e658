"""EvolvingConnectivityPolicy: 1-bit recurrent spiking networks, trained by evolving connection probabilities."""

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import gymnasium as gym
import numpy as np
from sklearn.base import clone

from ecpolicy import persistence
from ecpolicy.callbacks import Callback, Progress
from ecpolicy.distributions import Bernoulli
from ecpolicy.estimators import files
from ecpolicy.estimators.backends import check_seed, choose, runner, weighted_sum
from ecpolicy.estimators.base import BasePolicy, DeployedPolicy
from ecpolicy.estimators.environments import resolve
from ecpolicy.estimators.parameters import check_ec, check_horizon, seed_of
from ecpolicy.estimators.training import Record, Setting, Trainer, Training
from ecpolicy.fitness_shaping import FITNESS_SHAPINGS
from ecpolicy.networks import RSNN
from ecpolicy.networks.rsnn import Shape
from ecpolicy.optimizers import OPTIMIZERS
from ecpolicy.spaces import action_decoder, action_outputs, observation_size


class EvolvingConnectivityPolicy(BasePolicy):
    """Policy that evolves the connection probabilities of a 1-bit recurrent spiking network.

    Every generation draws a population of networks from Bernoulli connection probabilities, plays fresh episodes with
    each, and moves the probabilities along the natural gradient of the expected return (Wang et al., "Evolving
    Connectivity for Recurrent Spiking Neural Networks", NeurIPS 2023). The deployed network has the connections with
    probability above one half. Defaults are the paper's, except for the sizes of the search.

    Parameters
    ----------
    n_neurons, excitatory_ratio, step_ms, dt, tau_syn, tau_m, tau_out, gain_in, gain_recurrent, gain_out, density
        The network: see :class:`ecpolicy.networks.RSNN`.
    population_size : int, default 256
        Networks per generation (paper: 10240). Evaluations of the deployed network come on top.
    n_generations : int, default 100
        Generations in all; with ``warm_start`` those of earlier fits count.
    learning_rate : float, default 0.15
        Step size; for Adam in units of probability.
    optimizer : {"adam", "sgd"}, default "adam"
        "sgd" is equation 14, plain ascent; "adam" is what the paper's released code does.
    fitness_shaping : {"centered_ranks"}, default "centered_ranks"
    initial_probability : float, default 0.5
    eps : float, default 1e-3
        Probabilities stay in [eps, 1 - eps].
    episodes_per_member : int, default 1
        Episodes over which a member's return is averaged, on each environment.
    max_episode_steps : int, None or list of (n_env_steps, horizon), default 1000
        Training horizon: episodes of the population are cut after so many steps. A list is a schedule by environment
        steps taken, such as ``[(0, 200), (3_000_000, 1000)]``. The deployed network's score is always over full
        episodes (of an environment without a time limit: over the last horizon).
    normalize_observations : bool, default True
        Standardise observations by the mean and variance of all observations acted upon so far.
    observation_clip : float, default 10.0
        Standardised observations are clipped to [-observation_clip, observation_clip].
    max_env_steps : int or None, default None
        Fit ends after the generation in which the population has taken this many environment steps.
    score_threshold : "auto", float or None, default "auto"
        Fit ends when the deployed network reaches this mean return, confirmed on 100 fresh episodes. "auto" is the
        environment's registered ``reward_threshold``, if it has one; None turns this off.
    eval_episodes : int, default 4
        Episodes of the deployed network after every generation.
    confirm_episodes : int, default 20
        Further episodes on which a new best deployed network must hold.
    keep_best : bool, default True
        Deploy the best network found so far, as measured on ``confirm_episodes``; False deploys the last one.
    backend : {"auto", "numpy", "jax"}, default "auto"
        "numpy" runs Numba kernels on the CPU; "jax" runs XLA's on whatever device JAX has, and is what environments of
        Brax and MuJoCo Playground need. "auto" takes what the environment suits. Policies are the same.
    chunk_size : int or None, default None
        Members that a device plays at once, on environments of Brax and MuJoCo Playground; None for all, up to 2048 (on
        a CPU, 256). Smaller chunks take less memory and can be spread over more devices; results change by rounding.
    n_jobs : int or None, default None
        joblib workers for the episodes on Gymnasium environments. Results do not depend on it.
    warm_start : bool, default False
        Continue the last fit instead of starting anew.
    random_state : int, numpy Generator or RandomState, or None
        An int makes fits repeat bit for bit.
    verbose : int, default 0
        Generations between progress lines; 0 prints nothing.

    Attributes
    ----------
    connection_probabilities_ : dict of str to ndarray of float32, shape (pre, post)
        "input" (2 n_features_in_, n_neurons), for observations and their negatives; "recurrent" (n_neurons,
        n_neurons); "output" (n_neurons, outputs). Of the deployed generation.
    connectivity_ : dict of str to ndarray of bool
        The deployed network, ``connection_probabilities_ > 0.5``.
    excitatory_ : ndarray of bool, shape (n_neurons,)
        Which neurons are excitatory.
    deployed_generation_ : int
        The generation that is deployed.
    observation_space_, action_space_ : gymnasium.Space
    n_features_in_ : int
        Size of a flattened observation.
    history_ : list of dict
        One entry per generation: returns of the population, score of the deployed network, steps, seconds.
    n_env_steps_ : int
        Environment steps of the population; those of the deployed network are in ``history_``.
    n_generations_ : int
    stop_reason_ : str
        "n_generations", "max_env_steps", "score_threshold", "callback", "interrupted", "error" or "partial_fit".

    Examples
    --------
    >>> from ecpolicy import EvolvingConnectivityPolicy
    >>> policy = EvolvingConnectivityPolicy(n_generations=2, population_size=16, n_neurons=32, random_state=0)
    >>> policy = policy.fit("CartPole-v1")
    >>> policy.connectivity_["recurrent"].shape
    (32, 32)
    """

    def __init__(
        self,
        *,
        n_neurons: int = 256,
        excitatory_ratio: float = 0.5,
        step_ms: float = 16.6,
        dt: float = 0.5,
        tau_syn: float = 5.0,
        tau_m: float = 10.0,
        tau_out: float = 10.0,
        gain_in: float = 0.1,
        gain_recurrent: float = 1.0,
        gain_out: float = 5.0,
        density: float = 0.5,
        population_size: int = 256,
        n_generations: int = 100,
        learning_rate: float = 0.15,
        optimizer: str = "adam",
        fitness_shaping: str = "centered_ranks",
        initial_probability: float = 0.5,
        eps: float = 1e-3,
        episodes_per_member: int = 1,
        max_episode_steps: int | Sequence[tuple[int, int]] | None = 1000,
        normalize_observations: bool = True,
        observation_clip: float = 10.0,
        max_env_steps: int | None = None,
        score_threshold: float | str | None = "auto",
        eval_episodes: int = 4,
        confirm_episodes: int = 20,
        keep_best: bool = True,
        backend: str = "auto",
        chunk_size: int | None = None,
        n_jobs: int | None = None,
        warm_start: bool = False,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_neurons = n_neurons
        self.excitatory_ratio = excitatory_ratio
        self.step_ms = step_ms
        self.dt = dt
        self.tau_syn = tau_syn
        self.tau_m = tau_m
        self.tau_out = tau_out
        self.gain_in = gain_in
        self.gain_recurrent = gain_recurrent
        self.gain_out = gain_out
        self.density = density
        self.population_size = population_size
        self.n_generations = n_generations
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.fitness_shaping = fitness_shaping
        self.initial_probability = initial_probability
        self.eps = eps
        self.episodes_per_member = episodes_per_member
        self.max_episode_steps = max_episode_steps
        self.normalize_observations = normalize_observations
        self.observation_clip = observation_clip
        self.max_env_steps = max_env_steps
        self.score_threshold = score_threshold
        self.eval_episodes = eval_episodes
        self.confirm_episodes = confirm_episodes
        self.keep_best = keep_best
        self.backend = backend
        self.chunk_size = chunk_size
        self.n_jobs = n_jobs
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, environments: Any, y: None = None, *, callbacks: Sequence[Callback] | None = None) -> Self:
        """Train on an environment, or on the mean return over a list of environments.

        Ctrl-C ends training after the current generation; a second one at once. Whatever happens, the policy stays
        usable with what the last finished generation learnt.

        Parameters
        ----------
        environments : environment, or list of environments
            An id, a ``gymnasium.Env``, a ``VectorEnv``, an ``EnvSpec``, a callable that makes one, or a list of these.
            "brax/hopper" and the like, and environment objects of Brax and MuJoCo Playground, are played in JAX.
        y : None
            Ignored; scikit-learn's place for labels.
        callbacks : sequence of callables, optional
            Called with the policy after every generation; a callback that returns True ends training.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            Naming the parameter or environment, what was given and what is wanted.
        EpisodeError
            Where an environment raises, or returns NaN.
        """
        called: list[Callback] = list(callbacks or [])
        for callback in called:
            if not callable(callback):
                raise TypeError(f"callbacks must be callables that take the policy; got {callback!r}.")
        warm = bool(self.warm_start) and hasattr(self, "_training")
        began, reason = False, "error"
        with self._trainer(environments, warm=warm) as (trainer, run), _interrupts() as interrupted:
            if self.verbose:
                called.append(Progress(int(self.verbose)))
            training = trainer.resume(self._training) if warm else trainer.start(run.obs_size)
            try:
                while not (end := self._reason_to_stop(training, trainer.score_threshold, interrupted)):
                    training, record = trainer.advance(training)
                    self._publish(training, run, record)
                    began = True
                    stops = [callback(self) for callback in called]
                    if any(stops):
                        end = "callback"
                        break
                reason = end
                if not began:  # nothing left to do: parameters that choose the deployed network may have changed
                    self._deploy(training, run)
            except KeyboardInterrupt:
                reason = "interrupted"
                raise
            finally:
                if began or warm:
                    self.stop_reason_ = reason
                if began:
                    for callback in called:
                        getattr(callback, "finish", lambda policy: None)(self)
        if reason == "interrupted":
            warnings.warn(f"Interrupted: fit ended after generation {self.n_generations_}.", stacklevel=2)
        return self

    def partial_fit(self, environments: Any, y: None = None) -> Self:
        """Train for one generation, going on from where the last ``fit`` or ``partial_fit`` ended.

        Parameters
        ----------
        environments, y
            As for ``fit``. A vector environment is reset.

        Returns
        -------
        self
        """
        warm = hasattr(self, "_training")
        with self._trainer(environments, warm=warm) as (trainer, run):
            training, record = trainer.advance(trainer.resume(self._training) if warm else trainer.start(run.obs_size))
            self._publish(training, run, record)
        self.stop_reason_ = "partial_fit"
        return self

    @contextmanager
    def _trainer(self, environments: Any, *, warm: bool) -> Iterator[tuple[Trainer, "_Run"]]:
        """Check everything; the trainer for these environments, whose workers end with the context."""
        network = check_ec(self)
        resolved = resolve(environments)
        backend = choose(self.backend, resolved)
        if not warm:
            check_seed(backend, self.random_state)
        run = _Run(
            seed=self.seed_ if warm else seed_of(self.random_state),
            history=self.history_ if warm else [],
            observation_space=resolved.observation_space,
            action_space=resolved.action_space,
        )
        distribution = Bernoulli(
            run.shapes(network), float(self.initial_probability), float(self.eps), weighted_sum(backend)
        )
        if warm:
            self._check_continuable(run, distribution)
        horizons = check_horizon("max_episode_steps", self.max_episode_steps)
        threshold = resolved.reward_threshold if self.score_threshold == "auto" else self.score_threshold
        evaluation_horizon = np.inf if resolved.time_limited else horizons[-1][1]
        if resolved.on_device and not resolved.time_limited and np.isinf(max(horizon for _, horizon in horizons)):
            raise ValueError("The environment has no time limit of its own: max_episode_steps must be a number.")
        with runner(
            backend, resolved, network, distribution, n_jobs=self.n_jobs, chunk_size=self.chunk_size
        ) as episodes:
            trainer = Trainer(
                seed=run.seed,
                runner=episodes,
                setting=Setting(
                    network, bool(self.normalize_observations), float(self.observation_clip), resolved.names
                ),
                distribution=distribution,
                optimizer=OPTIMIZERS[self.optimizer](float(self.learning_rate)),
                fitness_shaping=FITNESS_SHAPINGS[self.fitness_shaping],
                population_size=int(self.population_size),
                n_environments=len(resolved.environments),
                episodes_per_member=int(self.episodes_per_member),
                horizon=lambda steps: next(horizon for start, horizon in reversed(horizons) if start <= steps),
                evaluation_horizon=evaluation_horizon,
                score_threshold=None if threshold is None else float(threshold),
                eval_episodes=int(self.eval_episodes),
                confirm_episodes=int(self.confirm_episodes),
                keep_best=bool(self.keep_best),
            )
            yield trainer, run

    def _check_continuable(self, run: "_Run", distribution: Bernoulli) -> None:
        """Raise where the earlier training does not fit these environments or parameters."""
        for name in ("observation_space", "action_space"):
            if getattr(self, f"{name}_") != getattr(run, name):
                raise ValueError(
                    f"Training so far was for the {name} {getattr(self, f'{name}_')}, the environment has "
                    f"{getattr(run, name)}. Fit without warm_start to start anew."
                )
        trained = {name: p.shape for name, p in self._training.search.rho.items()}
        wanted = {name: (shape.pre, shape.post) for name, shape in distribution.shapes.items()}
        if trained != wanted:
            raise ValueError(f"Training so far was of matrices {trained}; the parameters now say {wanted}.")
        kind = self._training.search.optimizer.kind
        if self.optimizer != kind:
            raise ValueError(f"Training so far used optimizer {kind!r}; it cannot go on with {self.optimizer!r}.")

    def _reason_to_stop(self, training: Training, threshold: float | None, interrupted: Callable[[], bool]) -> str:
        """Why there is no further generation, or an empty string."""
        if threshold is not None and training.solved_at is not None and training.solved_at >= threshold:
            return "score_threshold"
        if training.search.generation >= self.n_generations:
            return "n_generations"
        if self.max_env_steps is not None and training.n_env_steps >= self.max_env_steps:
            return "max_env_steps"
        return "interrupted" if interrupted() and training.search.generation > 0 else ""

    def _publish(self, training: Training, run: "_Run", record: Record) -> None:
        """Make a finished generation the fitted state, all at once."""
        run.history.append(record)
        self.history_, self.seed_ = run.history, run.seed
        self.observation_space_, self.action_space_ = run.observation_space, run.action_space
        self.n_features_in_ = run.obs_size
        if training.search.generation == 1:
            self._n_sampled = 0
        self._deploy(training, run)

    def _deploy(self, training: Training, run: "_Run") -> None:
        """Act with the best network, or with the last."""
        search, setting = training.search, training.setting
        rho, moments, generation = search.rho, search.moments, search.generation
        if self.keep_best and training.best is not None:
            rho, moments, _, generation = training.best
        distribution = Bernoulli(run.shapes(setting.network))
        self._training = training
        self._deployed = DeployedPolicy(
            setting.network,
            distribution,
            rho,
            setting.standardizer(moments),
            distribution.mode(rho),
            action_decoder(run.action_space),
            run.seed,
        )
        self.connection_probabilities_ = {name: p.copy() for name, p in rho.items()}
        self.connectivity_ = {name: p > 0.5 for name, p in rho.items()}
        self.excitatory_ = np.arange(setting.network.n_neurons) < setting.network.n_excitatory
        self.deployed_generation_ = generation
        self.n_env_steps_ = training.n_env_steps
        self.n_generations_ = search.generation

    def _to_file(self) -> tuple[dict[str, Any], persistence.Arrays]:
        return files.to_file(self)

    @classmethod
    def _from_file(cls, document: dict[str, Any], arrays: persistence.Arrays) -> Self:
        policy = cls(**files.parameters(document, cls._get_param_names()))
        check_ec(policy)
        acting = clone(policy).set_params(**files.setting_parameters(document))
        files.restore(policy, document, arrays, check_ec(acting))
        run = _Run(policy.seed_, policy.history_, policy.observation_space_, policy.action_space_)
        policy._deploy(policy._training, run)
        return policy


class _Run(NamedTuple):
    """What a training has from its start to its end, however many fits it takes."""

    seed: int
    history: list[Record]
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    @property
    def obs_size(self) -> int:
        return observation_size(self.observation_space)

    def shapes(self, network: RSNN) -> dict[str, Shape]:
        return network.shapes(self.obs_size, action_outputs(self.action_space))


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, in the main thread; the second one interrupts as usual."""
    pressed = False

    def handler(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)
