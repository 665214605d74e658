"""A spiking policy as an ONNX model: from an observation and a state to an action and the next state."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks import RSNN, IntegerRSNN, RealRSNN
from ecpolicy.networks.layout import FLUSH, LARGEST_COUNT, LARGEST_CURRENT, LARGEST_READOUT, READOUT_SHIFT, WEIGHT_SHIFT
from ecpolicy.normalization import Standardizer
from ecpolicy.optional import require
from ecpolicy.spaces import box_bounds
from ecpolicy.untyped import Space

STATE = ("v", "i_syn", "spikes", "readout")
HELD = "held"  # part of the state where neurons have constants of their own


class Graph:
    """Nodes of a graph under construction; a value is the name of what a node gives."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(self, kind: str, *inputs: str | NDArray[Any] | np.generic, **attributes: Any) -> str:
        """The value of an operator on values or constants."""
        from onnx import helper

        name = f"{self.prefix}{len(self.nodes)}"
        names = [part if isinstance(part, str) else self.constant(part) for part in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], **attributes))
        return name

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """The value of a constant."""
        from onnx import numpy_helper

        name = f"{self.prefix}c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def named(self, value: str, name: str) -> None:
        """Give a value another name."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name]))


def onnx_model(
    network: RSNN | IntegerRSNN | RealRSNN,
    weights: Mapping[str, NDArray[Any]],
    standardizer: Standardizer,
    initial_potentials: NDArray[Any],
    action_space: Space,
) -> Any:
    """Build the model; see :meth:`ecpolicy.EvolvingConnectivityPolicy.to_onnx`."""
    require("onnx", "to_onnx")
    from onnx import TensorProto, checker, helper, numpy_helper

    n_inputs, (n, outputs) = len(weights["input"]), weights["output"].shape
    graph = Graph("n")
    mean, inverse_std, clip = standardizer
    x = graph.op("Mul", graph.op("Sub", "observation", mean), inverse_std)
    x = graph.op("Cast", graph.op("Clip", x, np.float64(-clip), np.float64(clip)), to=TensorProto.FLOAT)
    # States of one episode, such as those at the start, stand for a whole batch.
    zero = graph.op("Mul", graph.op("Slice", x, _whole([0]), _whole([1]), _whole([1])), np.float32(0))
    names = STATE if isinstance(network, IntegerRSNN) or network.are_alike else (*STATE, HELD)
    state = tuple(graph.op("Add", name, zero) for name in names)
    if isinstance(network, RealRSNN):
        observed, sign = n_inputs, np.ones(n)
    else:
        observed, sign = n_inputs // 2, np.where(np.arange(n) < network.n_excitatory, 1, -1)
    signed = {name: (sign[:, None] * weights[name]).astype(np.float32) for name in ("recurrent", "output")}
    if isinstance(network, IntegerRSNN):
        output = _integer_step(graph, network, x, state, weights["input"], signed)
    else:
        output = _step(graph, network, x, state, weights["input"], signed)
    graph.named(_decided(graph, output, action_space), "action")

    start = dict.fromkeys(names, np.zeros((1, n), np.float32))
    start |= {"v": initial_potentials[None].astype(np.float32), "readout": np.zeros((1, outputs), np.float32)}
    inputs = [helper.make_tensor_value_info("observation", TensorProto.DOUBLE, ["batch", observed])]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["episodes", part.shape[1]])
        for name, part in start.items()
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(action_space.dtype))
    results = [
        helper.make_tensor_value_info(
            "action", kind, ["batch"] if isinstance(action_space, gym.spaces.Discrete) else ["batch", None]
        )
    ]
    results += [
        helper.make_tensor_value_info(f"next_{name}", TensorProto.FLOAT, ["batch", part.shape[1]])
        for name, part in start.items()
    ]
    defaults = [numpy_helper.from_array(part, name) for name, part in start.items()]
    made = helper.make_graph(graph.nodes, "policy", inputs, results, [*graph.constants, *defaults])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="ecpolicy")
    checker.check_model(model)
    return model


def _input_current(graph: Graph, x: str, k_in: NDArray[Any]) -> str:
    """[x, -x] K_in, added up in the kernel's order: every number, then its negative."""
    total = graph.op(
        "Mul", graph.op("Slice", x, _whole([0]), _whole([1]), _whole([1])), np.zeros(k_in.shape[1], np.float32)
    )
    observed = len(k_in) // 2
    for d in range(observed):
        value = graph.op("Slice", x, _whole([d]), _whole([d + 1]), _whole([1]))  # (batch, 1)
        total = graph.op("Add", total, graph.op("Mul", value, k_in[d].astype(np.float32)))
        total = graph.op("Sub", total, graph.op("Mul", value, k_in[observed + d].astype(np.float32)))
    return total


