"""Search distributions: how a population is drawn from theta, and how theta climbs."""

from ecpolicy.distributions.bernoulli import Bernoulli, BernoulliSampler
from ecpolicy.distributions.distribution import (
    Connections,
    Distribution,
    Limits,
    Parameters,
    Sampler,
    WeightedNoise,
    WeightedSum,
    streams,
)
from ecpolicy.distributions.gaussian import Gaussian, Point, WeightSampler, host_noise

__all__ = [
    "Bernoulli",
    "BernoulliSampler",
    "Connections",
    "Distribution",
    "Gaussian",
    "Limits",
    "Parameters",
    "Point",
    "Sampler",
    "WeightSampler",
    "WeightedNoise",
    "WeightedSum",
    "host_noise",
    "streams",
]
