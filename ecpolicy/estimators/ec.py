"""EvolvingConnectivityPolicy: 1-bit recurrent spiking networks, trained by evolving connection probabilities."""

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from ecpolicy import persistence
from ecpolicy.callbacks import Callback, Progress
from ecpolicy.distributions import Bernoulli
from ecpolicy.estimators import files
from ecpolicy.estimators.base import BasePolicy, DeployedPolicy
from ecpolicy.estimators.environments import Environments, resolve
from ecpolicy.estimators.parameters import check_choice, check_horizon, check_number
from ecpolicy.estimators.training import Record, Trainer, Training
from ecpolicy.fitness_shaping import FITNESS_SHAPINGS
from ecpolicy.networks import RSNN
from ecpolicy.normalization import Moments, Standardizer
from ecpolicy.optimizers import OPTIMIZERS
from ecpolicy.rollout.parallel import Plan, Runner
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
    n_jobs : int or None, default None
        joblib workers for the episodes. Results do not depend on it.
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
        "n_generations", "max_env_steps", "score_threshold", "callback", "interrupted" or "partial_fit".

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
        resolved, network = resolve(environments), self._network()
        warm = self.warm_start and hasattr(self, "_training")
        called: list[Callback] = [*(callbacks or []), *([Progress(self.verbose)] if self.verbose else [])]
        with self._trainer(resolved, network, warm=warm) as trainer, _interrupts() as interrupted:
            training = self._training._replace(solved=False) if warm else trainer.start(self.n_features_in_)
            while True:
                reason = self._reason_to_stop(training)
                if reason is None and interrupted():
                    reason = "interrupted"
                    warnings.warn(f"Interrupted: fit ends after generation {training.search.generation}.", stacklevel=2)
                if reason is not None:
                    break
                training, record = trainer.advance(training)
                self._publish(training, record, network)
                stops = [callback(self) for callback in called]
                if any(stops):
                    reason = "callback"
                    break
        self.stop_reason_ = reason
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
        resolved, network = resolve(environments), self._network()
        warm = hasattr(self, "_training")
        with self._trainer(resolved, network, warm=warm) as trainer:
            training = self._training if warm else trainer.start(self.n_features_in_)
            training, record = trainer.advance(training)
            self._publish(training, record, network)
        self.stop_reason_ = "partial_fit"
        return self

    def _network(self) -> RSNN:
        """Check the parameters; the network they describe."""
        check_number("n_neurons", self.n_neurons, low=1, integer=True)
        for name in ("excitatory_ratio", "initial_probability"):
            check_number(name, getattr(self, name), low=0, high=1)
        for name in ("step_ms", "dt", "tau_syn", "tau_m", "tau_out", "learning_rate", "observation_clip"):
            check_number(name, getattr(self, name), low=0, open_low=True)
        for name in ("gain_in", "gain_recurrent", "gain_out"):
            check_number(name, getattr(self, name), low=0)
        check_number("density", self.density, low=0, high=1, open_low=True)
        check_number("eps", self.eps, low=0, high=0.5)
        for name in ("n_generations", "episodes_per_member", "eval_episodes", "confirm_episodes"):
            check_number(name, getattr(self, name), low=1, integer=True)
        check_number("population_size", self.population_size, low=2, high=2**23, integer=True)
        check_number("verbose", int(self.verbose), low=0, integer=True)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("fitness_shaping", self.fitness_shaping, FITNESS_SHAPINGS)
        check_horizon("max_episode_steps", self.max_episode_steps)
        if self.max_env_steps is not None:
            check_number("max_env_steps", self.max_env_steps, low=1, integer=True)
        if self.score_threshold not in ("auto", None):
            if isinstance(self.score_threshold, str):
                raise ValueError(f'score_threshold must be "auto", a number or None; got {self.score_threshold!r}.')
            check_number("score_threshold", self.score_threshold, low=-np.inf)
        network = RSNN(
            n_neurons=int(self.n_neurons),
            excitatory_ratio=float(self.excitatory_ratio),
            step_ms=float(self.step_ms),
            dt=float(self.dt),
            tau_syn=float(self.tau_syn),
            tau_m=float(self.tau_m),
            tau_out=float(self.tau_out),
            gain_in=float(self.gain_in),
            gain_recurrent=float(self.gain_recurrent),
            gain_out=float(self.gain_out),
            density=float(self.density),
        )
        if network.substeps < 1:
            raise ValueError(
                f"dt must be at most step_ms ({self.step_ms}), so that a step has substeps; got {self.dt}."
            )
        return network

    @contextmanager
    def _trainer(self, resolved: Environments, network: RSNN, *, warm: bool) -> Iterator[Trainer]:
        """The trainer for these environments; its workers end with the context."""
        obs_size, n_outputs = observation_size(resolved.observation_space), action_outputs(resolved.action_space)
        distribution = self._distribution(network, obs_size, n_outputs)
        if warm:
            self._check_continuable(resolved, distribution)
        else:
            for name in ("_training", "_deployed", "connectivity_"):
                self.__dict__.pop(name, None)
            self.seed_ = self._seed()
            self.history_: list[Record] = []
            self.observation_space_, self.action_space_ = resolved.observation_space, resolved.action_space
            self.n_features_in_ = obs_size
        horizons = check_horizon("max_episode_steps", self.max_episode_steps)
        threshold = resolved.reward_threshold if self.score_threshold == "auto" else self.score_threshold
        plan = Plan(resolved.environments, resolved.observation_space, resolved.action_space, network, distribution)
        with Runner(plan, self.n_jobs) as runner:
            yield Trainer(
                seed=self.seed_,
                runner=runner,
                distribution=distribution,
                optimizer=OPTIMIZERS[self.optimizer](self.learning_rate),
                fitness_shaping=FITNESS_SHAPINGS[self.fitness_shaping],
                population_size=int(self.population_size),
                n_environments=len(resolved.environments),
                episodes_per_member=int(self.episodes_per_member),
                horizon=lambda steps: next(horizon for start, horizon in reversed(horizons) if start <= steps),
                evaluation_horizon=np.inf if resolved.time_limited else horizons[-1][1],
                standardize=self._standardizer,
                score_threshold=None if threshold is None else float(threshold),
                eval_episodes=int(self.eval_episodes),
                confirm_episodes=int(self.confirm_episodes),
                keep_best=bool(self.keep_best),
            )

    def _distribution(self, network: RSNN, obs_size: int, n_outputs: int) -> Bernoulli:
        return Bernoulli(network.shapes(obs_size, n_outputs), float(self.initial_probability), float(self.eps))

    def _standardizer(self, moments: Moments) -> Standardizer:
        return Standardizer.of(moments, enabled=self.normalize_observations, clip=float(self.observation_clip))

    def _check_continuable(self, resolved: Environments, distribution: Bernoulli) -> None:
        """Raise where the earlier training does not fit these environments or parameters."""
        for name in ("observation_space", "action_space"):
            if getattr(self, f"{name}_") != getattr(resolved, name):
                raise ValueError(
                    f"Training so far was for the {name} {getattr(self, f'{name}_')}, the environment has "
                    f"{getattr(resolved, name)}. Fit without warm_start to start anew."
                )
        trained = {name: p.shape for name, p in self._training.search.rho.items()}
        wanted = {name: (shape.pre, shape.post) for name, shape in distribution.shapes.items()}
        if trained != wanted:
            raise ValueError(f"Training so far was of matrices {trained}; the parameters now say {wanted}.")
        kind = "adam" if self._training.search.optimizer.first else "sgd"
        if self.optimizer != kind:
            raise ValueError(f"Training so far used optimizer {kind!r}; it cannot go on with {self.optimizer!r}.")

    def _reason_to_stop(self, training: Training) -> str | None:
        if training.solved:
            return "score_threshold"
        if training.search.generation >= self.n_generations:
            return "n_generations"
        if self.max_env_steps is not None and training.n_env_steps >= self.max_env_steps:
            return "max_env_steps"
        return None

    def _publish(self, training: Training, record: Record, network: RSNN) -> None:
        """Make a finished generation the fitted state."""
        self.history_.append(record)
        self._deploy(training, network)

    def _deploy(self, training: Training, network: RSNN) -> None:
        search = training.search
        kept = training.best if self.keep_best and training.best is not None else None
        rho, moments, generation = (
            (kept.rho, kept.moments, kept.generation) if kept else (search.rho, search.moments, search.generation)
        )
        distribution = self._distribution(network, self.n_features_in_, action_outputs(self.action_space_))
        self._training = training
        self._deployed = DeployedPolicy(
            network,
            distribution,
            rho,
            self._standardizer(moments),
            distribution.mode(rho),
            action_decoder(self.action_space_),
            self.seed_,
        )
        self.connection_probabilities_ = {name: p.copy() for name, p in rho.items()}
        self.connectivity_ = {name: p > 0.5 for name, p in rho.items()}
        self.excitatory_ = np.arange(network.n_neurons) < network.n_excitatory
        self.deployed_generation_ = generation
        self.n_env_steps_ = training.n_env_steps
        self.n_generations_ = search.generation

    def _to_file(self) -> tuple[dict[str, Any], persistence.Arrays]:
        return files.to_file(self)

    @classmethod
    def _from_file(cls, document: dict[str, Any], arrays: persistence.Arrays) -> Self:
        policy = cls(**files.parameters(document, cls._get_param_names()))
        network = policy._network()
        files.restore(policy, document, arrays, network)
        policy._deploy(policy._training, network)
        return policy


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
