"""A spiking network as a NIR graph (Pedersen et al., "Neuromorphic intermediate representation", 2024)."""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks import RSNN, RealRSNN
from ecpolicy.normalization import Standardizer
from ecpolicy.optional import require

if TYPE_CHECKING:
    import nir


Numbers: TypeAlias = Any  # a number, or an array of one for each neuron
DIALECTS = ("cuba-lif", "cuba-lif-flat", "lif")
DT = 1e-4  # s, of graphs with current-based neurons: what most importers integrate with, some with nothing else


def nir_graph(
    network: RSNN | RealRSNN,
    weights: Mapping[str, np.ndarray],
    standardizer: Standardizer,
    initial_potentials: NDArray[np.float32],
    *,
    dialect: str = "cuba-lif",
) -> "nir.NIRGraph":
    """Build the graph; see :meth:`ecpolicy.EvolvingConnectivityPolicy.to_nir`.

    NIR's time constants are those of differential equations; importers integrate them by forward Euler, with a step of
    dt/tau. Ours are decays ``exp(-dt/tau)`` in a step. Both agree where the graph has ``tau' = dt / (1 -
    exp(-dt/tau))``. Only ``tau'/dt`` matters, so a graph may have another dt than
    the network.

    Parameters
    ----------
    network : RSNN or RealRSNN
    weights : mapping of str to ndarray, shape (pre, post)
        Booleans for an RSNN, else numbers.
    standardizer : Standardizer
    initial_potentials : ndarray, shape (neurons,)
    dialect : {"cuba-lif", "cuba-lif-flat", "lif"}

    Returns
    -------
    nir.NIRGraph

    Raises
    ------
    ImportError
        Where nir is missing.
    TypeError
        Where a refractory period, or in some dialects a neuron's own tau_syn, has no place in a graph.
    ValueError
        Where ``dialect`` is none of these.
    """
    require("nir", "to_nir")
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {', '.join(map(repr, DIALECTS))}; got {dialect!r}.")
    _refuse(network, dialect)
    matrices = {name: np.asarray(weights[name], np.float32) for name in ("recurrent", "output")}
    if isinstance(network, RSNN):  # its input matrix takes every number with both signs: one where they cancel
        plus, minus = np.split(np.asarray(weights["input"], np.int8), 2)
        matrices["input"] = (plus - minus).astype(np.float32)
        sign = np.where(np.arange(network.n_neurons) < network.n_excitatory, 1, -1).astype(np.float32)[:, None]
        matrices |= {name: sign * matrices[name] for name in ("recurrent", "output")}
    else:
        matrices["input"] = np.asarray(weights["input"], np.float32)
    mean, inverse_std, clip = standardizer
    metadata = {
        "dt": network.dt * 1e-3,  # s
        "substeps": network.substeps,  # for which an observation is held
        "observation_mean": np.asarray(mean, np.float64),
        "observation_inverse_std": np.asarray(inverse_std, np.float64),
        "observation_clip": float(clip),
        "initial_potentials": np.asarray(initial_potentials, np.float32),
    }
    if dialect == "lif":
        return _with_lif(network, matrices, metadata)
    return _with_cuba_lif(network, matrices, metadata, nested=dialect == "cuba-lif")


def _with_lif(
    network: RSNN | RealRSNN, matrices: Mapping[str, NDArray[np.float32]], metadata: dict[str, object]
) -> "nir.NIRGraph":
    """Synapse and readout as leaky integrators, gains apart: the matrices hold signs alone, or the policy's weights."""
    import nir

    observed, (n, outputs) = len(matrices["input"]), matrices["output"].shape
    decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt, threshold = _constants(network, observed)

    def integrator(decay: Numbers, gain: Numbers, size: int) -> nir.LI:
        return nir.LI(tau=_tau(network, decay, size), r=_full(size, gain), v_leak=np.zeros(size))

    nodes = {
        "observation": nir.Input(input_type={"input": np.array([observed])}),
        "input": nir.Linear(weight=np.ascontiguousarray(matrices["input"].T)),
        "input_gain": nir.Scale(scale=_full(n, r_in)),
        "neurons": _lif(network, decay_m, threshold, n),
        "recurrent": nir.Linear(weight=np.ascontiguousarray(matrices["recurrent"].T)),
        "synapse": integrator(decay_syn, r_h / (1 - decay_syn), n),
        "output": nir.Linear(weight=np.ascontiguousarray(matrices["output"].T)),
        "readout": integrator(decay_out, per_dt, outputs),
        "output_gain": nir.Scale(scale=np.full(outputs, r_out)),
        "action": nir.Output(output_type={"output": np.array([outputs])}),
    }
    path = ["observation", "input", "input_gain", "neurons", "output", "readout", "output_gain", "action"]
    loop = ["neurons", "recurrent", "synapse", "neurons"]
    return nir.NIRGraph(nodes, [*pairwise(path), *pairwise(loop)], metadata)


