"""EvolvingConnectivityPolicy: 1-bit recurrent spiking networks, trained by evolving connection probabilities."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.connectome import Connectome
from ecpolicy.distributions import Bernoulli, Parameters
from ecpolicy.estimators.evolved import EvolvedPolicy
from ecpolicy.estimators.parameters import (
    check_ec,
    check_eps,
    check_initial_probability,
    check_learning_rate,
    scheduled,
)
from ecpolicy.fitting.backends import weighted_sum
from ecpolicy.networks import RSNN, Network
from ecpolicy.optimizers import OPTIMIZERS, Optimizer


class EvolvingConnectivityPolicy(EvolvedPolicy):
    """Policy that evolves the connection probabilities of a 1-bit recurrent spiking network.

    Every generation draws a population of networks from Bernoulli connection probabilities, plays fresh episodes with
    each, and moves the probabilities along the natural gradient of the expected return (Wang et al., "Evolving
    Connectivity for Recurrent Spiking Neural Networks", NeurIPS 2023). The deployed network has the connections with
    probability above one half. Defaults are the paper's, except for the sizes of the search, and for a learning rate
    and an eps that suit populations of hundreds better.

    Parameters
    ----------
    network : "rsnn" or Network, default "rsnn"
        The paper's spiking network, or one of your own: any object with the methods of
        :class:`ecpolicy.networks.Network` on packed connections.
    n_neurons, excitatory_ratio, step_ms, dt, tau_syn, tau_m, tau_out, gain_in, gain_recurrent, gain_out, density
        The spiking network: see :class:`ecpolicy.networks.RSNN`. Not used with a network of your own.
    population_size : int, default 256
        Networks per generation (paper: 10240). Evaluations of the deployed network come on top.
    n_generations : int, default 100
        Generations in all; with ``warm_start`` those of earlier fits count.
    learning_rate : float or list of (n_env_steps, step), default 0.3
        Step size; for Adam in units of probability (paper: 0.15). A list is a schedule by environment steps taken, such
        as ``[(0, 0.3), (8_000_000, 0.05)]``.
    optimizer : {"adam", "sgd"}, default "adam"
        "sgd" is equation 14, plain ascent; "adam" is what the paper's released code does.
    fitness_shaping : {"centered_ranks"}, default "centered_ranks"
    initial_probability : float or dict of str to float or array, shape (pre, post), default 0.5
        Connection probabilities before the first generation, everywhere or by matrix ("input", "recurrent", "output";
        0.5 for those not named): an anatomical prior, see :mod:`ecpolicy.anatomy`. In a dict, connections with a
        probability of exactly 0 or 1 stay absent or present for good.
    eps : float or list of (n_env_steps, eps), default 0.01
        Other probabilities stay in [eps, 1 - eps] (paper: 1e-3). A list is a schedule, as for ``learning_rate``.
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
        Episodes that a device plays at once, on environments of Brax and MuJoCo Playground; None for 2048 (on a CPU,
        8, and others are rounded up to multiples of 8). Fewer take less memory; results may change by rounding.
    engine : {"auto", "mujoco", "gymnasium"}, default "auto"
        What plays Gymnasium environments. "mujoco" plays Gymnasium's robots natively, by the batch engine of MuJoCo 4
        in ``n_jobs`` threads; it raises where it does not know an environment, and says why. "gymnasium" steps the
        environments themselves. "auto" plays natively what can be. Results do not depend on it.
    n_jobs : int or None, default None
        joblib workers for the episodes on Gymnasium environments. ``joblib.parallel_config`` chooses what they are, up
        to a cluster. None is one, unless ``parallel_config`` says otherwise. Results do not depend on it.
    timeout : float or None, default None
        Seconds that the episodes of 16 members, or two of the deployed network, may take before ``fit`` and ``score``
        give up with an EpisodeError, for environments that may hang; with a vector environment, those of the whole
        population, or all of the deployed network. Without workers it needs the main thread. Where one hangs in
        compiled code that never comes back to Python, only ``n_jobs`` of at least 2 can end it. Not for environments in
        JAX.
    warm_start : bool, default False
        Continue the last fit, with its random numbers, instead of starting anew.
    random_state : int, numpy Generator or RandomState, or None
        An int makes fits repeat bit for bit.
    verbose : int, default 0
        Generations between progress lines; 0 prints nothing.

    Attributes
    ----------
    connection_probabilities_ : dict of str to ndarray of float32, shape (pre, post)
        "input" ``(2 n_features_in_, n_neurons)``, for observations and their negatives; "recurrent" (n_neurons,
        n_neurons); "output" (n_neurons, outputs). Of the deployed generation; 0 and 1 where the policy was saved
        without its training state.
    connectivity_ : dict of str to ndarray of bool
        The deployed network, ``connection_probabilities_ > 0.5``.
    excitatory_ : ndarray of bool, shape (n_neurons,), or None
        Which neurons are excitatory; None for a network of your own.
    deployed_generation_ : int
        The generation that is deployed.
    observation_space_, action_space_ : gymnasium.Space
    n_features_in_ : int
        Size of a flattened observation.
    history_ : sequence of dict
        One entry per generation, a :class:`ecpolicy.history.History`: returns of the population, score of the deployed
        network, its speed ("x_velocity", m/s) and place at the end ("x_position", m) where the environments report
        them, else None, steps, seconds.
    n_env_steps_ : int
        Environment steps of the population; those of the deployed network are in ``history_``.
    n_generations_ : int
    engine_ : str or None
        What played the last fit's episodes: "mujoco", "gymnasium" or "jax"; None of a policy that was loaded.
    notes_ : list of str
        How the last fit understood what it was given, where that may surprise; printed before the first progress line.
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
        network: str | Network = "rsnn",
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
        learning_rate: float | Sequence[tuple[int, float]] = 0.3,
        optimizer: str = "adam",
        fitness_shaping: str = "centered_ranks",
        initial_probability: float | Mapping[str, Any] = 0.5,
        eps: float | Sequence[tuple[int, float]] = 0.01,
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
        self.engine = engine
        self.chunk_size = chunk_size
        self.n_jobs = n_jobs
        self.timeout = timeout
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @property
    def search_probabilities_(self) -> dict[str, NDArray[np.float32]]:
        """The probabilities from which the next generation is drawn, as ``connection_probabilities_`` has them.

        They differ from those where the network that is deployed is of an earlier generation.
        """
        check_is_fitted(self, "_training")
        return {name: p.copy() for name, p in self._training.search.parameters.items()}

    @property
    def connectome_(self) -> Connectome:
        """The deployed network's wiring as data; see :class:`ecpolicy.connectome.Connectome`.

        Raises
        ------
        TypeError
            Where the network is one of your own, without excitatory and inhibitory neurons.
        """
        check_is_fitted(self, "_deployed")
        if self.excitatory_ is None:
            raise TypeError(f"{type(self.network).__name__} has no excitatory and inhibitory neurons; wanted an RSNN.")
        return Connectome(self.connection_probabilities_, self.excitatory_)

    def _check(self) -> Network:
        return check_ec(self)

    def _search(
        self, network: Network, obs_size: int, n_outputs: int, backend: str = "numpy", n_env_steps: int = 0
    ) -> Bernoulli:
        shapes = network.shapes(obs_size, n_outputs)
        start = check_initial_probability(self.initial_probability, shapes)
        eps = scheduled(check_eps(self.eps), n_env_steps)
        return Bernoulli(shapes, start, eps, weighted_sum(backend, self.n_jobs))

    def _rules(self) -> Mapping[str, Callable[[float], Optimizer]]:
        return OPTIMIZERS

    def _ascent(self) -> tuple[str, Callable[[int], Optimizer]]:
        rule, rates = OPTIMIZERS[self.optimizer], check_learning_rate(self.learning_rate)
        return self.optimizer, lambda n_env_steps: rule(scheduled(rates, n_env_steps))

    def _shown(self, network: Network, parameters: Parameters) -> dict[str, Any]:
        excitatory = np.arange(network.n_neurons) < network.n_excitatory if isinstance(network, RSNN) else None
        return {
            "connection_probabilities_": {name: p.copy() for name, p in parameters.items()},
            "connectivity_": {name: p > 0.5 for name, p in parameters.items()},
            "excitatory_": excitatory,
        }
