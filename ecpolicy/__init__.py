"""Policies with 1-bit recurrent spiking networks, trained without gradients by Evolving Connectivity."""

import importlib.util
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


if not TYPE_CHECKING:  # type checkers would take every name for one that there is

    def __getattr__(name: str) -> object:
        """What is public, or a module: imported when it is asked for, as workers need no estimators."""
        module = f"{__name__}.{_HOMES.get(name, name)}"
        if name.startswith("_") or importlib.util.find_spec(module) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = importlib.import_module(module)
        if name in _HOMES:
            found = globals()[name] = getattr(found, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