def _with_cuba_lif(
    network: RSNN | RealRSNN,
    matrices: Mapping[str, NDArray[np.float32]],
    metadata: dict[str, object],
    *,
    nested: bool,
) -> "nir.NIRGraph":
    """Current-based neurons, gains in the weights: for importers without leaky integrators.

    All that a current-based neuron takes in passes its synapse. Where the synapse's decay is alpha, an input of
    ``x[t] - alpha x[t-1]`` comes out as x[t]: that is what the caller must feed, with ``x[-1] = 0``. The neuron's
    current is our ``(1 - decay_m) (i_syn + i_in)``. The graph ends in weighted spikes; their filter is the caller's.
    Neurons and recurrent weights are a graph of their own where ``nested``: importers take that for one layer.
    """
    import nir

    observed, (n, outputs) = len(matrices["input"]), matrices["output"].shape
    decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt, threshold = _constants(network, observed)
    tau_syn, tau_mem = _full(n, DT / (1 - decay_syn)), _full(n, DT / (1 - decay_m))
    neurons = nir.CubaLIF(
        tau_syn=tau_syn, tau_mem=tau_mem, r=tau_mem / DT, v_leak=np.zeros(n), v_threshold=_full(n, threshold),
        v_reset=np.zeros(n), w_in=tau_syn / DT,
    )  # fmt: skip
    recurrent = nir.Linear(weight=_float32(_each_row((1 - decay_m) * r_h) * matrices["recurrent"].T))
    nodes = {
        "observation": nir.Input(input_type={"input": np.array([observed])}),
        "input": nir.Linear(weight=_float32(_each_row((1 - decay_m) * r_in) * matrices["input"].T)),
        "output": nir.Linear(weight=_float32(r_out * per_dt * matrices["output"].T)),
        "action": nir.Output(output_type={"output": np.array([outputs])}),
    }
    loop = [("neurons", "recurrent"), ("recurrent", "neurons")]
    metadata = {**metadata, "dt": DT, "input_alpha": float(np.ravel(decay_syn)[0]), "readout_decay": float(decay_out)}
    if nested:
        inside = {
            "input": nir.Input(input_type={"input": np.array([n])}),
            "neurons": neurons,
            "recurrent": recurrent,
            "output": nir.Output(output_type={"output": np.array([n])}),
        }
        nodes["layer"] = nir.NIRGraph(inside, [("input", "neurons"), *loop, ("neurons", "output")])
        return nir.NIRGraph(nodes, list(pairwise(["observation", "input", "layer", "output", "action"])), metadata)
    nodes |= {"neurons": neurons, "recurrent": recurrent}
    path = pairwise(["observation", "input", "neurons", "output", "action"])
    return nir.NIRGraph(nodes, [*path, *loop], metadata)


def _refuse(network: RSNN | RealRSNN, dialect: str) -> None:
    """Raise where a graph cannot hold what the neurons have."""
    if network.each("t_ref").any():
        raise TypeError("A refractory period cannot be exported in this form: NIR's neurons have none.")
    if dialect != "lif" and np.ptp(network.each("tau_syn")):
        raise TypeError(
            f"Neurons with a tau_syn of their own cannot be exported as {dialect!r}, whose caller filters the input by "
            'one tau_syn; wanted dialect="lif".'
        )


def _constants(network: RSNN | RealRSNN, observed: int) -> tuple[Numbers, ...]:
    """decay_syn, decay_m, decay_out, R_in, R_h, R_out, 1/dt and the threshold, in double precision."""
    constants = network.constants(observed)
    return tuple(np.float64(part) for part in (*constants[:7], 1.0 if network.are_alike else constants[7]))


def _lif(network: RSNN | RealRSNN, decay: Numbers, threshold: Numbers, n: int) -> "nir.LIF":
    import nir

    return nir.LIF(
        tau=_tau(network, decay, n), r=np.ones(n), v_leak=np.zeros(n), v_threshold=_full(n, threshold),
        v_reset=np.zeros(n),
    )  # fmt: skip


def _tau(network: RSNN | RealRSNN, decay: Numbers, size: int) -> NDArray[np.float64]:
    """Time constants, in s, with which a forward Euler step of dt decays as ours does."""
    return _full(size, network.dt * 1e-3 / (1 - decay))


def _full(size: int, numbers: Numbers) -> NDArray[np.float64]:
    return np.array(np.broadcast_to(numbers, size), np.float64)


def _each_row(numbers: Numbers) -> Numbers:
    """Numbers of the postsynaptic neurons, as rows of a matrix (post, pre) take them."""
    return numbers[:, None] if np.ndim(numbers) else numbers


def _float32(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(weights, dtype=np.float32)
