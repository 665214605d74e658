"""Policies with 1-bit recurrent spiking networks, trained without gradients by Evolving Connectivity."""

import importlib
from typing import TYPE_CHECKING

from ecpolicy.version import __version__

if TYPE_CHECKING:
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

_HOMES = {
    "ESPolicy": "policies.es",
    "EpisodeError": "rollout.outcome",
    "EvolvingConnectivityPolicy": "policies.ec",
    "ModelFileError": "files.archive",
    "SurrogateGradientPPOPolicy": "policies.ppo",
    "best_start": "starts",
    "load": "files.load",
    "pretrained": "pretrained_policies",
    "tuned": "tuned_settings",
    "with_integrator": "integrators",
}


def __getattr__(name: str) -> object:
    """What is public, or a module: imported when it is asked for, as workers need no estimators."""
    if name in _HOMES:
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        path = f"{__name__}.{name}"
        try:
            found = None if name.startswith("_") else importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name != path:
                raise
            found = None
        if found is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
