"""The spiking network in integers: sums, shifts and comparisons, for machines without floating point."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log1p, log2
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ecpolicy.constraints import Integer, Parameter, Table, documented, table
from ecpolicy.networks.boolean import BooleanRSNN
from ecpolicy.networks.cells import MOST_SUBSTEPS, constants_of
from ecpolicy.networks.layout import LARGEST_CURRENT, READOUT_SHIFT, WEIGHT_SHIFT, Words
from ecpolicy.networks.numba import spiking as kernels
from ecpolicy.networks.spiking import BITS
from ecpolicy.random import Key, uniform

SHIFT = Integer(1, 8)
THRESHOLDS = 8, LARGEST_CURRENT
INTEGERS = table(
    *(BITS[name] for name in ("n_neurons", "excitatory_ratio", "step_ms")),
    Parameter("substeps", 25, Integer(1, MOST_SUBSTEPS), "Euler substeps in an environment step."),
    Parameter("shift_syn", 3, SHIFT, "A synaptic current loses its 2**-shift_syn in a substep."),
    Parameter("shift_m", 4, SHIFT, "A membrane potential covers 2**-shift_m of its way in a substep."),
    Parameter("shift_out", 4, SHIFT, "The readout loses its 2**-shift_out in a substep."),
    *(BITS[name] for name in ("gain_in", "gain_recurrent", "gain_out", "density")),
)


class IntegerRSNNState(NamedTuple):
    """State of a batch of networks between environment steps; all arrays are updated in place."""

    v: NDArray[np.int16]  # (episodes, lanes) membrane potential
    i_syn: NDArray[np.int16]  # (episodes, lanes) synaptic current
    spikes: Words  # (episodes, words) spikes of the last substep
    readout: NDArray[np.int32]  # (episodes, outputs) filtered signed spike counts


class IntegerConstants(NamedTuple):
    """What the equations of :class:`IntegerRSNN` take."""

    shift_syn: int
    shift_m: int
    shift_out: int
    threshold: int
    scale_in: float  # a power of two
    scale_out: float  # a power of two


@documented(INTEGERS)
@dataclass(frozen=True, repr=False)
class IntegerRSNN(BooleanRSNN):
    """Recurrent spiking neural network of integers: :class:`RSNN` for chips and microcontrollers without floats.

    Connections, signs and gains are those of :class:`RSNN`; decays are shifts, which round down. A substep, with
    ``clamp(z, m)`` the nearest number to z in [-m, m - 1]::

        x_q   = clamp(rint(scale_in x), 2**13)            the observation, a whole number; constant over the substeps
        i_in  = clamp([x_q, -x_q] K_in, 2**13)            likewise
        c     = clamp(s K_h, 2**7)                        excitatory less inhibitory spikes
        i_syn = clamp(i_syn - (i_syn >> shift_syn) + (c << 7), 2**13)
        v     = v + ((i_syn + i_in - v) >> shift_m)
        spike where v > threshold, reset to 0
        r     = clamp(r - (r >> shift_out) + (s K_out << 8), 2**23)
        output = scale_out r

    With ``dt = step_ms / substeps``, a shift of k is the time constant ``-dt / log(1 - 2**-k)``: 4.97, 10.3 and 10.3 ms
    by default, the paper's 5, 10 and 10. The threshold is the whole number nearest to ``2**7 / R_h``, ``scale_in`` the
    power of two nearest to ``R_in`` thresholds and ``scale_out`` the one nearest to ``R_out`` of a spike per ms. So
    ``gain_in`` and ``gain_out`` act in powers of two.

    Nothing overflows, whatever the connections. ``i_syn`` and ``i_in`` are in [-2**13, 2**13) by their clamps. So
    ``u = i_syn + i_in`` is in [-2**14, 2**14 - 2]. With v in [-2**14, 2**14), which holds at the start, ``u - v`` is
    within 2**15 - 1; ``v + ((u - v) >> k)`` is between v and u, so v stays in its range. Before its clamp, ``i_syn`` is
    within 2**13 + 2**14. All of these fit into 16 bits. Sums of observations are within ``2**14 obs_size``, the readout
    before its clamp within ``2**23 + 2**8 n_neurons``: 32 bits for up to 100,000 numbers and 4,000,000 neurons. After
    it, a readout is exact in single precision.

    Parameters
    ----------
    <parameters>
    """

    table: ClassVar[Table] = INTEGERS

    n_neurons: int = 256
    excitatory_ratio: float = 0.5
    step_ms: float = 16.6
    substeps: int = 25
    shift_syn: int = 3
    shift_m: int = 4
    shift_out: int = 4
    gain_in: float = 0.1
    gain_recurrent: float = 1.0
    gain_out: float = 5.0
    density: float = 0.5

    @property
    def dt(self) -> float:
        """Milliseconds of a substep."""
        return self.step_ms / self.substeps

    @property
    def tau_syn(self) -> float:
        """Time constant of the synaptic currents, in ms."""
        return -self.dt / log1p(-(2.0**-self.shift_syn))

    @property
    def tau_m(self) -> float:
        """Time constant of the membrane potentials, in ms."""
        return -self.dt / log1p(-(2.0**-self.shift_m))

    @property
    def tau_out(self) -> float:
        """Time constant of the readout, in ms."""
        return -self.dt / log1p(-(2.0**-self.shift_out))

    def one_substep(self) -> Self:
        """The same network, of which a step is one substep."""
        return replace(self, step_ms=self.dt, substeps=1)

    def checked(self) -> Self:
        """The network, its settings plain Python numbers; raises where one is wrong."""
        network = super().checked()
        low, high = THRESHOLDS
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            r_in, r_h, r_out = constants_of(network, 1)[3:6].astype(np.float64)
            threshold = 2.0**WEIGHT_SHIFT / r_h
        if not (low <= threshold <= high and np.isfinite(r_in) and 0 < r_out < np.inf):
            raise ValueError(
                f"Gains and density must give a threshold between {low} and {high}, in which a spike is "
                f"{2**WEIGHT_SHIFT}, and a readout; got {threshold:.4g} from {network}."
            )
        return network

    def constants(self, obs_size: int) -> IntegerConstants:
        """Shifts, threshold and scales: what the kernels take."""
        return _integer_constants(self, obs_size)

    def _kernel(self, words: int) -> Callable[..., None]:
        return kernels.integer_rsnn_step(words)

    def initial_state(self, keys: Key, n_outputs: int) -> IntegerRSNNState:
        """States at the start of episodes: potentials uniform in [0, threshold] from their keys (episodes, 2)."""
        potentials = uniform(keys, self.n_neurons) * np.float32(self.constants(1).threshold)
        return IntegerRSNNState(*self._at_start(keys, n_outputs, potentials.astype(np.int16), np.int32))


@lru_cache(maxsize=64)
def _integer_constants(network: IntegerRSNN, obs_size: int) -> IntegerConstants:
    r_in, r_h, r_out, per_dt = constants_of(network, obs_size)[3:].astype(np.float64)
    threshold = round(2**WEIGHT_SHIFT / r_h)
    of_a_spike = 2.0 ** (READOUT_SHIFT + network.shift_out)  # the readout where an output gets one in each substep
    scale_out = _power_of_two(r_out * per_dt / of_a_spike)
    shifts = network.shift_syn, network.shift_m, network.shift_out
    return IntegerConstants(*shifts, threshold, _power_of_two(threshold * r_in), scale_out)


def _power_of_two(number: float) -> float:
    """The nearest one, by ratio; 0 for 0."""
    return 2.0 ** round(log2(number)) if number > 0 else 0.0
