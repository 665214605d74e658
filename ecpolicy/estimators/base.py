"""What every policy estimator shares: fit, predict in Stable-Baselines3's contract, score, save and load."""

import copy
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, NamedTuple, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from ecpolicy.callbacks import Callback
from ecpolicy.constraints import Flag, Table, check
from ecpolicy.distributions import Connections
from ecpolicy.environments import ENDLESS_EPISODE, Resolved
from ecpolicy.estimators import evaluation
from ecpolicy.estimators.old_spelling import WORDS, old_spelling
from ecpolicy.files import archive, policies
from ecpolicy.fitting import fit as fitting
from ecpolicy.fitting.deployed import Deployable, DeployedPolicy, deployment_key
from ecpolicy.fitting.learner import Learner, Run
from ecpolicy.fitting.resumption import ResumeFrom, check_resumable
from ecpolicy.kernels import host as kernels
from ecpolicy.networks import RSNN, RealRSNN
from ecpolicy.networks.network import Network, copied, overwrite
from ecpolicy.random import Key, Stream, fold_in, reserved_key
from ecpolicy.rollout.outcome import EvaluatedEpisodes, mean_and_std
from ecpolicy.spaces import action_outputs, batch_length, encode_batch, observation_encoder

NEXT_EPISODE = 0xFFFFFFFE  # derives the key of an environment's next network from that of this one


class PolicyState(NamedTuple):
    """What ``predict`` returns to be given back: one row per environment, never changed in place."""

    network: tuple[NDArray[Any], ...]
    connections: Connections | None  # networks sampled with deterministic=False, one per environment
    keys: Key | None = None  # (environments, 2) from which their next networks are derived


