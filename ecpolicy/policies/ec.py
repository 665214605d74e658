"""EvolvingConnectivityPolicy: 1-bit recurrent spiking networks, trained by evolving connection probabilities."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.connectome import Connectome
from ecpolicy.constraints import Table, documented
from ecpolicy.distributions import Bernoulli, Parameters
from ecpolicy.distributions.budget import budget_blocks
from ecpolicy.fitness_shaping import FITNESS_SHAPINGS, FitnessShaping
from ecpolicy.fitting.backends import weighted_sum
from ecpolicy.networks import BooleanRSNN, Network, Shape
from ecpolicy.optimizers import OPTIMIZERS, Optimizer
from ecpolicy.policies.evolved import EvolvedPolicy
from ecpolicy.policies.parameters import EC, check_initial_probability, scheduled, without


@documented(EC)
class EvolvingConnectivityPolicy(EvolvedPolicy):
    """Policy that evolves the connection probabilities of a 1-bit recurrent spiking network.

    Every generation draws a population of networks from Bernoulli connection probabilities, plays fresh episodes with
    each, and moves the probabilities along the natural gradient of the expected return (Wang et al., "Evolving
    Connectivity for Recurrent Spiking Neural Networks", NeurIPS 2023). The deployed network has the connections with
    probability above one half. Defaults are the paper's, except for the sizes of the search, and for a learning rate
    and an eps that suit populations of hundreds better.

    Parameters
    ----------
    <parameters>

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
        "n_generations", "max_env_steps", "score_threshold", "interrupted", "error", "partial_fit", or "callback"
        and the name of the one that ended it, such as "callback StopOnReturn".

    Examples
    --------
    >>> from ecpolicy import EvolvingConnectivityPolicy
    >>> from ecpolicy.networks import RSNN
    >>> policy = EvolvingConnectivityPolicy(
    ...     network=RSNN(n_neurons=32), n_generations=2, population_size=16, random_state=0
    ... )
    >>> policy = policy.fit("CartPole-v1")
    >>> policy.connectivity_["recurrent"].shape
    (32, 32)
    """

    table: ClassVar[Table] = EC

    def __init__(
        self,
        *,
        network: Network | None = None,
        population_size: int = 256,
        n_generations: int = 100,
        learning_rate: float | Sequence[tuple[int, float]] = 0.3,
        optimizer: str = "adam",
        fitness_shaping: str = "centered_ranks",
        initial_probability: float | Mapping[str, ArrayLike] = 0.5,
        keep_density: bool = False,
        eps: float | Sequence[tuple[int, float]] = 0.01,
        episodes_per_member: int = 1,
        common_episodes: bool = False,
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
        self.population_size = population_size
        self.n_generations = n_generations
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.fitness_shaping = fitness_shaping
        self.initial_probability = initial_probability
        self.keep_density = keep_density
        self.eps = eps
        self.episodes_per_member = episodes_per_member
        self.common_episodes = common_episodes
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
            raise TypeError(
                f"{type(self._deployed.network).__name__} has no excitatory and inhibitory neurons; wanted an RSNN "
                "or IntegerRSNN."
            )
        network: Any = self._deployed.network
        return Connectome(self.connection_probabilities_, self.excitatory_, network.types)

    def _search(
        self, network: Network, obs_size: int, n_outputs: int, backend: str = "numpy", n_env_steps: int = 0
    ) -> Bernoulli:
        shapes = network.shapes(obs_size, n_outputs)
        start = check_initial_probability(self.initial_probability, shapes)
        if isinstance(network, BooleanRSNN):
            start = without(network.absent(obs_size, n_outputs), start, shapes)
        eps = scheduled(EC["eps"].check(self.eps), n_env_steps)
        budgets = self._budgets(network, shapes, start, (obs_size, n_outputs)) if self.keep_density else None
        return Bernoulli(shapes, start, eps, weighted_sum(backend, self.n_jobs), budgets)

    def _budgets(
        self,
        network: Network,
        shapes: Mapping[str, Shape],
        start: float | Mapping[str, NDArray[np.float32]],
        sizes: tuple[int, int],
    ) -> dict[str, NDArray[np.int64]]:
        """The blocks of the matrices that ``initial_probability`` names; a network of one's own has one a matrix."""
        groups = network.groups(*sizes) if isinstance(network, BooleanRSNN) else {}
        priors = start if isinstance(start, Mapping) else dict.fromkeys(shapes, np.float32(start))
        budgets = {}
        for name, prior in priors.items():
            pre, post = shapes[name].pre, shapes[name].post
            alone = np.zeros(pre, np.int64), np.zeros(post, np.int64)
            budgets[name] = budget_blocks(np.broadcast_to(prior, (pre, post)), *groups.get(name, alone))
        return budgets

    def _rules(self) -> Mapping[str, Callable[[float], Optimizer]]:
        return OPTIMIZERS

    def _ascent(self) -> tuple[str, Callable[[int], Optimizer]]:
        rule, rates = OPTIMIZERS[self.optimizer], EC["learning_rate"].check(self.learning_rate)
        return self.optimizer, lambda n_env_steps: rule(scheduled(rates, n_env_steps))

    def _shaping(self) -> FitnessShaping:
        return FITNESS_SHAPINGS[self.fitness_shaping]

    def _shown(self, network: Network, parameters: Parameters) -> dict[str, object]:
        excitatory = np.arange(network.n_neurons) < network.n_excitatory if isinstance(network, BooleanRSNN) else None
        return {
            "connection_probabilities_": {name: p.copy() for name, p in parameters.items()},
            "connectivity_": {name: p > 0.5 for name, p in parameters.items()},
            "excitatory_": excitatory,
        }
