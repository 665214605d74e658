"""The deployed network: what a fitted policy needs to act."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from ecpolicy.distributions import Connections, Distribution, Parameters
from ecpolicy.networks.network import Network
from ecpolicy.normalization import Standardizer
from ecpolicy.random import Key, Stream, reserved_key
from ecpolicy.spaces import Decode, action_decoder, action_outputs
from ecpolicy.untyped import Space


class Deployable(NamedTuple):
    """A network to act with, as a training has it."""

    network: Network
    distribution: Distribution
    parameters: Parameters  # of the distribution
    standardizer: Standardizer
    shown: Mapping[str, object]  # the fitted attributes that show it


class DeployedPolicy(NamedTuple):
    """What a fitted policy needs to act, apart from the state of its episodes."""

    network: Network
    distribution: Distribution
    parameters: Parameters  # of the distribution
    standardizer: Standardizer
    connections: Connections  # the most probable network, leading axis of one
    start: tuple[np.ndarray, ...]  # its state when an episode starts, leading axis of one
    decode: Decode
    seed: int

    @classmethod
    def of(cls, chosen: Deployable, action_space: Space, seed: int) -> Self:
        """Ready to act in this space."""
        network, distribution, parameters, standardizer, _ = chosen
        start = network.initial_state(deployment_key(seed)[None], action_outputs(action_space))
        connections, decode = distribution.mode(parameters), action_decoder(action_space)
        return cls(network, distribution, parameters, standardizer, connections, start, decode, seed)


def deployment_key(seed: int) -> Key:
    """The key of the deployed network's initial membrane potentials: the same in every episode."""
    return reserved_key(seed, Stream.DEPLOYMENT)
