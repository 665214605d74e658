"""Loading a policy whose class the file knows."""

import os

from ecpolicy.files import policies
from ecpolicy.networks import Network
from ecpolicy.policies.ec import EvolvingConnectivityPolicy
from ecpolicy.policies.es import ESPolicy
from ecpolicy.policies.policy import BasePolicy
from ecpolicy.policies.ppo import SurrogateGradientPPOPolicy

ESTIMATORS: dict[str, type[BasePolicy]] = {
    kind.__name__: kind for kind in (EvolvingConnectivityPolicy, ESPolicy, SurrogateGradientPPOPolicy)
}


def load(path: str | os.PathLike[str], *, network: Network | None = None) -> BasePolicy:
    """Load a saved policy of any class, as the ``load`` of its class does.

    Parameters
    ----------
    path : path-like
    network : Network, optional
        The network, where the policy was trained with one of your own.

    Returns
    -------
    EvolvingConnectivityPolicy, ESPolicy or SurrogateGradientPPOPolicy

    Raises
    ------
    OSError, ModelFileError
    """
    policy: BasePolicy = policies.load(path, ESTIMATORS, network)
    return policy
