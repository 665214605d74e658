"""ESPolicy: networks with real weights, trained by Evolution Strategies."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ecpolicy.distributions import Gaussian, Parameters
from ecpolicy.estimators.evolved import EvolvedPolicy
from ecpolicy.estimators.parameters import check_es, check_learning_rate, scheduled
from ecpolicy.fitting.backends import weighted_noise
from ecpolicy.networks import Network
from ecpolicy.optimizers import Optimizer, adamw


class Published(NamedTuple):
    """The paper's settings for a network."""

    sigma: float
    learning_rate: float


PAPER = {"rsnn": Published(0.3, 0.15), "gru": Published(0.02, 0.01), "lstm": Published(0.02, 0.01)}


class ESPolicy(EvolvedPolicy):
    """Policy that evolves the real weights of a recurrent network by Evolution Strategies (Salimans et al., 2017).

    Every generation draws antithetic pairs of networks from a normal distribution around the mean weights, plays fresh
    episodes with each, and moves the means along the estimated gradient of the expected centred rank, with Adam and
    decoupled weight decay. The deployed network has the mean weights. Defaults are those of the paper that introduced
    Evolving Connectivity (Wang et al., NeurIPS 2023), where this is what it is compared with, except for the sizes of
    the search.

    Parameters
    ----------
    network : {"rsnn", "gru", "lstm"} or Network, default "rsnn"
        A spiking network with real weights (:class:`ecpolicy.networks.RealRSNN`), a gated one
        (:class:`ecpolicy.networks.GRU`, :class:`ecpolicy.networks.LSTM`), or one of your own: any object with the
        methods of :class:`ecpolicy.networks.Network` on float32 matrices and ``initial_scales(obs_size, n_outputs)``,
        the standard deviations of the initial weights by name.
    n_neurons : int or None, default None
        Neurons or units; None for the paper's: 256, for "lstm" 128.
    step_ms, dt, tau_syn, tau_m, tau_out, gain_in, gain_recurrent, gain_out
        The spiking network: see :class:`ecpolicy.networks.RealRSNN`.
    population_size : int, default 256
        Networks per generation, an even number (paper: 10240).
    n_generations : int, default 100
        Generations in all; with ``warm_start`` those of earlier fits count.
    sigma : float or None, default None
        Standard deviation of the weights; None for the paper's: 0.3 for "rsnn", else 0.02.
    learning_rate : float, list of (n_env_steps, step) or None, default None
        Adam's step, or a schedule of it by environment steps; None for the paper's: 0.15 for "rsnn", else 0.01.
    weight_decay : float, default 0.1
        Each step takes ``learning_rate * weight_decay`` of the weights away.
    fitness_shaping, episodes_per_member, max_episode_steps, normalize_observations, observation_clip, max_env_steps
        As in :class:`ecpolicy.EvolvingConnectivityPolicy`.
    score_threshold, eval_episodes, confirm_episodes, keep_best, backend, engine, chunk_size, n_jobs
        As in :class:`ecpolicy.EvolvingConnectivityPolicy`; ``chunk_size`` must be even.
    timeout, warm_start, random_state, verbose
        As in :class:`ecpolicy.EvolvingConnectivityPolicy`.

    Attributes
    ----------
    weights_ : dict of str to ndarray of float32, shape (pre, post)
        The deployed network.
    deployed_generation_, observation_space_, action_space_, n_features_in_, history_, n_env_steps_, n_generations_
        As in :class:`ecpolicy.EvolvingConnectivityPolicy`, and so are ``engine_``, ``notes_`` and
        ``stop_reason_``.

    Examples
    --------
    >>> from ecpolicy import ESPolicy
    >>> policy = ESPolicy(network="gru", n_generations=2, population_size=16, n_neurons=8, random_state=0)
    >>> policy = policy.fit("CartPole-v1")
    >>> policy.weights_["recurrent"].shape
    (8, 24)
    """

    def __init__(
        self,
        *,
        network: str | Network = "rsnn",
        n_neurons: int | None = None,
        step_ms: float = 16.6,
        dt: float = 0.5,
        tau_syn: float = 5.0,
        tau_m: float = 10.0,
        tau_out: float = 10.0,
        gain_in: float = 0.1,
        gain_recurrent: float = 1.0,
        gain_out: float = 5.0,
        population_size: int = 256,
        n_generations: int = 100,
        sigma: float | None = None,
        learning_rate: float | Sequence[tuple[int, float]] | None = None,
        weight_decay: float = 0.1,
        fitness_shaping: str = "centered_ranks",
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
        engine: str = "auto",
        chunk_size: int | None = None,
        n_jobs: int | None = None,
        timeout: float | None = None,
        warm_start: bool = False,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.network = network
        self.n_neurons = n_neurons
        self.step_ms = step_ms
        self.dt = dt
        self.tau_syn = tau_syn
        self.tau_m = tau_m
        self.tau_out = tau_out
        self.gain_in = gain_in
        self.gain_recurrent = gain_recurrent
        self.gain_out = gain_out
        self.population_size = population_size
        self.n_generations = n_generations
        self.sigma = sigma
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.fitness_shaping = fitness_shaping
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
        self.engine = engine
        self.chunk_size = chunk_size
        self.n_jobs = n_jobs
        self.timeout = timeout
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _check(self) -> Network:
        return check_es(self)

    def _published(self) -> Published:
        """The paper's settings for the network; for one of your own, those of its gated networks."""
        return PAPER[self.network] if isinstance(self.network, str) else PAPER["gru"]

    def _search(
        self, network: Any, obs_size: int, n_outputs: int, backend: str = "numpy", n_env_steps: int = 0
    ) -> Gaussian:
        sigma = self._published().sigma if self.sigma is None else float(self.sigma)
        sizes = obs_size, n_outputs
        return Gaussian(network.shapes(*sizes), sigma, network.initial_scales(*sizes), weighted_noise(backend))

    def _rules(self) -> Mapping[str, Callable[[float], Optimizer]]:
        return {"adamw": partial(adamw, weight_decay=float(self.weight_decay))}

    def _ascent(self) -> tuple[str, Callable[[int], Optimizer]]:
        given = self._published().learning_rate if self.learning_rate is None else self.learning_rate
        rule, rates = self._rules()["adamw"], check_learning_rate(given)
        return "adamw", lambda n_env_steps: rule(scheduled(rates, n_env_steps))

    def _shown(self, network: Network, parameters: Parameters) -> dict[str, Any]:
        return {"weights_": {name: p.copy() for name, p in parameters.items()}}