class BasePolicy(BaseEstimator):
    """Base of the estimators. A subclass has parameters, a learner, and what it makes of a training.

    What these are to :func:`ecpolicy.fitting.fit.fit`, :class:`ecpolicy.fitting.fit.Trainable` says.
    """

    table: ClassVar[Table]  # of the parameters

    observation_space_: gym.Space[Any]
    action_space_: gym.Space[Any]
    network: Network | None
    backend: str
    engine: str
    chunk_size: int | None
    n_jobs: int | None
    timeout: float | None
    score_threshold: float | str | None
    eval_episodes: int
    confirm_episodes: int
    eval_every: int = 1
    max_env_steps: Any
    warm_start: bool
    random_state: int | np.random.Generator | np.random.RandomState | None
    verbose: int
    stop_reason_: str | None
    _deployed: DeployedPolicy
    _training: Any
    _n_sampled: int = 0  # batches of episodes that predict(deterministic=False) has begun since the last fit

    def __new__(cls, **given: Any) -> Self:
        """Refuse parameters that are spelt otherwise now, before Python says that there are none of these names."""
        said = old_spelling(given, cls._get_param_names(), type(cls._network(given.get("network"))))
        if said:
            raise TypeError(said)
        made: Self = super().__new__(cls)
        return made

    @classmethod
    def _network(cls, given: object) -> Any:
        """The network that ``network=`` stands for: the default for None and for the words of old."""
        if isinstance(given, str):
            given = WORDS.get(given)
        return cls.table["network"].check(None) if given is None else given

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, and with ``deep`` the network's settings as ``network__n_neurons`` and so on."""
        found: dict[str, Any] = super().get_params(deep=deep)
        if deep and self.network is None:
            found |= {f"network__{name}": value for name, value in self._network(None).get_params().items()}
        return found

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters; ``network__n_neurons=64`` replaces the network by one with this setting.

        Raises
        ------
        ValueError
            Where there is no such parameter, or the network has no such setting.
        """
        network = self._network(parameters.get("network", self.network))
        said = old_spelling(parameters, self._get_param_names(), type(network), "network__")
        if said:
            raise ValueError(said)
        settings = {name[9:]: value for name, value in parameters.items() if name.startswith("network__")}
        others = {name: value for name, value in parameters.items() if not name.startswith("network__")}
        if settings:
            if not hasattr(network, "set_params"):
                raise ValueError(
                    f"{type(network).__name__} has no set_params, so that {', '.join(settings)} cannot be set: derive "
                    "it from ecpolicy.networks.Settings, or give a changed network=."
                )
            others["network"] = copy.deepcopy(network).set_params(**settings)  # other policies may share it
        super().set_params(**others)
        return self

    def fit(
        self,
        environments: Any,
        y: None = None,
        *,
        callbacks: Callback | Sequence[Callback] | None = None,
        resume_from: ResumeFrom | None = None,
        observation_statistics: Any = None,
    ) -> Self:
        """Train on an environment, or on the mean return over a list of environments.

        Ctrl-C ends training after the current generation (of PPO: update); a second one at once. Whatever happens, the
        policy stays usable with what the last finished generation learnt.

        Parameters
        ----------
        environments : environment, or list of environments
            An id, a ``gymnasium.Env``, a ``VectorEnv``, an ``EnvSpec``, a callable that makes one, or a list of these.
            "brax/hopper" and the like, and environment objects of Brax and MuJoCo Playground, are played in JAX.
        y : None
            Ignored; scikit-learn's place for labels.
        callbacks : callable or sequence of callables, optional
            Called with a read-only view of the policy after every generation; one that returns True ends training. See
            :mod:`ecpolicy.callbacks`.
        resume_from : path-like or Checkpoint, optional
            Go on from a saved training instead of starting anew: from this file, or from the newest file of this
            :class:`ecpolicy.callbacks.Checkpoint`, if there is one yet. The result is that of a fit which was never
            interrupted, bit for bit, where the parameters are the same; of PPO, whose environments start new episodes,
            it is not.
        observation_statistics : VecNormalize or (mean, variance, count), optional
            Of observations made before, which the normalisation of a new training starts from.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            Naming the parameter or environment, what was given and what is wanted.
        ImportError
            Where an optional package is missing; it says how to install it.
        FileNotFoundError, ModelFileError
            Where ``resume_from`` does not exist, or is damaged.
        EpisodeError
            Where an environment raises, hangs, returns NaN, changes its spaces or kills its worker.
        """
        fitting.fit(self, environments, callbacks, resume_from, observation_statistics)
        return self

    def partial_fit(self, environments: Any, y: None = None) -> Self:
        """Train for one generation (of PPO: update), going on from where the last ``fit`` or ``partial_fit`` ended.

        Parameters
        ----------
        environments, y
            As for ``fit``. A vector environment is reset.

        Returns
        -------
        self
        """
        fitting.partial_fit(self, environments)
        return self

    def _check(self) -> Network:
        """Check the parameters; the network that they describe."""
        network: Network = check(self.table.values(), self)["network"]
        return network

    def _check_environments(self, resolved: Resolved) -> None:
        """Raise where the estimator cannot train on these."""

    def _most_generations(self) -> float:
        """Generations after which a fit ends."""
        return np.inf

    def _endless_episode(self) -> float:
        """Steps that are played of an environment without a time limit."""
        return ENDLESS_EPISODE

    def _learner(self, run: Run, closing: ExitStack) -> Learner[Any]:
        raise NotImplementedError

    def _deployable(self, training: Any, n_outputs: int) -> Deployable:
        raise NotImplementedError

    def predict(
        self,
        observation: Any,
        state: PolicyState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, PolicyState]:
        """Choose the actions for one observation or a batch of them (Stable-Baselines3's ``predict``).

        Parameters
        ----------
        observation : observation, or batch of observations
            As the environment, or a vector environment, returns it.
        state : PolicyState or None
            What the last call returned; None starts every episode. It is not changed.
        episode_start : array of bool, shape (n,), or None
            Environments in which a new episode begins: their state starts afresh. It is not changed.
        deterministic : bool
            True acts with the deployed network, the most probable one. False samples a network from the search
            distribution at each episode start.

        Returns
        -------
        (actions, state)
            An action, or an array of n actions, and the state for the next call.

        Raises
        ------
        NotFittedError
        TypeError, ValueError
            Where the observation does not fit the space, the state another network or number of environments, or there
            is nothing to sample from, as the policy was saved without its training state.
        """
        check_is_fitted(self, "_deployed")
        batched = batch_length(self.observation_space_, observation) is not None
        if batched:
            raw = encode_batch(self.observation_space_, observation)
        else:
            raw = np.array(observation_encoder(self.observation_space_)(observation), dtype=np.float64)[None]
        n = raw.shape[0]
        state = self._begin_episodes(n, state, episode_start, deterministic)
        x = np.empty(raw.shape, dtype=np.float32)
        rows = np.arange(n)
        mean, inverse_std, clip = self._deployed.standardizer
        bad = kernels.standardize(raw, rows, mean, inverse_std, clip, x)
        if bad >= 0:
            raise ValueError(f"The observation holds NaN or infinite values: {raw[bad]}.")
        output = np.empty((n, action_outputs(self.action_space_)), dtype=np.float32)
        if deterministic or state.connections is None:
            connections, owners = self._deployed.connections, np.zeros(n, dtype=np.int64)
        else:
            connections, owners = state.connections, rows
        self._deployed.network.step(connections, state.network, x, output, owners=owners, rows=rows)
        if not np.isfinite(output).all():
            raise ValueError(f"The network's outputs are NaN or infinite, its weights or gains too large: {output}.")
        actions = self._actions(output, deterministic)
        return (actions if batched else actions[0]), state

    def _actions(self, output: NDArray[np.float32], deterministic: bool) -> NDArray[Any]:
        """Actions (n, ...) for outputs (n, action_outputs)."""
        return self._deployed.decode(output)

    def _begin_episodes(
        self, n: int, state: PolicyState | None, episode_start: NDArray[np.bool_] | None, deterministic: bool
    ) -> PolicyState:
        """A copy of the state in which the episodes that begin are fresh."""
        deployed = self._deployed
        if episode_start is None:
            starts = np.full(n, state is None)
        else:
            starts = np.array(episode_start, dtype=bool).reshape(-1)
            if starts.size != n:
                raise ValueError(f"episode_start has {starts.size} entries for {n} observations.")
        if state is None:
            starts = np.ones(n, dtype=bool)
            membrane_keys = np.broadcast_to(deployment_key(deployed.seed), (n, 2))
            network = deployed.network.initial_state(membrane_keys, action_outputs(self.action_space_))
            begun = PolicyState(network, None)
        else:
            _check_state(state, deployed, n)
            begun = state._replace(network=copied(state.network))
            if starts.any():
                overwrite(begun.network, starts, deployed.start)
        return begun if deterministic else self._sample_networks(begun, starts)

    def _sample_networks(self, state: PolicyState, starts: NDArray[np.bool_]) -> PolicyState:
        """Fresh networks where episodes start; reproducible from the seed, different at every episode.

        An environment's networks follow from its place in the batch and from its own episodes, whoever is beside it.
        """
        check_resumable(self, "There are no probabilities to sample networks from, give deterministic=True")
        if state.keys is None:
            starts = np.ones_like(starts)
            batch = fold_in(reserved_key(self._deployed.seed, Stream.CONNECTIONS), self._n_sampled)
            self._n_sampled += 1
            keys = fold_in(batch, np.arange(starts.size))
        elif not starts.any():
            return state
        else:
            keys = state.keys.copy()
        fresh = keys[starts]
        keys[starts] = fold_in(fresh, NEXT_EPISODE)
        drawn = self._deployed.distribution.sample_independent(self._deployed.parameters, fresh)
        if state.connections is not None:
            kept = {name: part.copy() for name, part in state.connections.items()}
            for name, part in drawn.items():
                kept[name][starts] = part
            drawn = kept
        return state._replace(connections=drawn, keys=keys)

    @property
    def environments_(self) -> tuple[str, ...]:
        """What the policy was trained on: a description of each environment, which tells it from others."""
        check_is_fitted(self, "_training")
        described: tuple[str, ...] = self._training.setting.environments
        return described

    def score(
        self,
        environments: Any,
        y: None = None,
        *,
        n_episodes: int = 20,
        seed: int | None = None,
        max_episode_steps: int | None = None,
    ) -> float:
        """Mean return of the deployed network. Results do not depend on ``n_jobs``.

        Parameters
        ----------
        environments : environment, or list of environments
            What ``fit`` accepts. On a list, every environment is played and the mean is taken over all.
        y : None
            Ignored; scikit-learn's place for labels.
        n_episodes : int
            Episodes on each environment.
        seed : int or None
            Episode k starts from ``env.reset(seed=seed + k)``. None takes seeds from ``random_state``, apart from
            those of training. Vector environments that seed themselves, and pools, keep to their own.
        max_episode_steps : int or None
            Cut episodes after so many steps. None plays until the environment ends them; those of Brax and MuJoCo
            Playground, which have no time limit, for 1000 steps.

        Returns
        -------
        float
        """
        returns = self.episode_returns(
            environments, n_episodes=n_episodes, seed=seed, max_episode_steps=max_episode_steps
        )
        mean: float = mean_and_std(returns)[0]
        return mean

    def episode_returns(
        self,
        environments: Any,
        *,
        n_episodes: int = 20,
        seed: int | None = None,
        max_episode_steps: int | None = None,
    ) -> NDArray[np.float64]:
        """Returns of the deployed network, (n_episodes, n_environments); the parameters are those of ``score``."""
        return self.evaluate(
            environments, n_episodes=n_episodes, seed=seed, max_episode_steps=max_episode_steps
        ).returns

    def evaluate(
        self,
        environments: Any,
        *,
        n_episodes: int = 20,
        seed: int | None = None,
        max_episode_steps: int | None = None,
    ) -> EvaluatedEpisodes:
        """Play episodes of the deployed network; the parameters are those of ``score``.

        Returns
        -------
        EvaluatedEpisodes
            A named tuple of arrays (n_episodes, n_environments): ``returns``, ``lengths`` in steps and, where
            environments report them as Gymnasium's and Brax's locomotion tasks do, ``x_velocities`` in m/s and
            ``x_positions`` in m at the end of the episodes; NaN elsewhere.
        """
        check_is_fitted(self, "_deployed")
        return evaluation.evaluate(self, environments, n_episodes, seed, max_episode_steps)

    def save(self, path: str | os.PathLike[str], *, training_state: bool = True) -> None:
        """Save the policy, atomically and free of executable content.

        A file says nothing about the machine: ``n_jobs``, ``timeout``, ``verbose``, ``backend``, ``engine`` and PPO's
        ``device`` have their defaults when it is loaded.

        Parameters
        ----------
        path : path-like
            The file, by convention ending in ``.ecp``; replaced if it exists, where a symbolic link leads.
        training_state : bool
            True saves all that acting and further training need. False saves the deployed network, how it observes and
            acts, the parameters and the last record of ``history_``: kilobytes. What is loaded from it acts, scores,
            exports and records as before; it cannot be resumed or sampled from, and of 1-bit connections the
            probabilities are 0 and 1.

        Raises
        ------
        NotFittedError
        OSError
            Where the file cannot be written; what was there before is unchanged.
        TypeError, ValueError
            Where what was given, or a part of the policy, cannot be saved; it says which.
        """
        check_is_fitted(self, "_deployed")
        path = archive.as_path(path)
        training_state = Flag()("training_state", training_state)
        if training_state:
            check_resumable(self, f"{path} was not saved, give training_state=False")
        archive.write(
            path,
            *policies.to_file(self, bool(training_state)),
            read_again=lambda document, arrays: policies.from_file(
                type(self), document, arrays, self._deployed.network
            ),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, network: Network | None = None) -> Self:
        """Load a policy saved by ``save``. No code from the file is run.

        Parameters
        ----------
        path : path-like
        network : Network, optional
            The network, where the policy was trained with one of your own; the file has its name alone.

        Raises
        ------
        OSError
            Where the file cannot be read now, or does not exist (FileNotFoundError).
        ModelFileError
            Where the file is damaged, truncated, pickled, foreign, or holds another kind of policy.
        """
        policy: Self = policies.load(path, {cls.__name__: cls}, network)
        return policy

    def to_nir(self, *, neurons: str = "lif") -> Any:
        """The deployed spiking network as a graph of NIR, the format that neuromorphic tools exchange.

        Save it with ``nir.write("policy.nir", graph)``. One step of the environment is ``metadata["substeps"]`` time
        steps of ``metadata["dt"]`` seconds with the same input: the standardised observation ``clip((observation -
        observation_mean) * observation_inverse_std, -observation_clip, observation_clip)``. The last output is the raw
        action. The neurons' potentials start at ``metadata["initial_potentials"]``.

        Parameters
        ----------
        neurons : {"lif", "cuba-lif"}
            "lif": leaky integrate-and-fire neurons with leaky integrators as synapses and readout; connections are
            matrices of -1, 0 and 1, gains stand apart. "cuba-lif": current-based neurons, for importers that have no
            leaky integrator, such as SpikingJelly's; they must be fed ``x[t] - input_alpha x[t-1]``, and what comes out
            are weighted spikes s, to be filtered by ``r[t] = s + readout_decay (r[t-1] - s)``.

        Returns
        -------
        nir.NIRGraph

        Raises
        ------
        NotFittedError
        ImportError
            Where nir is missing: ``pip install "ecpolicy[nir]"``.
        TypeError
            Where the network is not a spiking one of this library.
        ValueError
            Where ``neurons`` is none of these.
        """
        from ecpolicy.export.nir_graph import nir_graph

        network = self._spiking(RSNN, RealRSNN)
        weights = {name: p > 0.5 if isinstance(network, RSNN) else p for name, p in self._deployed.parameters.items()}
        return nir_graph(
            network, weights, self._deployed.standardizer, self._initial_potentials(network), neurons=neurons
        )

    def to_c(self, name: str = "policy") -> str:
        """The deployed network as one self-contained C99 header: packed connections, popcounts, no allocation.

        It defines ``<name>_state``, ``<name>_reset`` and ``<name>_step``, which gives the actions of ``predict`` bit
        for bit; its first lines say how to call them and how many bytes it takes.

        Parameters
        ----------
        name : str
            A C identifier, the prefix of what is defined.

        Raises
        ------
        NotFittedError
        TypeError
            Where the network is not one of 1-bit connections of this library, or C has no type for the actions.
        ValueError
            Where ``name`` is not a C identifier.
        """
        from ecpolicy.export.c99 import c_header

        network = self._spiking(RSNN)
        present = {name: p > 0.5 for name, p in self._deployed.parameters.items()}
        potentials = self._initial_potentials(network)
        return c_header(network, present, self._deployed.standardizer, potentials, self.action_space_, name=name)

    def _spiking(self, *kinds: type[Any]) -> Any:
        check_is_fitted(self, "_deployed")
        network = self._deployed.network
        if not isinstance(network, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"A {type(network).__name__} cannot be exported in this form; wanted {wanted}.")
        return network

    def _initial_potentials(self, network: RSNN | RealRSNN) -> NDArray[np.float32]:
        """Those at the start of the deployed network's episodes, (neurons,)."""
        start: Any = self._deployed.start
        return np.asarray(start.v[0, : network.n_neurons])

    def __sklearn_tags__(self) -> Tags:
        """Input is a list of environments, not a table; no labels."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = False
        tags.no_validation = True
        tags.non_deterministic = getattr(self, "random_state", None) is None
        return tags


def _check_state(state: Any, deployed: DeployedPolicy, n: int) -> None:
    """Raise unless the state is one that ``predict`` of this network returned for n environments.

    Kernels trust shapes: with a state of other sizes they would read and write beyond its arrays.
    """
    again = "Give back the state that the last call for these environments returned, or None to start their episodes."
    if not isinstance(state, PolicyState):
        raise TypeError(f"state must be what predict returned, a PolicyState, or None; got {type(state).__name__}.")
    given, own = list(state.network), list(deployed.start)
    if state.connections is not None:
        given += [part for _, part in sorted(state.connections.items())]
        own += [part for _, part in sorted(deployed.connections.items())]
    if state.keys is not None:
        given, own = [*given, state.keys], [*own, np.zeros((1, 2), np.uint32)]
    if [(part.shape[1:], part.dtype) for part in given] != [(part.shape[1:], part.dtype) for part in own]:
        raise ValueError(f"The state is of another network than the one that is deployed. {again}")
    if (state.connections is None) != (state.keys is None):
        raise ValueError(f"The state is not one that predict returned. {again}")
    other = {len(part) for part in given} - {n}
    if other:
        raise ValueError(f"The state is of {other.pop()} environments, the observation of {n}. {again}")
