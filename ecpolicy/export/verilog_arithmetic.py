"""The arithmetic of a policy in Verilog: spikes counted, neurons updated, readouts decided."""

import gymnasium as gym

from ecpolicy.networks.integer import IntegerConstants
from ecpolicy.networks.layout import LARGEST_COUNT, LARGEST_CURRENT, WEIGHT_SHIFT
from ecpolicy.spaces import box_bounds
from ecpolicy.untyped import Space

CHUNK = 16  # spikes that are counted in a cycle; the counts of all chunks are added up in the next
CURRENT, COUNT, READOUT, ACTION = 14, 8, 24, 32  # bits; potentials have one more than currents


def clamped(name: str, limit: int) -> str:
    """The nearest number in [-limit, limit - 1]."""
    return f"{name} > {limit - 1} ? {limit - 1} : {name} < -{limit} ? -{limit} : {name}"


def counters(n: int, n_excitatory: int, lanes: int) -> tuple[str, str]:
    """What counts spikes along a row, excitatory less inhibitory: declarations, and statements of its first cycle."""
    padded, bits_sum = -(-n // lanes) * lanes, max(n.bit_length() + 1, 6)
    chunks = [
        (low, min(low + CHUNK, end), sign)
        for begin, end, sign in ((0, n_excitatory, "+"), (n_excitatory, n, "-"))
        for low in range(begin, end, CHUNK)
    ]
    parts = [f"    reg [4:0] part{lane}_{k};" for lane in range(lanes) for k in range(len(chunks))]
    functions = [_ones(width) for width in sorted({high - low for low, high, _ in chunks})]
    totals = [
        f"    wire signed [{bits_sum}:0] total{lane} = "
        + " ".join(
            f"{sign} $signed({{{bits_sum - 4}'b0, part{lane}_{k}}})" for k, (*_, sign) in enumerate(chunks)
        ).lstrip("+ ")
        + ";"
        for lane in range(lanes)
    ]
    counting = "\n".join(
        f"            part{lane}_{k} <= ones{high - low}(row[{lane * padded + high - 1}:{lane * padded + low}] & "
        f"spikes[{high - 1}:{low}]);"
        for lane in range(lanes)
        for k, (low, high, _) in enumerate(chunks)
    )
    return "\n".join([*parts, *functions, *totals]), counting


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


def neuron(lane: int, constants: IntegerConstants, bits_in: int) -> str:
    """One neuron of those that are updated in a cycle: the equations of :class:`ecpolicy.networks.IntegerRSNN`."""
    shift_syn, shift_m, _, threshold, *_ = constants
    current, potential = f"{CURRENT * lane} +: {CURRENT}", f"{(CURRENT + 1) * lane} +: {CURRENT + 1}"
    return f"""\
    reg signed [{COUNT - 1}:0] count{lane};
    wire signed [{CURRENT - 1}:0] i_old{lane} = i_read[{current}];
    wire signed [15:0] i_sum{lane} = i_old{lane} - (i_old{lane} >>> {shift_syn}) + (count{lane} <<< {WEIGHT_SHIFT});
    assign i_next[{current}] = {clamped(f"i_sum{lane}", LARGEST_CURRENT)};
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
    assign in_next[{current}] = {clamped(f"in_more{lane}", LARGEST_CURRENT)};
    always @(posedge clk) begin
        count{lane} <= {clamped(f"total{lane}", LARGEST_COUNT)};
        in_sum{lane} <= in_more{lane};
    end"""


def tally(output: int, outputs: int, n_excitatory: int, lanes: int) -> str:
    """The statement that counts a cycle's spikes along the connections to an output, excitatory less inhibitory."""
    spikes = " + ".join(
        f"((fired[{lane}] & out_row[{lane * outputs + output}]) ? "
        f"(index_s4 * {lanes} + {lane} < {n_excitatory} ? 1 : -1) : 0)"
        for lane in range(lanes)
    )
    return f"            tally[{output}] <= (updating_first ? 0 : tally[{output}]) + {spikes};"


def decision(space: Space, outputs: int, scale_out: float) -> tuple[str, int, str]:
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
