"""Parameters in scikit-learn's sense, those of the network among them; how those of old are written now."""

import copy
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from ecpolicy.constraints import Table, meant
from ecpolicy.networks import GRU, LSTM, NETWORKS, Network
from ecpolicy.untyped import Kwargs

SETTINGS = {name for kind in NETWORKS.values() for name in kind.table}  # of networks, once parameters of the estimators
WORDS = {"gru": GRU(), "lstm": LSTM()}  # that once stood for networks
STARTS = {"n_starts": "n_starts", "start_env_steps": "env_steps"}  # once parameters, now of best_start


class Parameterised(BaseEstimator):
    """What has the parameters of a table, and a network as one of them."""

    table: ClassVar[Table]  # of the parameters
    network: Network | None

    def __new__(cls, **given: object) -> Self:
        """Refuse parameters that there are not, before Python does, which does not say what could be meant."""
        known = cls._get_param_names()
        said = old_spelling(given, known, type(cls._network(given.get("network"))))
        for name in sorted(set(given).difference(known)) if not said else ():
            said = f"{cls.__name__}.__init__() got an unexpected keyword argument {name!r}.{meant(name, known)}"
        if said:
            raise TypeError(said)
        made: Self = super().__new__(cls)
        return made

    @classmethod
    def _network(cls, given: object) -> Any:
        """The network that ``network=`` stands for: the default for None and for the words of old."""
        if isinstance(given, str):
            given = WORDS.get(given)
        return cls.table["network"].check(None) if given is None else given

    def get_params(self, deep: bool = True) -> Kwargs:
        """The parameters by name, and with ``deep`` the network's settings as ``network__n_neurons`` and so on."""
        found: Kwargs = super().get_params(deep=deep)
        if deep and self.network is None:
            found |= {f"network__{name}": value for name, value in self._network(None).get_params().items()}
        return found

    def set_params(self, **parameters: object) -> Self:
        """Set parameters; ``network__n_neurons=64`` replaces the network by one with this setting.

        Raises
        ------
        ValueError
            Where there is no such parameter, or the network has no such setting.
        """
        network = self._network(parameters.get("network", self.network))
        said = old_spelling(parameters, self._get_param_names(), type(network), "network__")
        if said:
            raise ValueError(said)
        settings = {name[9:]: value for name, value in parameters.items() if name.startswith("network__")}
        others = {name: value for name, value in parameters.items() if not name.startswith("network__")}
        if settings:
            if not hasattr(network, "set_params"):
                raise ValueError(
                    f"{type(network).__name__} has no set_params, so that {', '.join(settings)} cannot be set: derive "
                    "it from ecpolicy.networks.Settings, or give a changed network=."
                )
            others["network"] = copy.deepcopy(network).set_params(**settings)  # other policies may share it
        known = self._get_param_names()
        for name in sorted({name.partition("__")[0] for name in others}.difference(known)):
            there = f"Valid parameters are: {', '.join(known)}."
            raise ValueError(f"Invalid parameter {name!r} for {type(self).__name__}.{meant(name, known)} {there}")
        super().set_params(**others)
        return self

    def __sklearn_tags__(self) -> Tags:
        """Input is a list of environments, not a table; no labels."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = False
        tags.no_validation = True
        tags.non_deterministic = getattr(self, "random_state", None) is None
        return tags


def old_spelling(given: Mapping[str, Any], known: Collection[str], network: type, prefix: str = "") -> str | None:
    """What to say where a parameter is spelt as it once was: the new spelling in full.

    Parameters
    ----------
    given : parameters by name, to the constructor or, with ``prefix="network__"``, to ``set_params``
    known : the estimator's parameters
    network : the class of its network
    """
    old = [name for name in given if name in SETTINGS.difference(known)]
    if old:
        table = getattr(network, "table", ())
        new = ", ".join(f"{prefix}{name}={given[name]!r}" for name in old if name in table)
        new = new if prefix else f"network={network.__name__}({new})"
        return f"{', '.join(old)} {'belongs' if len(old) == 1 else 'belong'} to the network: give {new}."
    starts = [f"{new}={given[name]!r}" for name, new in STARTS.items() if name in given]
    if starts and "population_size" in known:
        return f"Several starts are a function: ecpolicy.best_start(policy, environments, {', '.join(starts)})."
    if "max_grad_norm" in given and "ppo_kwargs" in known:
        further = {**(given.get("ppo_kwargs") or {}), "max_grad_norm": given["max_grad_norm"]}
        return f"max_grad_norm is an argument of RecurrentPPO like others: give ppo_kwargs={further}."
    if "fitness_shaping" in set(given).difference(known) and "population_size" in known:
        return 'fitness_shaping is no parameter any more, as "centered_ranks" was all it could be: leave it out.'
    return None
