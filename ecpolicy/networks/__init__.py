"""Networks: settings in frozen dataclasses, states in arrays over episodes."""

from ecpolicy.networks.boolean import BooleanRSNN as BooleanRSNN
from ecpolicy.networks.gated import GRU, LSTM
from ecpolicy.networks.integer import IntegerRSNN
from ecpolicy.networks.network import Network, Settings, Shape
from ecpolicy.networks.spiking import RSNN, RealRSNN

__all__ = ["GRU", "LSTM", "RSNN", "IntegerRSNN", "Network", "RealRSNN", "Settings", "Shape"]

NETWORKS: dict[str, type[RSNN | IntegerRSNN | RealRSNN | GRU | LSTM]] = {  # as files and the command line name them
    "rsnn": RSNN, "integer-rsnn": IntegerRSNN, "real-rsnn": RealRSNN, "gru": GRU, "lstm": LSTM,
}  # fmt: skip
