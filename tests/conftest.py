"""Shared fixtures: small policies that are fast to train."""

import pytest

from ecpolicy import EvolvingConnectivityPolicy
from probes import Match

SMALL = {
    "n_neurons": 32,
    "population_size": 40,
    "n_generations": 4,
    "eval_episodes": 2,
    "confirm_episodes": 4,
    "random_state": 0,
}


@pytest.fixture
def small():
    """Constructor parameters of a policy that trains in a fraction of a second."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def fitted():
    """A policy fitted on Match; tests must not change it."""
    return EvolvingConnectivityPolicy(**SMALL).fit(Match)
