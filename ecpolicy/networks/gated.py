"""The gated recurrent networks that the paper compares with: GRU and LSTM, with a linear readout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.constraints import Integer, Parameter, Table, documented, table
from ecpolicy.networks.network import Settings, Shape
from ecpolicy.networks.numba import weights
from ecpolicy.random import Key

GRU_UNITS = table(Parameter("n_neurons", 256, Integer(1), "Units of the hidden state.", "paper, appendix A"))
LSTM_UNITS = table(Parameter("n_neurons", 128, Integer(1), "Units of the hidden state.", "paper, appendix A"))


class GRUState(NamedTuple):
    """Hidden state (episodes, units)."""

    h: NDArray[np.float32]


class LSTMState(NamedTuple):
    """Hidden and cell state (episodes, units)."""

    h: NDArray[np.float32]
    c: NDArray[np.float32]


@documented(GRU_UNITS)
@dataclass(frozen=True, repr=False)
class GRU(Settings):
    """Gated recurrent unit (Cho et al., 2014) and a linear readout.

    PyTorch's equations and order of gates::

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))
        h = (1 - z) n + z h,    output = W_out h + b_out

    Parameters
    ----------
    <parameters>
    """

    table: ClassVar[Table] = GRU_UNITS

    n_neurons: int = 256

    def shapes(self, obs_size: int, n_outputs: int) -> dict[str, Shape]:
        """The matrices by name; "bias" has the input's biases in its first row, the hidden state's in its second."""
        n = self.n_neurons
        return _shapes(obs_size, n, n_outputs, gates=3, biases=2)

    def initial_scales(self, obs_size: int, n_outputs: int) -> dict[str, float]:
        """Standard deviations of the initial weights: 1 / sqrt(units), biases zero."""
        return _initial_scales(self.n_neurons)

    def initial_state(self, keys: Key, n_outputs: int) -> GRUState:
        """Zeros, at the start of episodes with these keys (episodes, 2)."""
        return GRUState(np.zeros((keys.shape[0], self.n_neurons), np.float32))

    def step(
        self,
        connections: Mapping[str, NDArray[np.float32]],
        state: GRUState,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        *,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        """Advance the episodes ``rows`` by one step, in place; see :class:`ecpolicy.networks.Network`."""
        w_in, w_h, bias, w_out, bias_out = (connections[name] for name in NAMES)
        weights.gru_step(w_in, w_h, bias, w_out, bias_out, owners, rows, state.h, x, output)


@documented(LSTM_UNITS)
@dataclass(frozen=True, repr=False)
class LSTM(Settings):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) and a linear readout.

    PyTorch's order of gates::

        i, f, o = sigmoid(W x + U h + b) each,    g = tanh(W_g x + U_g h + b_g)
        c = f c + i g,    h = o tanh(c),    output = W_out h + b_out

    Parameters
    ----------
    <parameters>
    """

    table: ClassVar[Table] = LSTM_UNITS

    n_neurons: int = 128

    def shapes(self, obs_size: int, n_outputs: int) -> dict[str, Shape]:
        """The matrices by name."""
        return _shapes(obs_size, self.n_neurons, n_outputs, gates=4, biases=1)

    def initial_scales(self, obs_size: int, n_outputs: int) -> dict[str, float]:
        """Standard deviations of the initial weights: 1 / sqrt(units), biases zero."""
        return _initial_scales(self.n_neurons)

    def initial_state(self, keys: Key, n_outputs: int) -> LSTMState:
        """Zeros, at the start of episodes with these keys (episodes, 2)."""
        shape = keys.shape[0], self.n_neurons
        return LSTMState(np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def step(
        self,
        connections: Mapping[str, NDArray[np.float32]],
        state: LSTMState,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        *,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        """Advance the episodes ``rows`` by one step, in place; see :class:`ecpolicy.networks.Network`."""
        w_in, w_h, bias, w_out, bias_out = (connections[name] for name in NAMES)
        weights.lstm_step(w_in, w_h, bias, w_out, bias_out, owners, rows, state.h, state.c, x, output)


NAMES = ("input", "recurrent", "bias", "output", "output_bias")


def _shapes(obs_size: int, units: int, n_outputs: int, *, gates: int, biases: int) -> dict[str, Shape]:
    return {
        "input": Shape(obs_size, gates * units),
        "recurrent": Shape(units, gates * units),
        "bias": Shape(biases, gates * units),
        "output": Shape(units, n_outputs),
        "output_bias": Shape(1, n_outputs),
    }


def _initial_scales(units: int) -> dict[str, float]:
    scale = float(1 / np.sqrt(units))
    return {"input": scale, "recurrent": scale, "bias": 0.0, "output": scale, "output_bias": 0.0}
