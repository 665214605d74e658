"""The Verilog of a policy on chips: look-up tables, block RAM, clock, cycles and microseconds an action.

Synthesised and placed for a Lattice iCE40 UP5K (5,280 look-up tables, 30 blocks of RAM), and synthesised for Xilinx's
7 series. The policy stands behind shift registers there, as the chip has fewer pins than its ports have bits. The
clock is nextpnr's estimate for the placed and routed design.

Needs Debian's yosys, nextpnr-ice40 and fpga-icestorm.
"""

import re
import subprocess
import tempfile
from itertools import product
from pathlib import Path

import ecpolicy
from ecpolicy.networks import IntegerRSNN

OPTIONS = {
    "env": ["CartPole-v1", "Hopper-v5", "HalfCheetah-v5"], "neurons": [64, 256], "lanes": 1, "no_recurrent": False,
}  # fmt: skip
TOP = """\
module top (input wire clk, reset, start, shift, bit_in, x_valid, output wire bit_out, ready, done);
    reg signed [13:0] x;
    wire [ACTION-1:0] action;
    reg [ACTION-1:0] out;
    assign bit_out = out[0];
    policy policy (.clk(clk), .reset(reset), .start(start), .x_valid(x_valid), .x(x), .ready(ready), .done(done),
                   .action(action), .readout());
    always @(posedge clk) begin
        if (shift) x <= {x[12:0], bit_in};
        out <= done ? action : out >> 1;
    end
endmodule
"""


def run(*command, cwd):
    """What a tool says, on either stream."""
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def cells(statistics, pattern):
    """How many cells of yosys' statistics have such a name."""
    return sum(
        int(count) for name, count in re.findall(r"^\s+(\w+)\s+(\d+)$", statistics, re.M) if re.match(pattern, name)
    )


def measure(policy, lanes):
    """Figures by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policy.to_verilog(folder, lanes=lanes, steps=2)
        text = (folder / "policy.v").read_text()
        width = int(re.search(r"output wire \[(\d+):0\] action", text)[1]) + 1
        (folder / "top.v").write_text(TOP.replace("ACTION", str(width)))
        read = "read_verilog policy.v top.v; "
        ice = run("yosys", "-p", f"{read} synth_ice40 -top top -json top.json; stat", cwd=folder).rsplit(
            "Printing stat"
        )[-1]
        xilinx = run("yosys", "-p", f"{read} synth_xilinx -top top; stat", cwd=folder).rsplit("Printing stat")[-1]
        found = {
            "bits of connections": sum(p.size for p in policy.connection_probabilities_.values()),
            "iCE40 LUT4": cells(ice, "SB_LUT4"),
            "iCE40 RAM blocks": cells(ice, "SB_RAM40"),
            "7 series LUTs": cells(xilinx, r"LUT\d"),
            "7 series RAM": f"{cells(xilinx, 'RAMB18')} RAMB18, {cells(xilinx, 'RAMB36')} RAMB36",
            "cycles an action": int(re.search(r"observation, (\d+) cycles", text)[1]),
        }
        try:
            placed = run(
                "nextpnr-ice40", "--up5k", "--package", "sg48", "--json", "top.json", "--asc", "top.asc",
                "--freq", "20", "--timing-allow-fail", "--pcf-allow-unconstrained", cwd=folder,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            found["placed"] = next((line for line in error.stderr.splitlines() if "ERROR" in line), "no")
        else:
            found["logic cells placed"] = re.search(r"ICESTORM_LC:\s+(\d+)", placed)[1]
            megahertz = float(re.findall(r"Max frequency for clock .*?: ([\d.]+) MHz", placed)[-1])
            found["MHz"] = megahertz
            found["us an action"] = found["cycles an action"] / megahertz
    return found


def rows(options):
    for environment, neurons in product(options.env, options.neurons):
        policy = ecpolicy.EvolvingConnectivityPolicy(
            network=IntegerRSNN(neurons), n_generations=1, population_size=4, max_episode_steps=20, random_state=0,
            initial_probability={"recurrent": 0.0} if options.no_recurrent else 0.5,
        ).fit(environment)  # fmt: skip
        yield {"task": environment, "neurons": neurons, "a cycle": options.lanes, **measure(policy, options.lanes)}
