"""Acting with a fitted policy: predict, in Stable-Baselines3's contract."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.distributions import Connections
from ecpolicy.fitting.deployed import DeployedPolicy, deployment_key
from ecpolicy.fitting.resumption import check_resumable
from ecpolicy.networks.network import copied, overwrite
from ecpolicy.networks.numba import bits as kernels
from ecpolicy.random import Key, Stream, fold_in, reserved_key
from ecpolicy.spaces import action_outputs, batch_length, encode_batch, observation_encoder
from ecpolicy.untyped import Space

NEXT_EPISODE = 0xFFFFFFFE  # derives the key of an environment's next network from that of this one


class PolicyState(NamedTuple):
    """What ``predict`` returns to be given back: one row per environment, never changed in place."""

    network: tuple[np.ndarray, ...]
    connections: Connections | None  # networks sampled with deterministic=False, one per environment
    keys: Key | None = None  # (environments, 2) from which their next networks are derived

    def __repr__(self) -> str:
        n = len(self.network[0]) if self.network else 0
        acting = "the deployed network" if self.connections is None else "networks sampled for each"
        return f"PolicyState({n} environment{'' if n == 1 else 's'}, {acting})"


class Acting:
    """What acts with the deployed network; a fit keeps it, and the spaces, up to date."""

    observation_space_: Space
    action_space_: Space
    _deployed: DeployedPolicy
    _training: Any
    _n_sampled: int = 0  # batches of episodes that predict(deterministic=False) has begun since the last fit

    def predict(
        self,
        observation: object,
        state: PolicyState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, PolicyState]:
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

    def _actions(self, output: NDArray[np.float32], deterministic: bool) -> np.ndarray:
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
        check_resumable(self, "There are no probabilities to sample networks from, give deterministic=True", "")
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


def _check_state(state: object, deployed: DeployedPolicy, n: int) -> None:
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
