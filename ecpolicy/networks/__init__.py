"""Networks: settings in frozen dataclasses, states in arrays over episodes."""

from typing import Any

from ecpolicy.networks.gated import GRU, LSTM
from ecpolicy.networks.network import Network, Shape
from ecpolicy.networks.rsnn import RSNN, RealRSNN

NETWORKS: dict[str, Any] = {"rsnn": RSNN, "real-rsnn": RealRSNN, "gru": GRU, "lstm": LSTM}  # as files name them

__all__ = ["GRU", "LSTM", "RSNN", "Network", "RealRSNN", "Shape"]
