"""A policy of integers as synthesisable Verilog-2005: its connections in block RAM, a test bench beside it.

One neuron (or ``lanes`` of them) is updated in every cycle. Its row of connections is read at once, and the spikes
along it are counted by a tree of adders; so an action takes the same number of cycles whatever the spikes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks import IntegerRSNN
from ecpolicy.networks.layout import (
    LARGEST_COUNT,
    LARGEST_CURRENT,
    LARGEST_READOUT,
    READOUT_SHIFT,
    WEIGHT_SHIFT,
    unpack,
)
from ecpolicy.networks.network import copied
from ecpolicy.spaces import action_decoder, box_bounds
from ecpolicy.untyped import Space

CHUNK = 16  # spikes that are counted in a cycle; the counts of all chunks are added up in the next
CURRENT, COUNT, READOUT, ACTION = 14, 8, 24, 32  # bits; potentials have one more than currents


class Recorded(NamedTuple):
    """What the test bench feeds, and what it expects."""

    x: NDArray[np.int64]  # (steps, obs_size), whole numbers
    first: NDArray[np.bool_]  # (steps,) whether an episode begins
    spikes: NDArray[np.bool_]  # (steps, substeps, neurons)
    readouts: NDArray[np.int64]  # (steps, outputs)
    actions: NDArray[np.int64]  # (steps, actions)


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
    return {
        "policy.v": _module(network, observed, outputs, action_space, lanes),
        "policy_tb.v": _bench(len(recorded.x), observed, outputs, recorded.actions.shape[1], network.substeps, padded),
        "k_h.hex": _hex(_grouped(_wider(words, padded), lanes)),
        "k_in.hex": _hex(_grouped(of_inputs.reshape(n, -1), lanes, observed)),
        "k_out.hex": _hex(_grouped(k_out, lanes)),
        "v0.hex": _hex(_grouped(_bits(initial_potentials, CURRENT + 1), lanes)),
        "x.hex": _hex(_bits(recorded.x.reshape(-1), CURRENT)),
        "first.hex": _hex(recorded.first[:, None]),
        "spikes.hex": _hex(_wider(recorded.spikes.reshape(-1, n), padded)),
        "actions.hex": _hex(_bits(recorded.actions, ACTION).reshape(len(recorded.x), -1)),
        "readouts.hex": _hex(_bits(recorded.readouts, READOUT).reshape(len(recorded.x), -1)),
    }


def record(
    network: IntegerRSNN,
    connections: Mapping[str, NDArray[np.uint64]],
    start: Any,
    action_space: Space,
    steps: int,
) -> Recorded:
    """Two episodes of the network on observations that are drawn, some of them at the limits of their range."""
    observed, outputs = connections["input"].shape[1] // 2, start.readout.shape[1]
    scale = network.constants(observed).scale_in
    generator, row, output = np.random.default_rng(0), np.zeros(1, np.int64), np.zeros((1, outputs), np.float32)
    x = np.clip(np.rint(scale * generator.standard_normal((steps, observed))), -LARGEST_CURRENT, LARGEST_CURRENT - 1)
    x[generator.random(x.shape) < 0.02] = -LARGEST_CURRENT
    x[generator.random(x.shape) < 0.02] = LARGEST_CURRENT - 1
    first, substep = np.isin(np.arange(steps), (0, steps // 2)), network.one_substep()
    spikes, readouts, state = [], [], start
    for seen, begins in zip(x, first, strict=True):
        state = copied(start) if begins else state
        standardized = (seen[None] / scale).astype(np.float32)  # a power of two: this is exact
        for _ in range(network.substeps):
            substep.step(connections, state, standardized, output, owners=row, rows=row)
            spikes.append(unpack(state.spikes[0], network.n_neurons))
        readouts.append(state.readout[0].copy())
    read = np.array(readouts, np.int64)
    if isinstance(action_space, gym.spaces.Box):
        unit = round(1 / network.constants(observed).scale_out)
        actions = np.where(box_bounds(action_space).bounded, np.clip(read, -unit, unit), read)
    else:
        actions = action_decoder(action_space)(read.astype(np.float32))  # a common scale decides nothing
    shape = steps, network.substeps, network.n_neurons
    spiked = np.reshape(spikes, shape)
    return Recorded(x.astype(np.int64), first, spiked, read, np.asarray(actions, np.int64).reshape(steps, -1))


def cycles(n_neurons: int, obs_size: int, n_outputs: int, substeps: int, lanes: int) -> int:
    """Clock cycles from the last number of an observation to its action."""
    depth = -(-n_neurons // lanes)
    return depth * obs_size + 3 + substeps * (depth + 4 + n_outputs)


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


def _sum(terms: Iterable[str]) -> str:
    return " + ".join(terms) or "0"


def _module(network: IntegerRSNN, observed: int, outputs: int, space: Space, lanes: int) -> str:
    n, substeps = network.n_neurons, network.substeps
    shift_syn, shift_m, shift_out, threshold, scale_in, scale_out = network.constants(observed)
    depth = -(-n // lanes)
    padded = depth * lanes
    chunks = [
        (low, min(low + CHUNK, end), sign)
        for begin, end, sign in ((0, network.n_excitatory, "+"), (network.n_excitatory, n, "-"))
        for low in range(begin, end, CHUNK)
    ]
    bits_sum, bits_in, bits_count = max(n.bit_length() + 1, 6), CURRENT + 1 + observed.bit_length(), n.bit_length() + 1
    address = max((depth - 1).bit_length(), 1)
    address_in = max((depth * observed - 1).bit_length(), 1)
    address_x = max((observed - 1).bit_length(), 1)
    counting = "\n".join(
        f"            part{lane}_{k} <= ones{high - low}(row[{lane * padded + high - 1}:{lane * padded + low}] & "
        f"spikes[{high - 1}:{low}]);"
        for lane in range(lanes)
        for k, (low, high, _) in enumerate(chunks)
    )
    parts = "\n".join(f"    reg [4:0] part{lane}_{k};" for lane in range(lanes) for k in range(len(chunks)))
    functions = "\n".join(_ones(width) for width in sorted({high - low for low, high, _ in chunks}))
    totals = "\n".join(
        f"    wire signed [{bits_sum}:0] total{lane} = "
        + " ".join(
            f"{sign} $signed({{{bits_sum - 4}'b0, part{lane}_{k}}})" for k, (*_, sign) in enumerate(chunks)
        ).lstrip("+ ")
        + ";"
        for lane in range(lanes)
    )
    datapath = "\n".join(_lane(lane, shift_syn, shift_m, threshold, bits_in) for lane in range(lanes))
    tallies = "\n".join(
        f"            tally[{a}] <= (updating_first ? 0 : tally[{a}]) + "
        + _sum(
            f"((fired[{lane}] & out_row[{lane * outputs + a}]) ? "
            f"(index_s4 * {lanes} + {lane} < {network.n_excitatory} ? 1 : -1) : 0)"
            for lane in range(lanes)
        )
        + ";"
        for a in range(outputs)
    )
    shifted = f"{{fired, next[{padded - 1}:{lanes}]}}" if depth > 1 else "fired"
    deciding, actions, meaning = _decide(space, outputs, scale_out)
    cycle_count = cycles(n, observed, outputs, substeps, lanes)
    return f"""\
