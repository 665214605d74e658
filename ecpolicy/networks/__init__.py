"""Networks that a search distribution can evolve."""

from ecpolicy.networks.rsnn import RSNN, RSNNState

__all__ = ["RSNN", "RSNNState"]
