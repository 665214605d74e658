"""Which networks an estimator takes: functions for the tables of parameters, which give the network back, checked."""

from collections.abc import Mapping
from typing import cast

from ecpolicy.networks.boolean import BooleanRSNN
from ecpolicy.networks.gated import GRU, LSTM
from ecpolicy.networks.network import Network, Settings
from ecpolicy.networks.spiking import RSNN, RealRSNN


def _methods(name: str, value: object, *methods: str) -> Network:
    """A network of the library, its settings checked, or one of the user's own with these methods."""
    missing = [method for method in methods if not callable(getattr(value, method, 0))]
    if missing or isinstance(value, type):
        what = f"without {', '.join(missing)}" if missing else "as a class; make an instance of it"
        raise TypeError(f"{name} must be an object like ecpolicy.networks.Network; got {value!r} {what}.")
    return cast("Network", value.checked() if isinstance(value, Settings) else value)


def _refuse_words(name: str, value: object, words: Mapping[str, type]) -> None:
    """Raise for the words that once stood for networks."""
    if isinstance(value, str):
        made = words[value].__name__ if value in words else next(iter(words.values())).__name__
        raise TypeError(f"{name} must be an object, such as {name}={made}(); got {value!r}.")


def with_bits(name: str, value: object) -> Network:
    """A network of 1-bit connections; RSNN for None."""
    value = RSNN() if value is None else value
    _refuse_words(name, value, {"rsnn": RSNN})
    if isinstance(value, RealRSNN | GRU | LSTM):
        raise TypeError(f"{name} must have 1-bit connections, or train it by ESPolicy; got {value!r}.")
    return _methods(name, value, "shapes", "initial_state", "step")


def with_weights(name: str, value: object) -> Network:
    """A network of real weights; RealRSNN for None."""
    value = RealRSNN() if value is None else value
    _refuse_words(name, value, {"rsnn": RealRSNN, "gru": GRU, "lstm": LSTM})
    if isinstance(value, BooleanRSNN):
        raise TypeError(f"{name} must have real weights, such as RealRSNN has; got {value!r}.")
    return _methods(name, value, "shapes", "initial_state", "step", "initial_scales")


def with_gradients(name: str, value: object) -> RealRSNN:
    """The spiking network that PyTorch trains, which starts from potentials of zero; RealRSNN for None."""
    value = RealRSNN() if value is None else value
    _refuse_words(name, value, {"rsnn": RealRSNN})
    if type(value) is not RealRSNN:
        raise TypeError(f"{name} must be a RealRSNN; got {value!r}.")
    return value.set_params(random_start=False).checked()