`timescale 1ns / 1ns
// A spiking policy of integers with 1-bit connections, written by ecpolicy. Verilog-2005; memories are read from *.hex.
//
// start        an episode begins: for one cycle, while ready. Potentials are set, which takes {depth + 2} cycles.
// x_valid, x   the observation, one number at a time, {observed} in all, each taken in a cycle in which ready is high:
//              standardised, times {scale_in:g}, rounded, in [-{LARGEST_CURRENT}, {LARGEST_CURRENT - 1}].
// done         high for one cycle when action and readout are those of the observation, {cycle_count} cycles later.
// action       {meaning}; the first one lowest.
// readout      {outputs} signed numbers of {READOUT} bits: the outputs before they become an action.
//
// {n} neurons ({network.n_excitatory} excitatory), {substeps} substeps of {network.dt:g} ms, {lanes} updated a cycle.
`default_nettype none
module policy (
    input wire clk,
    input wire reset,
    input wire start,
    input wire x_valid,
    input wire signed [{CURRENT - 1}:0] x,
    output wire ready,
    output reg done,
    output wire [{ACTION * actions - 1}:0] action,
    output wire [{READOUT * outputs - 1}:0] readout
);
    localparam IDLE = 0, SETTING = 1, INPUT = 2, UPDATE = 3, READ = 4;
    reg [2:0] state;
    assign ready = state == IDLE;

    reg [{lanes * padded - 1}:0] k_h [0:{depth - 1}];          // connections from all neurons to those of a group
    reg [{2 * lanes - 1}:0] k_in [0:{depth * observed - 1}];   // of each number, as it is and with its sign changed
    reg [{lanes * outputs - 1}:0] k_out [0:{depth - 1}];
    reg [{lanes * (CURRENT + 1) - 1}:0] v0 [0:{depth - 1}];
    reg [{lanes * (CURRENT + 1) - 1}:0] v [0:{depth - 1}];     // membrane potentials
    reg [{lanes * CURRENT - 1}:0] i_syn [0:{depth - 1}];       // synaptic currents
    reg [{lanes * CURRENT - 1}:0] i_in [0:{depth - 1}];
    reg signed [{CURRENT - 1}:0] seen [0:{observed - 1}];
    initial begin
        $readmemh("k_h.hex", k_h);
        $readmemh("k_in.hex", k_in);
        $readmemh("k_out.hex", k_out);
        $readmemh("v0.hex", v0);
    end

    reg [{padded - 1}:0] spikes;    // of the last substep
    reg [{padded - 1}:0] next;      // of this one: shifted in, group by group
    reg signed [{READOUT - 1}:0] r [0:{outputs - 1}];
    reg signed [{bits_count}:0] tally [0:{outputs - 1}];
{"".join(f"    assign readout[{READOUT * a} +: {READOUT}] = r[{a}];{chr(10)}" for a in range(outputs))}
    // Observations: sums of numbers, group by group; memories answer one cycle after they were asked.
    reg [{address_in - 1}:0] in_address;
    reg [{address_x - 1}:0] in_number, in_number_s1;
    reg [{address - 1}:0] in_group, in_group_s1;
    reg in_asking, in_asking_s1;
    reg [{2 * lanes - 1}:0] in_bits;
    reg signed [{CURRENT - 1}:0] in_x;

    // Neurons: asked for in s0, their spikes counted in s1, added up in s2, current in s3, potential in s4.
    reg [{address - 1}:0] index, index_s1, index_s2, index_s3, index_s4;
    reg [4:0] valid;    // of s0 to s4
    reg [{lanes * padded - 1}:0] row;
    reg [{lanes * outputs - 1}:0] out_row;
    reg [{lanes * (CURRENT + 1) - 1}:0] v_read;
    reg [{lanes * CURRENT - 1}:0] i_read, in_read;
    reg [{max(substeps.bit_length(), 1) - 1}:0] substep;
    reg [{max(outputs.bit_length(), 1) - 1}:0] reading;
    wire updating_first = index_s4 == 0;
{parts}
{functions}
{totals}
    wire [{lanes - 1}:0] fired;
    wire [{lanes * (CURRENT + 1) - 1}:0] v_next;
    wire [{lanes * CURRENT - 1}:0] i_next, in_next;
    reg [{lanes * CURRENT - 1}:0] i_s4;
{datapath}

    reg [{address - 1}:0] setting;
    reg setting_s1;
    reg [{address - 1}:0] setting_group;
    reg [{lanes * (CURRENT + 1) - 1}:0] v0_read;
    wire signed [{READOUT + 1}:0] filtered = r[reading] - (r[reading] >>> {shift_out})
        + (tally[reading] <<< {READOUT_SHIFT});
    wire signed [{READOUT - 1}:0] clamped = {_clamped("filtered", LARGEST_READOUT)};

    always @(posedge clk) begin     // memories: one reader and one writer each
        row <= k_h[index];
        in_bits <= k_in[in_address];
        in_x <= seen[in_number];
        i_read <= i_syn[index_s2];
        v_read <= v[index_s3];
        in_read <= i_in[index_s3];
        out_row <= k_out[index_s3];
        v0_read <= v0[setting];
        if (setting_s1) v[setting_group] <= v0_read;
        else if (valid[4]) v[index_s4] <= v_next;
        if (setting_s1) i_syn[setting_group] <= 0;
        else if (valid[4]) i_syn[index_s4] <= i_s4;
        if (in_asking_s1 && in_number_s1 == {observed - 1}) i_in[in_group_s1] <= in_next;
        if (ready && x_valid && !start) seen[in_number] <= x;
    end

    integer a;
    always @(posedge clk) begin
        done <= 0;
        setting_s1 <= state == SETTING;
        setting_group <= setting;
        in_asking_s1 <= in_asking;
        in_number_s1 <= in_number;
        in_group_s1 <= in_group;
        index_s1 <= index;
        index_s2 <= index_s1;
        index_s3 <= index_s2;
        index_s4 <= index_s3;
        valid[4:1] <= valid[3:0];
        if (valid[1]) begin
{counting}
        end
        if (valid[3]) i_s4 <= i_next;
        if (valid[4]) begin
            next <= {shifted};
{tallies}
        end
        case (state)
            IDLE: if (start) begin
                state <= SETTING;
                setting <= 0;
                in_number <= 0;
            end else if (x_valid) begin
                in_number <= in_number + 1;
                if (in_number == {observed - 1}) begin
                    state <= INPUT;
                    in_number <= 0;
                    in_group <= 0;
                    in_address <= 0;
                    in_asking <= 1;
                    substep <= 0;
                end
            end
            SETTING: begin
                setting <= setting + 1;
                if (setting == {depth - 1}) state <= IDLE;
                spikes <= 0;
                for (a = 0; a < {outputs}; a = a + 1) r[a] <= 0;
            end
            INPUT: if (in_asking) begin
                in_address <= in_address + 1;
                in_number <= in_number + 1;
                if (in_number == {observed - 1}) begin
                    in_number <= 0;
                    in_group <= in_group + 1;
                    if (in_group == {depth - 1}) in_asking <= 0;
                end
            end else if (!in_asking_s1) begin
                state <= UPDATE;
                index <= 0;
                valid[0] <= 1;
            end
            UPDATE: begin
                if (valid[0]) begin
                    index <= index + 1;
                    if (index == {depth - 1}) valid[0] <= 0;
                end
                if (valid == 5'b10000) begin    // the last group
                    state <= READ;
                    reading <= 0;
                end
            end
            READ: begin
                if (reading == 0) spikes <= next;
                r[reading] <= clamped;
                reading <= reading + 1;
                if (reading == {outputs - 1}) begin
                    substep <= substep + 1;
                    state <= UPDATE;
                    index <= 0;
                    valid[0] <= 1;
                    if (substep == {substeps - 1}) begin
                        state <= IDLE;
                        valid[0] <= 0;
                        done <= 1;
                    end
                end
            end
            default: state <= IDLE;
        endcase
        if (reset) begin
            state <= IDLE;
            valid <= 0;
            done <= 0;
            setting_s1 <= 0;
            in_asking <= 0;
            in_number <= 0;
        end
    end

{deciding}
endmodule
`default_nettype wire
"""


def _clamped(name: str, limit: int) -> str:
    """The nearest number in [-limit, limit - 1]."""
    return f"{name} > {limit - 1} ? {limit - 1} : {name} < -{limit} ? -{limit} : {name}"


def _ones(width: int) -> str:
    return f"""\
    function [4:0] ones{width};
        input [{width - 1}:0] bits;
        integer k;
        begin
            ones{width} = 0;
            for (k = 0; k < {width}; k = k + 1) ones{width} = ones{width} + bits[k];
        end
    endfunction"""


def _lane(lane: int, shift_syn: int, shift_m: int, threshold: int, bits_in: int) -> str:
    """The arithmetic of one neuron: the equations of :class:`ecpolicy.networks.IntegerRSNN`."""
    current, potential = f"{CURRENT * lane} +: {CURRENT}", f"{(CURRENT + 1) * lane} +: {CURRENT + 1}"
    return f"""\
    reg signed [{COUNT - 1}:0] count{lane};
    wire signed [{CURRENT - 1}:0] i_old{lane} = i_read[{current}];
    wire signed [15:0] i_sum{lane} = i_old{lane} - (i_old{lane} >>> {shift_syn}) + (count{lane} <<< {WEIGHT_SHIFT});
    assign i_next[{current}] = {_clamped(f"i_sum{lane}", LARGEST_CURRENT)};
    wire signed [{CURRENT - 1}:0] i_now{lane} = i_s4[{current}];
    wire signed [{CURRENT - 1}:0] in_now{lane} = in_read[{current}];
    wire signed [{CURRENT}:0] v_old{lane} = v_read[{potential}];
    wire signed [15:0] distance{lane} = i_now{lane} + in_now{lane} - v_old{lane};
    wire signed [15:0] v_sum{lane} = v_old{lane} + (distance{lane} >>> {shift_m});
    assign fired[{lane}] = v_sum{lane} > {threshold};
    assign v_next[{potential}] = fired[{lane}] ? 0 : v_sum{lane};
    reg signed [{bits_in - 1}:0] in_sum{lane};
    wire signed [{bits_in - 1}:0] in_more{lane} = (in_number_s1 == 0 ? 0 : in_sum{lane})
        + (in_bits[{2 * lane}] ? in_x : 0) - (in_bits[{2 * lane + 1}] ? in_x : 0);
    assign in_next[{current}] = {_clamped(f"in_more{lane}", LARGEST_CURRENT)};
    always @(posedge clk) begin
        count{lane} <= {_clamped(f"total{lane}", LARGEST_COUNT)};
        in_sum{lane} <= in_more{lane};
    end"""


def _decide(space: Space, outputs: int, scale_out: float) -> tuple[str, int, str]:
    """Verilog that makes ``action`` of the readouts, how many numbers it has, and what they mean."""
    if isinstance(space, gym.spaces.Discrete):
        components = [(int(space.n), int(space.start))]
    elif isinstance(space, gym.spaces.MultiDiscrete):
        components = list(zip(space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist(), strict=True))
    else:
        unit = round(1 / scale_out)
        values = [f"r[{a}] > 0" for a in range(outputs)]
        meaning = f"{outputs} signed numbers of {ACTION} bits"
        if isinstance(space, gym.spaces.Box):
            bounded = box_bounds(space).bounded
            values = [
                f"r[{a}] > {unit} ? {unit} : r[{a}] < -{unit} ? -{unit} : r[{a}]" if bounded[a] else f"r[{a}]"
                for a in range(outputs)
            ]
            meaning += f", in which {unit} is the upper and -{unit} the lower bound"
        return "".join(_action(a, value) for a, value in enumerate(values)), outputs, meaning
    lines, first = [], 0
    for a, (size, start) in enumerate(components):
        lines.append(f"    wire signed [{READOUT - 1}:0] most{a}_0 = r[{first}];\n    wire [31:0] best{a}_0 = 0;\n")
        for k in range(1, size):
            more = f"r[{first + k}] > most{a}_{k - 1}"
            lines.append(
                f"    wire signed [{READOUT - 1}:0] most{a}_{k} = {more} ? r[{first + k}] : most{a}_{k - 1};\n"
            )
            lines.append(f"    wire [31:0] best{a}_{k} = {more} ? {k} : best{a}_{k - 1};\n")
        lines.append(_action(a, f"best{a}_{size - 1} + ({start})"))
        first += size
    meaning = f"{len(components)} signed numbers of {ACTION} bits, as the environment takes them"
    return "".join(lines), len(components), meaning


def _action(a: int, value: str) -> str:
    wire = f"    wire signed [{ACTION - 1}:0] action{a} = {value};\n"
    return f"{wire}    assign action[{ACTION * a} +: {ACTION}] = action{a};\n"


def _bench(steps: int, observed: int, outputs: int, actions: int, substeps: int, padded: int) -> str:
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
