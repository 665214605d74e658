"""The recurrent spiking networks of the paper: leaky integrate-and-fire neurons with 1-bit or real connections."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ecpolicy.constraints import POSITIVE, Flag, Integer, Number, Parameter, Table, documented, table
from ecpolicy.networks.boolean import BooleanRSNN
from ecpolicy.networks.layout import Words
from ecpolicy.networks.network import Settings, Shape
from ecpolicy.networks.numba import spiking, weights
from ecpolicy.random import Key, uniform

if TYPE_CHECKING:
    from ecpolicy.networks.integer import IntegerRSNN

MOST_SUBSTEPS = 100_000
APPENDIX = "paper, appendix A"

SIZE = Parameter("n_neurons", 256, Integer(1), "Neurons.", APPENDIX)
LEAKY = table(
    Parameter("step_ms", 16.6, POSITIVE, "Milliseconds of network time in an environment step.", APPENDIX),
    Parameter("dt", 0.5, POSITIVE, "Milliseconds of an Euler substep.", APPENDIX),
    Parameter("tau_syn", 5.0, POSITIVE, "Time constant of the synaptic currents, in ms.", APPENDIX),
    Parameter("tau_m", 10.0, POSITIVE, "Time constant of the membrane potentials, in ms.", APPENDIX),
    Parameter("tau_out", 10.0, POSITIVE, "Time constant of the readout, in ms.", APPENDIX),
    Parameter("gain_in", 0.1, Number(0), "Gain of the observation, K_in of the paper.", APPENDIX),
    Parameter("gain_recurrent", 1.0, Number(0), "Gain of the recurrent connections, K_h of the paper.", APPENDIX),
    Parameter("gain_out", 5.0, Number(0), "Gain of the readout, K_out of the paper.", APPENDIX),
)
SHARE = Number(0, 1, open_low=True)
BITS = table(
    SIZE,
    Parameter(
        "excitatory_ratio", 0.5, Number(0, 1), "Share of excitatory neurons; the others are inhibitory.", APPENDIX
    ),
    *LEAKY.values(),
    Parameter("density", 0.5, SHARE, "Share of present connections for which the gains are normalised.", APPENDIX),
)
WEIGHTS = table(
    SIZE,
    *LEAKY.values(),
    Parameter("density", 1.0, SHARE, "Mean square of a weight for which the gains are normalised."),
    Parameter("random_start", True, Flag(),
        "Start episodes from random potentials, as RSNN does; otherwise from zero."),
    Parameter("dense", False, Flag(),
        "Multiply by every spike instead of adding the rows of the neurons that fire: for measuring what that costs."),
)  # fmt: skip


class RSNNState(NamedTuple):
    """State of a batch of networks between environment steps; all arrays are updated in place."""

    v: NDArray[np.float32]  # (episodes, lanes) membrane potential, threshold 1
    i_syn: NDArray[np.float32]  # (episodes, lanes) synaptic current
    spikes: Words  # (episodes, words) spikes of the last substep
    readout: NDArray[np.float32]  # (episodes, outputs) filtered signed spike counts, per ms


@documented(BITS)
@dataclass(frozen=True, repr=False)
class RSNN(BooleanRSNN):
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

    Parameters
    ----------
    <parameters>
    """

    table: ClassVar[Table] = BITS

    n_neurons: int = 256
    excitatory_ratio: float = 0.5
    step_ms: float = 16.6
    dt: float = 0.5
    tau_syn: float = 5.0
    tau_m: float = 10.0
    tau_out: float = 10.0
    gain_in: float = 0.1
    gain_recurrent: float = 1.0
    gain_out: float = 5.0
    density: float = 0.5

    _kernel = staticmethod(spiking.rsnn_step)

    @property
    def substeps(self) -> int:
        """Euler steps per environment step: 33 for 16.6 ms and 0.5 ms."""
        return round(self.step_ms / self.dt)

    def one_substep(self) -> Self:
        """The same network, of which a step is one substep."""
        return replace(self, step_ms=self.dt)

    def checked(self) -> Self:
        """The network, its settings plain Python numbers; raises where one is wrong."""
        network = super().checked()
        _check_constants(network)
        return network

    def constants(self, obs_size: int) -> NDArray[np.float32]:
        """decay_syn, decay_m, decay_out, R_in, R_h, R_out, 1/dt: what the kernels take."""
        return constants_of(self, obs_size)

    def initial_state(self, keys: Key, n_outputs: int) -> RSNNState:
        """States at the start of episodes: potentials uniform in [0, 1) from each episode's key (episodes, 2)."""
        return RSNNState(*self._at_start(keys, n_outputs, uniform(keys, self.n_neurons), np.float32))


