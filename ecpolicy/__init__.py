"""Policies with 1-bit recurrent spiking networks, trained without gradients by Evolving Connectivity."""

from ecpolicy.estimators.ec import EvolvingConnectivityPolicy
from ecpolicy.estimators.es import ESPolicy
from ecpolicy.estimators.loading import load
from ecpolicy.estimators.ppo import SurrogateGradientPPOPolicy
from ecpolicy.persistence import ModelFileError
from ecpolicy.rollout.outcome import EpisodeError
from ecpolicy.tuned_settings import tuned

__version__ = "0.1.0"

__all__ = [
    "ESPolicy",
    "EpisodeError",
    "EvolvingConnectivityPolicy",
    "ModelFileError",
    "SurrogateGradientPPOPolicy",
    "__version__",
    "load",
    "tuned",
]
