"""A policy of integers as synthesisable Verilog-2005: its module, its connections for block RAM, and a test bench."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecpolicy.export.verilog_arithmetic import ACTION, CURRENT, READOUT
from ecpolicy.export.verilog_bench import Recorded, bench
from ecpolicy.export.verilog_design import module
from ecpolicy.networks import IntegerRSNN
from ecpolicy.untyped import Space


def verilog(
    network: IntegerRSNN,
    connectivity: Mapping[str, NDArray[np.bool_]],
    initial_potentials: NDArray[np.int16],
    action_space: Space,
    recorded: Recorded,
    *,
    lanes: int,
) -> dict[str, str]:
    """The files by name; see :meth:`ecpolicy.EvolvingConnectivityPolicy.to_verilog`."""
    k_in, k_h, k_out = (connectivity[name] for name in ("input", "recurrent", "output"))
    observed, (n, outputs) = len(k_in) // 2, k_out.shape
    depth = -(-n // lanes)
    padded = depth * lanes
    words = k_h.T.reshape(n, n)  # of a neuron: from whom it has connections
    of_inputs = np.stack([k_in[:observed], k_in[observed:]], axis=-1).swapaxes(0, 1)  # (neurons, observed, 2)
    recurrent = bool(k_h.any())
    return {
        "policy.v": module(network, observed, outputs, action_space, lanes, recurrent=recurrent),
        "policy_tb.v": bench(len(recorded.x), observed, outputs, recorded.actions.shape[1], network.substeps, padded),
        **({"k_h.hex": _hex(_grouped(_wider(words, padded), lanes))} if recurrent else {}),
        "k_in.hex": _hex(_grouped(of_inputs.reshape(n, -1), lanes, observed)),
        "k_out.hex": _hex(_grouped(k_out, lanes)),
        "v0.hex": _hex(_grouped(_bits(initial_potentials, CURRENT + 1), lanes)),
        "x.hex": _hex(_bits(recorded.x.reshape(-1), CURRENT)),
        "first.hex": _hex(recorded.first[:, None]),
        "spikes.hex": _hex(_wider(recorded.spikes.reshape(-1, n), padded)),
        "actions.hex": _hex(_bits(recorded.actions, ACTION).reshape(len(recorded.x), -1)),
        "readouts.hex": _hex(_bits(recorded.readouts, READOUT).reshape(len(recorded.x), -1)),
    }


def _wider(bits: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    return np.pad(bits, ((0, 0), (0, width - bits.shape[1])))


def _bits(numbers: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Two's complement (..., width), least significant bit first."""
    found: NDArray[np.bool_] = (np.asarray(numbers, np.int64)[..., None] >> np.arange(width) & 1).astype(np.bool_)
    return found


def _grouped(bits: NDArray[np.bool_], lanes: int, parts: int = 1) -> NDArray[np.bool_]:
    """Rows of bits (neurons, parts * width) as (groups * parts, lanes * width): the lanes' bits, lane by lane."""
    n, width = len(bits), bits.shape[1] // parts
    depth = -(-n // lanes)
    whole = np.pad(bits, ((0, depth * lanes - n), (0, 0))).reshape(depth, lanes, parts, width)
    return whole.swapaxes(1, 2).reshape(depth * parts, lanes * width)


def _hex(rows: NDArray[np.bool_]) -> str:
    """A line for each row of bits, least significant bit first."""
    packed = np.packbits(rows, axis=1, bitorder="little")[:, ::-1]
    digits = -(-rows.shape[1] // 4)
    return "".join(f"{row.tobytes().hex()[-digits:]}\n" for row in packed)