class RealRSNNState(NamedTuple):
    """State of a batch of networks with real weights between environment steps; updated in place."""

    v: NDArray[np.float32]  # (episodes, neurons) membrane potential, threshold 1
    i_syn: NDArray[np.float32]  # (episodes, neurons) synaptic current
    spikes: NDArray[np.bool_]  # (episodes, neurons) spikes of the last substep
    readout: NDArray[np.float32]  # (episodes, outputs) filtered spike counts, weighted, per ms


@documented(WEIGHTS)
@dataclass(frozen=True, repr=False)
class RealRSNN(Settings):
    """Recurrent spiking neural network with real weights, as Evolution Strategies and surrogate gradients train it.

    The equations are those of :class:`RSNN`, with one group of neurons of either sign, the observation alone as input,
    and ``density`` in the place of the mean square of a weight: 1 for weights of unit variance.

    Parameters
    ----------
    <parameters>
    """

    table: ClassVar[Table] = WEIGHTS

    n_neurons: int = 256
    step_ms: float = 16.6
    dt: float = 0.5
    tau_syn: float = 5.0
    tau_m: float = 10.0
    tau_out: float = 10.0
    gain_in: float = 0.1
    gain_recurrent: float = 1.0
    gain_out: float = 5.0
    density: float = 1.0
    random_start: bool = True
    dense: bool = False

    @property
    def substeps(self) -> int:
        """Euler steps per environment step."""
        return round(self.step_ms / self.dt)

    def one_substep(self) -> Self:
        """The same network, of which a step is one substep."""
        return replace(self, step_ms=self.dt)

    def shapes(self, obs_size: int, n_outputs: int) -> dict[str, Shape]:
        """The weight matrices, presynaptic by postsynaptic."""
        n = self.n_neurons
        return {"input": Shape(obs_size, n), "recurrent": Shape(n, n), "output": Shape(n, n_outputs)}

    def initial_scales(self, obs_size: int, n_outputs: int) -> dict[str, float]:
        """Standard deviations of the initial weights: 1, as in the paper."""
        return dict.fromkeys(self.shapes(obs_size, n_outputs), 1.0)

    def checked(self) -> Self:
        """The network, its settings plain Python numbers; raises where one is wrong."""
        network = super().checked()
        _check_constants(network)
        return network

    def constants(self, obs_size: int) -> NDArray[np.float32]:
        """decay_syn, decay_m, decay_out, R_in, R_h, R_out, 1/dt: what the kernels take."""
        return constants_of(self, obs_size)

    def initial_state(self, keys: Key, n_outputs: int) -> RealRSNNState:
        """States at the start of episodes: potentials uniform in [0, 1) from each key (episodes, 2), or zero."""
        shape = keys.shape[0], self.n_neurons
        v = uniform(keys, self.n_neurons) if self.random_start else np.zeros(shape, np.float32)
        readout = np.zeros((keys.shape[0], n_outputs), np.float32)
        return RealRSNNState(v, np.zeros(shape, np.float32), np.zeros(shape, np.bool_), readout)

    def step(
        self,
        connections: Mapping[str, NDArray[np.float32]],
        state: RealRSNNState,
        x: NDArray[np.float32],
        output: NDArray[np.float32],
        *,
        owners: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        """Advance the episodes ``rows`` by one environment step, in place; see :class:`ecpolicy.networks.Network`."""
        weights.rsnn_step(
            connections["input"],
            connections["recurrent"],
            connections["output"],
            owners,
            rows,
            *state,
            x,
            output,
            self.substeps,
            constants_of(self, x.shape[1]),
            self.dense,
        )


@lru_cache(maxsize=64)
def constants_of(network: "RSNN | RealRSNN | IntegerRSNN", obs_size: int) -> NDArray[np.float32]:
    """decay_syn, decay_m, decay_out, R_in, R_h, R_out, 1/dt."""
    density = network.density
    return np.array(
        [
            np.exp(-network.dt / network.tau_syn),
            np.exp(-network.dt / network.tau_m),
            np.exp(-network.dt / network.tau_out),
            network.gain_in * network.tau_m * np.sqrt(2 / (density * obs_size)),
            network.gain_recurrent * network.tau_m / network.tau_syn * np.sqrt(2 / (density * network.n_neurons)),
            network.gain_out * np.sqrt(1 / (density * network.n_neurons)),
            1 / network.dt,
        ],
        dtype=np.float32,
    )


def _check_constants(network: RSNN | RealRSNN) -> None:
    """Raise where settings that are right one by one do not go together."""
    if not 1 <= network.substeps <= MOST_SUBSTEPS:
        raise ValueError(
            f"dt must give 1 to {MOST_SUBSTEPS:,} substeps per step_ms of {network.step_ms}, so be at most step_ms; "
            f"got {network.dt}."
        )
    with np.errstate(over="ignore"):
        if not np.isfinite(network.constants(1)).all():
            raise ValueError(f"Times, gains and density must give constants of single precision; got {network}.")