def _substeps(graph: Graph, body: Graph, after: tuple[str, ...], substeps: int, start: tuple[str, ...]) -> list[str]:
    """The state after a loop over substeps whose body computes the state ``after`` from the values named STATE."""
    from onnx import TensorProto, helper

    names = (*STATE, HELD)[: len(start)]
    inputs = [
        helper.make_tensor_value_info("substep", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
    ]
    inputs += [helper.make_tensor_value_info(f"{name}_in", TensorProto.FLOAT, [None, None]) for name in names]
    outputs = [helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in after]
    body.named("go", "go_on")
    inner = helper.make_graph(body.nodes, "substep", inputs, outputs, body.constants)
    following = [f"next_{name}" for name in names]
    graph.nodes.append(
        helper.make_node("Loop", [graph.constant(np.int64(substeps)), "", *start], following, body=inner)
    )
    return following


def _step(
    graph: Graph,
    network: RSNN | RealRSNN,
    x: str,
    state: tuple[str, ...],
    k_in: NDArray[Any],
    signed: Mapping[str, NDArray[np.float32]],
) -> str:
    """The operations of ``reference.rsnn_step``, in its order and precision."""
    constants = network.constants(len(k_in) // (2 if isinstance(network, RSNN) else 1))
    decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt = constants[:7]
    threshold = np.float32(1) if network.are_alike else constants.threshold
    if isinstance(network, RSNN):
        i_in = _input_current(graph, x, k_in)
    else:
        i_in = graph.op("MatMul", x, k_in.astype(np.float32))
    i_in = graph.op("Mul", i_in, r_in)
    start: tuple[str, ...] = tuple(
        graph.op("Where", graph.op("Less", graph.op("Abs", part), FLUSH), np.float32(0), part) for part in state[:4]
    )
    body = Graph("b")
    received = body.op("MatMul", "spikes_in", signed["recurrent"])
    i_syn = body.op("Add", body.op("Mul", "i_syn_in", decay_syn), body.op("Mul", received, r_h))
    u = body.op("Add", i_syn, i_in)
    v = body.op("Add", u, body.op("Mul", body.op("Sub", "v_in", u), decay_m))
    if not network.are_alike:
        v = body.op("Where", body.op("Greater", f"{HELD}_in", np.float32(0)), np.float32(0), v)
    fired = body.op("Greater", v, threshold)
    spikes = body.op("Cast", fired, to=1)
    total = body.op("Mul", body.op("MatMul", spikes, signed["output"]), per_dt)
    readout = body.op("Add", total, body.op("Mul", body.op("Sub", "readout_in", total), decay_out))
    following: tuple[str, ...] = (body.op("Where", fired, np.float32(0), v), i_syn, spikes, readout)
    if not network.are_alike:
        left = body.op("Max", body.op("Sub", f"{HELD}_in", np.float32(1)), np.float32(0))
        start = (*start, state[4])
        following = (*following, body.op("Where", fired, constants.refractory.astype(np.float32), left))
    after = _substeps(graph, body, following, network.substeps, start)
    return graph.op("Mul", after[3], r_out)


def _integer_step(
    graph: Graph,
    network: IntegerRSNN,
    x: str,
    state: tuple[str, ...],
    k_in: NDArray[Any],
    signed: Mapping[str, NDArray[np.float32]],
) -> str:
    """The equations of :class:`IntegerRSNN` in whole floats below 2**24, which are exact."""
    shift_syn, shift_m, shift_out, threshold, scale_in, scale_out = network.constants(len(k_in) // 2)

    def clamped(where: Graph, value: str, limit: int) -> str:
        return where.op("Clip", value, np.float32(-limit), np.float32(limit - 1))

    def shifted(where: Graph, value: str, shift: int) -> str:
        return where.op("Floor", where.op("Mul", value, np.float32(2.0**-shift)))

    x_q = clamped(graph, graph.op("Round", graph.op("Mul", x, np.float32(scale_in))), LARGEST_CURRENT)
    plus, minus = np.split(k_in.astype(np.float32), 2)
    i_in = clamped(graph, graph.op("MatMul", x_q, plus - minus), LARGEST_CURRENT)
    body = Graph("b")
    count = clamped(body, body.op("MatMul", "spikes_in", signed["recurrent"]), LARGEST_COUNT)
    kept = body.op("Sub", "i_syn_in", shifted(body, "i_syn_in", shift_syn))
    i_syn = clamped(body, body.op("Add", kept, body.op("Mul", count, np.float32(1 << WEIGHT_SHIFT))), LARGEST_CURRENT)
    v = body.op("Add", "v_in", shifted(body, body.op("Sub", body.op("Add", i_syn, i_in), "v_in"), shift_m))
    fired = body.op("Greater", v, np.float32(threshold))
    spikes = body.op("Cast", fired, to=1)
    total = body.op("Mul", body.op("MatMul", spikes, signed["output"]), np.float32(1 << READOUT_SHIFT))
    kept = body.op("Sub", "readout_in", shifted(body, "readout_in", shift_out))
    readout = clamped(body, body.op("Add", kept, total), LARGEST_READOUT)
    v = body.op("Where", fired, np.float32(0), v)
    after = _substeps(graph, body, (v, i_syn, spikes, readout), network.substeps, state)
    return graph.op("Mul", after[3], np.float32(scale_out))


def _whole(numbers: list[int]) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def _decided(graph: Graph, output: str, space: Space) -> str:
    """The actions (batch, numbers), or (batch,) of a Discrete space, of the network's outputs."""
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(space.dtype))
    if isinstance(space, gym.spaces.Discrete):
        best = graph.op("ArgMax", output, axis=1, keepdims=0)
        return graph.op("Cast", graph.op("Add", best, np.int64(space.start)), to=kind)
    if isinstance(space, gym.spaces.MultiDiscrete):
        sizes, first, parts = space.nvec.reshape(-1).tolist(), 0, []
        for size in sizes:
            part = graph.op("Slice", output, _whole([first]), _whole([first + size]), _whole([1]))
            parts.append(graph.op("ArgMax", part, axis=1, keepdims=1))
            first += size
        best = graph.op("Add", graph.op("Concat", *parts, axis=1), space.start.reshape(-1).astype(np.int64))
        return graph.op("Cast", best, to=kind)
    if isinstance(space, gym.spaces.MultiBinary):
        return graph.op("Cast", graph.op("Greater", output, np.float32(0)), to=kind)
    assert isinstance(space, gym.spaces.Box)
    low, high, middle, half = (np.asarray(part, np.float64) for part in box_bounds(space)[:4])
    bounded = box_bounds(space).bounded
    clipped = graph.op("Cast", graph.op("Clip", output, np.float32(-1), np.float32(1)), to=11)
    inside = graph.op("Add", graph.op("Mul", clipped, np.where(bounded, half, 0)), np.where(bounded, middle, 0))
    y = graph.op("Where", bounded, inside, graph.op("Cast", output, to=11))
    if np.issubdtype(space.dtype, np.integer):
        y = graph.op("Round", y)
    return graph.op("Cast", graph.op("Min", graph.op("Max", y, low), high), to=kind)
