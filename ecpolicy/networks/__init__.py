"""Networks: settings in frozen dataclasses, states in arrays over episodes."""

from ecpolicy.networks.gated import GRU, LSTM
from ecpolicy.networks.network import Network, Settings, Shape
from ecpolicy.networks.spiking import RSNN, RealRSNN

__all__ = ["GRU", "LSTM", "RSNN", "Network", "RealRSNN", "Settings", "Shape"]

NETWORKS: dict[str, type[RSNN | RealRSNN | GRU | LSTM]] = {  # as files and the command line name them
    "rsnn": RSNN, "real-rsnn": RealRSNN, "gru": GRU, "lstm": LSTM,
}  # fmt: skip
