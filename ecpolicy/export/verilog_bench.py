"""The test bench of a policy in Verilog: what it feeds, what it expects, and its text."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ecpolicy.export.verilog_arithmetic import ACTION, CURRENT, READOUT
from ecpolicy.networks import IntegerRSNN
from ecpolicy.networks.layout import LARGEST_CURRENT, unpack
from ecpolicy.networks.network import copied
from ecpolicy.spaces import action_decoder, box_bounds
from ecpolicy.untyped import Space


class Recorded(NamedTuple):
    """What the test bench feeds, and what it expects."""

    x: NDArray[np.int64]  # (steps, obs_size), whole numbers
    first: NDArray[np.bool_]  # (steps,) whether an episode begins
    spikes: NDArray[np.bool_]  # (steps, substeps, neurons)
    readouts: NDArray[np.int64]  # (steps, outputs)
    actions: NDArray[np.int64]  # (steps, actions)


def drawn(network: IntegerRSNN, obs_size: int, steps: int) -> list[NDArray[np.float32]]:
    """Two episodes of standardised observations: standard normal, some of them at the limits of their range."""
    scale, generator = network.constants(obs_size).scale_in, np.random.default_rng(0)
    x = _quantized(generator.standard_normal((steps, obs_size)), scale)
    x[generator.random(x.shape) < 0.02] = -LARGEST_CURRENT
    x[generator.random(x.shape) < 0.02] = LARGEST_CURRENT - 1
    return np.split((x / scale).astype(np.float32), [steps // 2])  # by a power of two: this is exact


def record(
    network: IntegerRSNN,
    connections: Mapping[str, NDArray[np.uint64]],
    start: Any,
    action_space: Space,
    episodes: Sequence[NDArray[np.float32]],
) -> Recorded:
    """What the network does in episodes of standardised observations (steps, obs_size)."""
    observed, outputs = connections["input"].shape[1] // 2, start.readout.shape[1]
    row, output, substep = np.zeros(1, np.int64), np.zeros((1, outputs), np.float32), network.one_substep()
    spikes, readouts = [], []
    for episode in episodes:
        state = copied(start)
        for x in episode:
            for _ in range(network.substeps):
                substep.step(connections, state, x[None], output, owners=row, rows=row)
                spikes.append(unpack(state.spikes[0], network.n_neurons))
            readouts.append(state.readout[0].copy())
    steps, read = len(readouts), np.array(readouts, np.int64)
    if isinstance(action_space, gym.spaces.Box):
        unit = round(1 / network.constants(observed).scale_out)
        actions = np.where(box_bounds(action_space).bounded, np.clip(read, -unit, unit), read)
    else:
        actions = action_decoder(action_space)(read.astype(np.float32))  # a common scale decides nothing
    first = np.concatenate([np.arange(len(episode)) == 0 for episode in episodes])
    return Recorded(
        _quantized(np.concatenate(episodes), network.constants(observed).scale_in),
        first,
        np.reshape(spikes, (steps, network.substeps, network.n_neurons)),
        read,
        np.asarray(actions, np.int64).reshape(steps, -1),
    )


def _quantized(x: NDArray[Any], scale: float) -> NDArray[np.int64]:
    return np.clip(np.rint(scale * x), -LARGEST_CURRENT, LARGEST_CURRENT - 1).astype(np.int64)


def bench(steps: int, observed: int, outputs: int, actions: int, substeps: int, padded: int) -> str:
    """The text of ``policy_tb.v``."""
    return f"""\
// A test bench: recorded observations go in; every spike, readout and action must be those of the policy.
//     iverilog -g2005 -o policy_tb policy.v policy_tb.v && vvp -n policy_tb
`timescale 1ns / 1ns
module policy_tb;
    reg clk = 0, reset = 1, start = 0, x_valid = 0;
    reg signed [{CURRENT - 1}:0] x = 0;
    wire ready, done;
    wire [{READOUT * outputs - 1}:0] readout;
    wire [{ACTION * actions - 1}:0] action;
    policy dut (.clk(clk), .reset(reset), .start(start), .x_valid(x_valid), .x(x), .ready(ready), .done(done),
                .action(action), .readout(readout));

    reg [{CURRENT - 1}:0] seen [0:{steps * observed - 1}];
    reg first [0:{steps - 1}];
    reg [{padded - 1}:0] spikes [0:{steps * substeps - 1}];
    reg [{READOUT * outputs - 1}:0] readouts [0:{steps - 1}];
    reg [{ACTION * actions - 1}:0] decided [0:{steps - 1}];
    integer step, d, checked, wrong, began;
    integer cycle = 0;
    initial begin
        $readmemh("x.hex", seen);
        $readmemh("first.hex", first);
        $readmemh("spikes.hex", spikes);
        $readmemh("readouts.hex", readouts);
        $readmemh("actions.hex", decided);
        checked = 0;
        wrong = 0;
        repeat (3) @(negedge clk);
        reset = 0;
        for (step = 0; step < {steps}; step = step + 1) begin
            if (first[step]) begin
                start = 1;
                @(negedge clk) start = 0;
                while (!ready) @(negedge clk);
            end
            x_valid = 1;
            for (d = 0; d < {observed}; d = d + 1) begin
                x = seen[step * {observed} + d];
                began = cycle;
                @(negedge clk);
            end
            x_valid = 0;
            while (!done) @(negedge clk);
            if (readout !== readouts[step] || action !== decided[step]) begin
                wrong = wrong + 1;
                $display("step %0d: readout %h, action %h, not %h, %h", step, readout, action,
                         readouts[step], decided[step]);
            end
        end
        if (wrong == 0 && checked == {steps * substeps})
            $display("PASS: %0d steps, %0d substeps, %0d cycles an action", step, checked, cycle - began);
        else $display("FAIL: %0d of %0d steps and %0d substeps differ", wrong, step, checked);
        $finish;
    end
    always #1 clk = !clk;
    always @(posedge clk) cycle <= cycle + 1;
    always @(negedge clk) begin
        if (dut.state == 4 && dut.reading == 0) begin
            if (dut.next !== spikes[checked]) begin
                wrong = wrong + 1;
                $display("substep %0d: spikes %h, not %h", checked, dut.next, spikes[checked]);
            end
            checked = checked + 1;
        end
    end
endmodule
"""
