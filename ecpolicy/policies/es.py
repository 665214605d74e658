"""ESPolicy: networks with real weights, trained by Evolution Strategies."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ecpolicy.constraints import Table, documented
from ecpolicy.distributions import Gaussian, Parameters
from ecpolicy.fitting.backends import weighted_noise
from ecpolicy.networks import Network, RealRSNN
from ecpolicy.optimizers import Optimizer, adamw
from ecpolicy.policies.evolved import EvolvedPolicy
from ecpolicy.policies.parameters import ES, check_pairs, scheduled


class Published(NamedTuple):
    """The paper's settings for a network."""

    sigma: float
    learning_rate: float


SPIKING, GATED = Published(0.3, 0.15), Published(0.02, 0.01)


@documented(ES)
class ESPolicy(EvolvedPolicy):
    """Policy that evolves the real weights of a recurrent network by Evolution Strategies (Salimans et al., 2017).

    Every generation draws antithetic pairs of networks from a normal distribution around the mean weights, plays fresh
    episodes with each, and moves the means along the estimated gradient of the expected centred rank, with Adam and
    decoupled weight decay. The deployed network has the mean weights. Defaults are those of the paper that introduced
    Evolving Connectivity (Wang et al., NeurIPS 2023), where this is what it is compared with, except for the sizes of
    the search.

    Parameters
    ----------
    <parameters>

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
    >>> from ecpolicy.networks import GRU
    >>> policy = ESPolicy(network=GRU(n_neurons=8), n_generations=2, population_size=16, random_state=0)
    >>> policy = policy.fit("CartPole-v1")
    >>> policy.weights_["recurrent"].shape
    (8, 24)
    """

    table: ClassVar[Table] = ES

    def __init__(
        self,
        *,
        network: Network | None = None,
        population_size: int = 256,
        n_generations: int = 100,
        sigma: float | None = None,
        learning_rate: float | Sequence[tuple[int, float]] | None = None,
        weight_decay: float = 0.1,
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
        self.sigma = sigma
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
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

    def _check(self) -> Network:
        network = super()._check()
        check_pairs(population_size=self.population_size, chunk_size=self.chunk_size)
        return network

    def _published(self) -> Published:
        """The paper's settings for the network; for one of your own, those of its gated networks."""
        return SPIKING if isinstance(self.network, RealRSNN | None) else GATED

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
        rule, rates = self._rules()["adamw"], ES["learning_rate"].check(given)
        return "adamw", lambda n_env_steps: rule(scheduled(rates, n_env_steps))

    def _shown(self, network: Network, parameters: Parameters) -> dict[str, object]:
        return {"weights_": {name: p.copy() for name, p in parameters.items()}}
