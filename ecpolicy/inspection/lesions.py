"""Lesions: what a network earns without some of its neurons or connections."""

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ecpolicy.connectome import Connectome
from ecpolicy.fitting.deployed import Deployable
from ecpolicy.fitting.fit import act_with
from ecpolicy.fitting.resumption import NoTraining
from ecpolicy.policies.ec import EvolvingConnectivityPolicy
from ecpolicy.wiring import frame

SHOWN = 10  # lesions that are printed

Lesion = str | tuple[str, str] | int | Iterable[int]
P = TypeVar("P", bound=EvolvingConnectivityPolicy)


class Lesions(NamedTuple):
    """Returns without some neurons or connections, on the same episodes each."""

    names: tuple[str, ...]  #: of the lesions, the first one being "none"
    connections: NDArray[np.int64]  #: (lesions,) those that were removed
    returns: NDArray[np.float64]  #: (lesions, episodes)

    def __repr__(self) -> str:
        means = self.returns.mean(axis=1)
        order, what = np.arange(1, means.size), "without"
        if order.size > SHOWN:
            order, what = 1 + np.argsort(means[1:], kind="stable")[:SHOWN], f"costliest of {order.size} lesions"
        shown = ", ".join(f"{self.names[k]} {means[k]:.1f}" for k in order)
        return f"Lesions(mean return over {self.returns.shape[1]} episodes {means[0]:.1f}; {what}: {shown})"

    @property
    def costs(self) -> NDArray[np.float64]:
        """Mean return that each lesion costs, (lesions,)."""
        means = self.returns.mean(axis=1)
        return np.asarray(means[0] - means)

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors of the costs, (lesions,), of the differences on the same episodes."""
        n = self.returns.shape[1]
        deviations = (self.returns[:1] - self.returns).std(axis=1)
        return np.asarray(deviations / np.sqrt(n - 1) if n > 1 else np.full_like(deviations, np.nan))

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for every lesion: connections removed, mean return, cost and its error."""
        columns = {"lesion": self.names, "connections": self.connections, "mean_return": self.returns.mean(axis=1)}
        return frame({**columns, "cost": self.costs, "standard_error": self.errors}, "Lesions.to_pandas")


def lesioned(policy: P, *lesions: Lesion) -> P:
    """A copy of a policy that acts without some of its neurons or connections; the policy stays as it is.

    Parameters
    ----------
    policy : fitted EvolvingConnectivityPolicy
    *lesions : str, (str, str), int or iterable of int
        A matrix ("recurrent") or a group ("I", "-observation", a type) with all its connections; a block, such as
        ("E", "I"), the connections from E to I; a neuron by its number, or several.

    Returns
    -------
    policy
        It acts, scores, records and exports; it cannot be trained further.

    Raises
    ------
    NotFittedError
    TypeError
        Where the policy is of another kind, or its network has no excitatory and inhibitory neurons.
    ValueError
        Where there is no such matrix, group, block or neuron; it says which there are.
    """
    kept = _kept(policy, lesions)
    deployed, setting = policy._deployed, policy._training.setting
    parameters = {name: np.where(kept[name], p, np.float32(0)) for name, p in deployed.parameters.items()}
    names = ("n_generations_", "deployed_generation_")
    shown = {**policy._shown(deployed.network, parameters), **{name: getattr(policy, name) for name in names}}
    chosen = Deployable(deployed.network, deployed.distribution, parameters, deployed.standardizer, shown)
    without = copy.copy(policy)
    act_with(without, chosen, NoTraining(setting), policy.action_space_, deployed.seed)
    return without


def lesion_returns(
    policy: EvolvingConnectivityPolicy,
    environment: object,
    lesions: Iterable[Lesion] | None = None,
    *,
    n_episodes: int = 20,
    seed: int = 0,
    max_episode_steps: int | None = 1000,
) -> Lesions:
    """What a policy earns after each of some lesions, on the same episodes.

    Parameters
    ----------
    policy : fitted EvolvingConnectivityPolicy
    environment : environment
        What ``score`` accepts.
    lesions : iterable, optional
        As for :func:`lesioned`, one at a time; every block unless given. ``range(256)`` is every neuron.
    n_episodes, seed, max_episode_steps
        As for ``score``.

    Returns
    -------
    Lesions

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As :func:`lesioned` and ``score`` raise them.
    """
    wanted: list[Any] = [*(_connectome(policy).blocks() if lesions is None else lesions)]
    names, removed, returns = ["none", *map(_name, wanted)], [], []
    present = policy.connectivity_
    for each in [(), *((lesion,) for lesion in wanted)]:
        kept = _kept(policy, each)
        removed.append(sum(int((part & ~kept[name]).sum()) for name, part in present.items()))
        acting = lesioned(policy, *each)
        found = acting.episode_returns(
            environment, n_episodes=n_episodes, seed=seed, max_episode_steps=max_episode_steps
        )
        returns.append(found.mean(axis=1))
    return Lesions(tuple(names), np.array(removed), np.array(returns))


def _connectome(policy: EvolvingConnectivityPolicy) -> Connectome:
    if not isinstance(policy, EvolvingConnectivityPolicy):
        raise TypeError(f"Lesions are of an EvolvingConnectivityPolicy; got {type(policy).__name__}.")
    check_is_fitted(policy, "_deployed")
    return policy.connectome_


def _kept(policy: EvolvingConnectivityPolicy, lesions: Iterable[Lesion]) -> dict[str, NDArray[np.bool_]]:
    """Which connections are left, (pre, post) by matrix."""
    wiring = _connectome(policy)
    blocks, kept = wiring.blocks(), {name: np.ones(p.shape, bool) for name, p in wiring.probabilities.items()}
    groups = dict.fromkeys(end for pair in blocks for end in pair)
    n = wiring.excitatory.size
    for lesion in lesions:
        if isinstance(lesion, str) and lesion in kept:
            kept[lesion][:] = False
        elif isinstance(lesion, str | tuple) and (lesion in blocks or lesion in groups):
            for pair, (name, rows, columns) in blocks.items():
                if lesion == pair or lesion in pair:
                    kept[name][rows, columns] = False
        else:
            neurons = np.atleast_1d(np.asarray([] if isinstance(lesion, str) else lesion))
            if neurons.dtype.kind not in "iu" or not neurons.size or neurons.min() < 0 or neurons.max() >= n:
                raise ValueError(
                    f"A lesion is a matrix ({', '.join(kept)}), a group ({', '.join(groups)}), a block such as "
                    f"{next(iter(blocks))}, or neurons by their numbers from 0 to {n - 1}; got {lesion!r:.80}."
                )
            kept["recurrent"][neurons] = kept["recurrent"][:, neurons] = False
            kept["input"][:, neurons] = kept["output"][neurons] = False
    return kept


def _name(lesion: Any) -> str:
    if isinstance(lesion, str):
        return lesion
    if isinstance(lesion, tuple) and all(isinstance(end, str) for end in lesion):
        return " to ".join(lesion)
    numbers = [str(number) for number in np.atleast_1d(np.asarray(lesion)).tolist()]
    return f"neuron {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} neurons from {numbers[0]}"
