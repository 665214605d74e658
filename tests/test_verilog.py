"""The Verilog of a policy of integers, simulated by Icarus: every spike, readout and action is the library's."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.cli import main
from ecpolicy.inspection import record_activity
from ecpolicy.networks import RSNN, IntegerRSNN
from probes import ACTION_SPACES, Anything

simulated = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="needs Icarus Verilog: apt-get install iverilog"
)


def trained(environment, network, **settings):
    policy = EvolvingConnectivityPolicy(
        network=network, n_generations=1, population_size=4, max_episode_steps=10, random_state=0, **settings
    )
    return policy.fit(environment)


def simulate(folder):
    """What the test bench says."""
    subprocess.run(["iverilog", "-g2005", "-Wall", "-o", "bench", "policy.v", "policy_tb.v"], cwd=folder, check=True)
    return subprocess.run(["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True, text=True).stdout


@simulated
@pytest.mark.parametrize(
    ("environment", "neurons", "ratio", "lanes", "steps"),
    [("CartPole-v1", 1, 0.5, 1, 8), ("CartPole-v1", 31, 0.3, 1, 8), ("Pendulum-v1", 63, 0.5, 2, 8),
     ("Pendulum-v1", 64, 0, 64, 8), ("Pendulum-v1", 65, 1, 4, 8), ("HalfCheetah-v5", 257, 0.5, 1, 3)],
)  # fmt: skip
def test_a_simulation_has_every_spike_and_action(environment, neurons, ratio, lanes, steps, tmp_path):
    policy = trained(environment, IntegerRSNN(neurons, ratio, gain_in=0.5))
    policy.to_verilog(tmp_path, lanes=lanes, steps=steps)
    said = simulate(tmp_path)
    cycles = re.search(r"readout are those of the observation, (\d+) cycles later", (tmp_path / "policy.v").read_text())
    assert said.strip() == f"PASS: {steps} steps, {25 * steps} substeps, {cycles[1]} cycles an action"
    assert int((tmp_path / "spikes.hex").read_text().replace("\n", ""), 16) > 0


@simulated
def test_verilog_without_recurrent_connections_has_no_memory_of_them(tmp_path):
    network = IntegerRSNN(65, gain_in=1.0)
    trained("Pendulum-v1", network, initial_probability={"recurrent": 0.0}).to_verilog(tmp_path, lanes=2, steps=8)
    assert simulate(tmp_path).startswith("PASS: 8 steps")
    assert int((tmp_path / "spikes.hex").read_text().replace("\n", ""), 16) > 0
    assert "k_h" not in (tmp_path / "policy.v").read_text()
    assert not (tmp_path / "k_h.hex").exists()


@simulated
def test_saturated_networks_are_the_same_in_verilog(tmp_path):
    network = IntegerRSNN(300, 1.0, gain_in=30.0, gain_recurrent=1.5, shift_m=1)
    trained("Pendulum-v1", network, initial_probability={"recurrent": 0.95}).to_verilog(tmp_path, lanes=3, steps=4)
    assert simulate(tmp_path).startswith("PASS: 4 steps")
    most = max(int(line, 16).bit_count() for line in (tmp_path / "spikes.hex").read_text().split())
    assert most > 127


@simulated
@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
def test_a_test_bench_plays_the_episodes_that_it_is_given(environment, tmp_path):
    policy = trained(environment, IntegerRSNN(33, gain_in=1.0))
    episodes = [record_activity(policy, environment, seed=seed, max_episode_steps=9) for seed in (1, 2)]
    policy.to_verilog(tmp_path, episodes=[episode.observations for episode in episodes])
    assert simulate(tmp_path).startswith("PASS: 18 steps")
    assert int((tmp_path / "first.hex").read_text().replace("\n", ""), 2) == (1 << 17) + (1 << 8)
    spikes = [[int(bit) for bit in f"{int(line, 16):033b}"[::-1]] for line in (tmp_path / "spikes.hex").open()]
    np.testing.assert_array_equal(spikes, np.concatenate([each.spikes.reshape(-1, 33) for each in episodes]))
    actions = [int(line, 16) for line in (tmp_path / "actions.hex").open()]
    if environment == "CartPole-v1":
        np.testing.assert_array_equal(actions, np.concatenate([each.actions for each in episodes]))
    assert len(set(actions)) > 1


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([np.zeros((5, 3))], r"episodes\[0\] must be finite observations \(steps, 4\); got an array of shape \(5, 3\)"),
        (np.zeros((5, 4)), r"episodes\[0\] must be .* shape \(4,\)"),
        ([np.zeros((1, 4)), np.full((1, 4), np.nan)], r"episodes\[1\] must be finite"),
        ([], "episodes must have a step"),
        ([np.zeros((0, 4))], "episodes must have a step"),
    ],
    ids=["width", "one", "nan", "none", "empty"],
)
def test_episodes_that_are_none_are_named(episodes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trained("CartPole-v1", IntegerRSNN(8)).to_verilog(tmp_path / "chip", episodes=episodes)
    assert not (tmp_path / "chip").exists()


@simulated
@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_verilog_knows_every_action_space(space, tmp_path):
    trained(lambda: Anything(space), IntegerRSNN(20, gain_in=1.0, gain_out=20.0)).to_verilog(tmp_path, steps=20)
    assert simulate(tmp_path).startswith("PASS: 20 steps")
    assert len(set((tmp_path / "actions.hex").read_text().split())) > 2


@simulated
def test_the_test_bench_sees_a_wrong_connection(tmp_path):
    trained("CartPole-v1", IntegerRSNN(40, gain_in=1.0)).to_verilog(tmp_path, steps=8)
    rows = (tmp_path / "k_h.hex").read_text().split()
    rows = [f"{int(row, 16) ^ (1 << 40) - 1:0{len(row)}x}" for row in rows]
    (tmp_path / "k_h.hex").write_text("\n".join(rows))
    assert "FAIL" in simulate(tmp_path)


def test_what_has_no_verilog_is_named(tmp_path):
    with pytest.raises(TypeError, match="RSNN cannot be exported in this form; wanted IntegerRSNN"):
        trained("CartPole-v1", RSNN(8)).to_verilog(tmp_path)
    with pytest.raises(ValueError, match=r"lanes must be an integer in \[1, 8\]; got 9"):
        trained("CartPole-v1", IntegerRSNN(8)).to_verilog(tmp_path, lanes=9)


def test_the_command_line_writes_a_folder(tmp_path, capsys):
    policy = trained("CartPole-v1", IntegerRSNN(8))
    policy.save(tmp_path / "policy.ecp")
    assert main(["export", str(tmp_path / "policy.ecp"), f"{tmp_path / 'chip'}/", "--lanes", "2"]) in (None, 0)
    policy.to_verilog(tmp_path / "own", lanes=2)
    written = {path.name: path.read_text() for path in (tmp_path / "chip").iterdir()}
    assert written == {path.name: path.read_text() for path in (tmp_path / "own").iterdir()}
    assert "chip" in capsys.readouterr().out
