"""Policies with 1-bit recurrent spiking networks, trained without gradients by Evolving Connectivity."""

from ecpolicy.estimators.best_start import best_start
from ecpolicy.estimators.ec import EvolvingConnectivityPolicy
from ecpolicy.estimators.es import ESPolicy
from ecpolicy.estimators.ppo import SurrogateGradientPPOPolicy
from ecpolicy.files.archive import ModelFileError
from ecpolicy.files.load import load
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
    "best_start",
    "load",
    "tuned",
]
