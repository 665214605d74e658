"""The module of a policy in Verilog: ports, memories, and the control that leads numbers through the arithmetic.

One neuron (or ``lanes`` of them) is updated in every cycle. Its row of connections is read at once, and the spikes
along it are counted by a tree of adders; so an action takes the same number of cycles whatever the spikes.
"""

from ecpolicy.export.verilog_arithmetic import (
    ACTION,
    CURRENT,
    READOUT,
    clamped,
    counters,
    decision,
    neuron,
    tally,
)
from ecpolicy.networks import IntegerRSNN
from ecpolicy.networks.layout import LARGEST_CURRENT, LARGEST_READOUT, READOUT_SHIFT
from ecpolicy.untyped import Space


def cycles(n_neurons: int, obs_size: int, n_outputs: int, substeps: int, lanes: int) -> int:
    """Clock cycles from the last number of an observation to its action."""
    depth = -(-n_neurons // lanes)
    return depth * obs_size + 3 + substeps * (depth + 4 + n_outputs)


def module(network: IntegerRSNN, observed: int, outputs: int, space: Space, lanes: int, *, recurrent: bool) -> str:
    """The text of ``policy.v``. Without recurrent connections, synthesis removes what counts spikes along them."""
    n, substeps = network.n_neurons, network.substeps
    constants = network.constants(observed)
    depth = -(-n // lanes)
    padded = depth * lanes
    bits_in, bits_count = CURRENT + 1 + observed.bit_length(), n.bit_length() + 1
    address = max((depth - 1).bit_length(), 1)
    address_in = max((depth * observed - 1).bit_length(), 1)
    address_x = max((observed - 1).bit_length(), 1)
    counter, counting = counters(n, network.n_excitatory, lanes)
    neurons = "\n".join(neuron(lane, constants, bits_in) for lane in range(lanes))
    tallies = "\n".join(tally(output, outputs, network.n_excitatory, lanes) for output in range(outputs))
    shifted = f"{{fired, next[{padded - 1}:{lanes}]}}" if depth > 1 else "fired"
    memory, loading, row = "", "", "0"
    if recurrent:
        memory = f"    reg [{lanes * padded - 1}:0] k_h [0:{depth - 1}];  // from all neurons to those of a group\n"
        loading, row = '        $readmemh("k_h.hex", k_h);\n', "k_h[index]"
    deciding, actions, meaning = decision(space, outputs, constants.scale_out)
    cycle_count = cycles(n, observed, outputs, substeps, lanes)
    return f"""\
`timescale 1ns / 1ns
// A spiking policy of integers with 1-bit connections, written by ecpolicy. Verilog-2005; memories are read from *.hex.
//
// start        an episode begins: for one cycle, while ready. Potentials are set, which takes {depth + 2} cycles.
// x_valid, x   the observation, one number at a time, {observed} in all, each taken in a cycle in which ready is high:
//              standardised, times {constants.scale_in:g}, rounded, in [-{LARGEST_CURRENT}, {LARGEST_CURRENT - 1}].
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

{memory}    reg [{2 * lanes - 1}:0] k_in [0:{depth * observed - 1}];   // of each number, as it is and negated
    reg [{lanes * outputs - 1}:0] k_out [0:{depth - 1}];
    reg [{lanes * (CURRENT + 1) - 1}:0] v0 [0:{depth - 1}];
    reg [{lanes * (CURRENT + 1) - 1}:0] v [0:{depth - 1}];     // membrane potentials
    reg [{lanes * CURRENT - 1}:0] i_syn [0:{depth - 1}];       // synaptic currents
    reg [{lanes * CURRENT - 1}:0] i_in [0:{depth - 1}];
    reg signed [{CURRENT - 1}:0] seen [0:{observed - 1}];
    initial begin
{loading}        $readmemh("k_in.hex", k_in);
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
{counter}
    wire [{lanes - 1}:0] fired;
    wire [{lanes * (CURRENT + 1) - 1}:0] v_next;
    wire [{lanes * CURRENT - 1}:0] i_next, in_next;
    reg [{lanes * CURRENT - 1}:0] i_s4;
{neurons}

    reg [{address - 1}:0] setting;
    reg setting_s1;
    reg [{address - 1}:0] setting_group;
    reg [{lanes * (CURRENT + 1) - 1}:0] v0_read;
    wire signed [{READOUT + 1}:0] filtered = r[reading] - (r[reading] >>> {constants.shift_out})
        + (tally[reading] <<< {READOUT_SHIFT});
    wire signed [{READOUT - 1}:0] clamped = {clamped("filtered", LARGEST_READOUT)};

    always @(posedge clk) begin     // memories: one reader and one writer each
        row <= {row};
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
