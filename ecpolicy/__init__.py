"""Policies with 1-bit recurrent spiking networks, trained without gradients by Evolving Connectivity."""

from ecpolicy.files.archive import ModelFileError
from ecpolicy.files.load import load
from ecpolicy.integrators import with_integrator
from ecpolicy.policies.ec import EvolvingConnectivityPolicy
from ecpolicy.policies.es import ESPolicy
from ecpolicy.policies.ppo import SurrogateGradientPPOPolicy
from ecpolicy.pretrained_policies import pretrained
from ecpolicy.rollout.outcome import EpisodeError
from ecpolicy.starts import best_start
from ecpolicy.tuned_settings import tuned
from ecpolicy.version import __version__

__all__ = [
    "ESPolicy",
    "EpisodeError",
    "EvolvingConnectivityPolicy",
    "ModelFileError",
    "SurrogateGradientPPOPolicy",
    "__version__",
    "best_start",
    "load",
    "pretrained",
    "tuned",
    "with_integrator",
]
