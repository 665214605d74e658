"""Networks: settings in frozen dataclasses, states in arrays over episodes."""

from ecpolicy.networks.gated import GRU, LSTM
from ecpolicy.networks.network import Network, Shape
from ecpolicy.networks.rsnn import RSNN, RealRSNN

__all__ = ["GRU", "LSTM", "RSNN", "Network", "RealRSNN", "Shape"]
