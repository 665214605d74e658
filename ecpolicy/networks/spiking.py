"""The recurrent spiking networks of the paper: leaky integrate-and-fire neurons with 1-bit or real connections."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.constraints import POSITIVE, Flag, Integer, Number, Parameter, Table, documented, table
from ecpolicy.networks.boolean import BooleanRSNN
from ecpolicy.networks.cells import CellTypes, Chosen, LeakyNeurons, PerNeuron, Shares, Some, Varied, chosen, sizes
from ecpolicy.networks.layout import Words
from ecpolicy.networks.network import Shape
from ecpolicy.networks.numba import spiking, weights
from ecpolicy.random import Key

APPENDIX = "paper, appendix A"

SIZE = Parameter("n_neurons", 256, Integer(1), "Neurons.", APPENDIX)
LEAKY = table(
    Parameter("step_ms", 16.6, POSITIVE, "Milliseconds of network time in an environment step.", APPENDIX),
    Parameter("dt", 0.5, POSITIVE, "Milliseconds of an Euler substep.", APPENDIX),
    Parameter("tau_syn", 5.0, PerNeuron(POSITIVE), "Time constant of the synaptic currents, in ms.", APPENDIX),
    Parameter("tau_m", 10.0, PerNeuron(POSITIVE), "Time constant of the membrane potentials, in ms.", APPENDIX),
    Parameter("tau_out", 10.0, POSITIVE, "Time constant of the readout, in ms.", APPENDIX),
    Parameter("gain_in", 0.1, Number(0), "Gain of the observation, K_in of the paper.", APPENDIX),
    Parameter("gain_recurrent", 1.0, Number(0), "Gain of the recurrent connections, K_h of the paper.", APPENDIX),
    Parameter("gain_out", 5.0, Number(0), "Gain of the readout, K_out of the paper.", APPENDIX),
)
CELLS = table(
    Parameter("threshold", 1.0, PerNeuron(POSITIVE), "Potential above which a neuron spikes."),
    Parameter("t_ref", 0.0, PerNeuron(Number(0)),
        "Absolute refractory period, in ms, rounded to substeps: so long after a spike, the potential is held at 0."),
)  # fmt: skip
SHARE = Number(0, 1, open_low=True)
BITS = table(
    SIZE,
    Parameter(
        "excitatory_ratio", 0.5, Number(0, 1), "Share of excitatory neurons; the others are inhibitory.", APPENDIX
    ),
    *LEAKY.values(),
    Parameter("density", 0.5, SHARE, "Share of present connections for which the gains are normalised.", APPENDIX),
    *CELLS.values(),
    Parameter("cell_types", None, CellTypes(),
        "Shares of the neurons and signs (1 or -1) of cell types in the order of the neurons, excitatory ones first: "
        '``{"Pyr": (0.8, 1), "PV": (0.1, -1), "SST": (0.1, -1)}``. None is "E" and "I", by ``excitatory_ratio``.'),
    Parameter("input_neurons", None, Chosen(),
        "Neurons that may get input: a mask, numbers, or cell types; None for all. Others have no input connections."),
    Parameter("readout_neurons", None, Chosen(),
        "Neurons that outputs may read, likewise. ``R_out`` is normalised for their number."),
)  # fmt: skip
WEIGHTS = table(
    SIZE,
    *LEAKY.values(),
    Parameter("density", 1.0, SHARE, "Mean square of a weight for which the gains are normalised."),
    Parameter("random_start", True, Flag(),
        "Start episodes from random potentials, as RSNN does; otherwise from zero."),
    Parameter("dense", False, Flag(),
        "Multiply by every spike instead of adding the rows of the neurons that fire: for measuring what that costs."),
    *CELLS.values(),
    Parameter("cell_types", None, Shares(),
        'Shares of the neurons of cell types, in the order of the neurons: ``{"fast": 0.8, "slow": 0.2}``. Weights '
        "have the signs. None is neurons without types."),
)  # fmt: skip


class RSNNState(NamedTuple):
    """State of a batch of networks between environment steps; all arrays are updated in place."""

    v: NDArray[np.float32]  # (episodes, lanes) membrane potential
    i_syn: NDArray[np.float32]  # (episodes, lanes) synaptic current
    spikes: Words  # (episodes, words) spikes of the last substep
    readout: NDArray[np.float32]  # (episodes, outputs) filtered signed spike counts, per ms


class CellsState(NamedTuple):
    """The same of neurons with constants of their own."""

    v: NDArray[np.float32]
    i_syn: NDArray[np.float32]
    spikes: Words
    readout: NDArray[np.float32]
    held: NDArray[np.int32]  # (episodes, lanes) substeps that are left of the refractory period


@documented(BITS)
@dataclass(frozen=True, repr=False)
class RSNN(LeakyNeurons, BooleanRSNN):
    """Recurrent spiking neural network with boolean connections (paper, section 3 and appendix A).

    One environment step lasts ``step_ms`` and is integrated in ``round(step_ms / dt)`` Euler substeps. The first
    ``round(excitatory_ratio * n_neurons)`` neurons are excitatory, the others inhibitory. With the observation ``x``,
    boolean matrices ``K`` and signed spikes ``s`` (+1 or -1)::

        i_in  = R_in ([x, -x] K_in)                       constant over the substeps
        i_syn = exp(-dt/tau_syn) i_syn + R_h (s K_h)
        v     = u + exp(-dt/tau_m) (v - u),               u = i_syn + i_in
        spike where v > 1, reset to 0
        r     = s/dt + exp(-dt/tau_out) (r - s/dt)
        output = R_out (r K_out)

    with ``R_in = gain_in tau_m sqrt(2 / (density obs_size))``, ``R_h = gain_recurrent tau_m/tau_syn sqrt(2 / (density
    n_neurons))`` and ``R_out = gain_out sqrt(1 / (density n_neurons))``. Filter and readout are linear, so the filter
    is applied to the outputs' spike counts instead of to every neuron's rate.

    ``tau_m``, ``tau_syn``, ``threshold`` and ``t_ref`` are each a number, an array of one for each neuron, or a dict by
    cell type, such as ``tau_m={"E": 20.0, "I": 10.0}``; types that it leaves out have the default. A neuron's gains
    follow from its own time constants, so that equal spikes bring equal charges. With a refractory period, a neuron
    that has fired has ``v = 0`` for the next ``round(t_ref / dt)`` substeps.

    Parameters
    ----------
    <parameters>
    """

    table: ClassVar[Table] = BITS

    n_neurons: int = 256
    excitatory_ratio: float = 0.5
    step_ms: float = 16.6
    dt: float = 0.5
    tau_syn: Varied = 5.0
    tau_m: Varied = 10.0
    tau_out: float = 10.0
    gain_in: float = 0.1
    gain_recurrent: float = 1.0
    gain_out: float = 5.0
    density: float = 0.5
    threshold: Varied = 1.0
    t_ref: Varied = 0.0
    cell_types: Mapping[str, tuple[float, int]] | None = None
    input_neurons: Some = None
    readout_neurons: Some = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("input_neurons", "readout_neurons"):
            mask = getattr(self, name)
            if isinstance(mask, tuple) and len(mask) == self.n_neurons and all(isinstance(part, bool) for part in mask):
                object.__setattr__(self, name, tuple(np.flatnonzero(mask).tolist()))

    types = BooleanRSNN.types

    @property
    def n_excitatory(self) -> int:
        """Number of excitatory neurons; they come first."""
        if self.cell_types is None:
            return round(self.excitatory_ratio * self.n_neurons)
        return sum(self.type_sizes[name] for name, (_, sign) in self.cell_types.items() if sign > 0)

    @property
    def n_read(self) -> int:
        """Neurons that outputs may read."""
        return self.n_neurons if self.readout_neurons is None else int(chosen(self, "readout_neurons").sum())

    def absent(self, obs_size: int, n_outputs: int) -> dict[str, NDArray[np.bool_]]:
        """The connections (pre, post) that no network has, by the names of the matrices that lack some."""
        fed, read = ~chosen(self, "input_neurons"), ~chosen(self, "readout_neurons")
        masks = {"input": np.tile(fed, (2 * obs_size, 1)), "output": np.tile(read[:, None], (1, n_outputs))}
        return {name: mask for name, mask in masks.items() if mask.any()}

    @property
    def type_sizes(self) -> dict[str, int]:
        """Neurons of every cell type, in the order of the neurons."""
        if self.cell_types is None:
            return {"E": self.n_excitatory, "I": self.n_neurons - self.n_excitatory}
        return sizes({name: share for name, (share, _) in self.cell_types.items()}, self.n_neurons)

    def _kernel(self, words: int) -> Callable[..., None]:
        return spiking.rsnn_step(words) if self.are_alike else spiking.cells_step(words)

    def initial_state(self, keys: Key, n_outputs: int) -> RSNNState | CellsState:
        """States at the start of episodes: potentials uniform from 0 to the threshold, by their keys (episodes, 2)."""
        parts = self._at_start(keys, n_outputs, self.potentials(keys), np.float32)
        return RSNNState(*parts) if self.are_alike else CellsState(*parts, np.zeros(parts[0].shape, np.int32))


class RealRSNNState(NamedTuple):
    """State of a batch of networks with real weights between environment steps; updated in place."""

    v: NDArray[np.float32]  # (episodes, neurons) membrane potential
    i_syn: NDArray[np.float32]  # (episodes, neurons) synaptic current
    spikes: NDArray[np.bool_]  # (episodes, neurons) spikes of the last substep
    readout: NDArray[np.float32]  # (episodes, outputs) filtered spike counts, weighted, per ms


class RealCellsState(NamedTuple):
    """The same of neurons with constants of their own."""

    v: NDArray[np.float32]
    i_syn: NDArray[np.float32]
    spikes: NDArray[np.bool_]
    readout: NDArray[np.float32]
    held: NDArray[np.int32]  # (episodes, neurons) substeps that are left of the refractory period


@documented(WEIGHTS)
@dataclass(frozen=True, repr=False)
class RealRSNN(LeakyNeurons):
    """Recurrent spiking neural network with real weights, as Evolution Strategies and surrogate gradients train it.

    The equations are those of :class:`RSNN`, with neurons of either sign, the observation alone as input,
    and ``density`` in the place of the mean square of a weight: 1 for weights of unit variance.

    Parameters
    ----------
    <parameters>
    """

    table: ClassVar[Table] = WEIGHTS

    n_neurons: int = 256
    step_ms: float = 16.6
    dt: float = 0.5
    tau_syn: Varied = 5.0
    tau_m: Varied = 10.0
    tau_out: float = 10.0
    gain_in: float = 0.1
    gain_recurrent: float = 1.0
    gain_out: float = 5.0
    density: float = 1.0
    random_start: bool = True
    dense: bool = False
    threshold: Varied = 1.0
    t_ref: Varied = 0.0
    cell_types: Mapping[str, float] | None = None

    @property
    def type_sizes(self) -> dict[str, int]:
        """Neurons of every cell type, in the order of the neurons; empty where there are no types."""
        return {} if self.cell_types is None else sizes(self.cell_types, self.n_neurons)

    def shapes(self, obs_size: int, n_outputs: int) -> dict[str, Shape]:
        """The weight matrices, presynaptic by postsynaptic."""
        n = self.n_neurons
        return {"input": Shape(obs_size, n), "recurrent": Shape(n, n), "output": Shape(n, n_outputs)}

    def initial_scales(self, obs_size: int, n_outputs: int) -> dict[str, float]:
        """Standard deviations of the initial weights: 1, as in the paper."""
        return dict.fromkeys(self.shapes(obs_size, n_outputs), 1.0)

    def initial_state(self, keys: Key, n_outputs: int) -> RealRSNNState | RealCellsState:
        """States at the start of episodes: potentials uniform from 0 to the threshold by their keys, or zero."""
        shape = keys.shape[0], self.n_neurons
        v = self.potentials(keys) if self.random_start else np.zeros(shape, np.float32)
        readout = np.zeros((keys.shape[0], n_outputs), np.float32)
        parts = v, np.zeros(shape, np.float32), np.zeros(shape, np.bool_), readout
        return RealRSNNState(*parts) if self.are_alike else RealCellsState(*parts, np.zeros(shape, np.int32))

    def step(
        self,
        connections: Mapping[str, NDArray[np.float32]],
        state: RealRSNNState | RealCellsState,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        *,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        """Advance the episodes ``rows`` by one environment step, in place; see :class:`ecpolicy.networks.Network`."""
        parts, held = state[:4], state[4:]
        kernel = weights.rsnn_step if self.are_alike else weights.cells_step
        kernel(
            connections["input"],
            connections["recurrent"],
            connections["output"],
            owners,
            rows,
            *parts,
            *(held or parts[:1]),
            x,
            output,
            self.substeps,
            self.constants(x.shape[1]),
            self.dense,
        )
