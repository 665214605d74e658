"""Headers where they are meant to go: on a Cortex-M that QEMU plays, and in a sketch for Arduino."""

import shutil
import subprocess
from pathlib import Path

import microcontroller
import numpy as np
import pytest

from ecpolicy import EvolvingConnectivityPolicy
from ecpolicy.inspection import record_activity
from ecpolicy.networks import RSNN, IntegerRSNN

SKETCH = Path(__file__).parent.parent / "examples" / "arduino" / "pendulum" / "pendulum.ino"
emulated = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="needs QEMU: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm",
)


def trained(network):
    return EvolvingConnectivityPolicy(
        network=network, n_generations=1, population_size=4, max_episode_steps=10, random_state=0
    ).fit("Pendulum-v1")


@emulated
@pytest.mark.parametrize(
    ("network", "core"),
    [*((IntegerRSNN(n, gain_in=1.0), "M4") for n in (1, 31, 63, 64, 65, 257)), (IntegerRSNN(65, gain_in=1.0), "M0+"),
     (RSNN(65, gain_in=1.0), "M4")],
    ids=str,
)  # fmt: skip
def test_a_microcontroller_acts_like_predict(network, core):
    policy = trained(network)
    activity = record_activity(policy, "Pendulum-v1", max_episode_steps=4)
    assert activity.spikes.any() or network.n_neurons == 1
    least, mean, most, flash, ram = microcontroller.measure(policy, activity.observations, activity.actions, core)
    assert 1000 < least <= mean <= most
    assert flash > network.n_neurons**2 / 8
    assert ram > 4 * network.n_neurons
    if network.n_neurons == 64:
        with pytest.raises(AssertionError):
            microcontroller.measure(policy, activity.observations, activity.actions + 0.01, core)


BOARD = """
#include <cmath>
#include <cstdio>
#include <cstdlib>
using std::atan2; using std::cos; using std::sin;
#define TWO_PI 6.283185307179586476925286766559
#define constrain(value, low, high) ((value) < (low) ? (low) : (value) > (high) ? (high) : (value))
enum { OUTPUT = 1, A0 = 14 };
static unsigned long clock_us;
static int seen;
static inline void pinMode(int pin, int mode) { std::printf("mode %d %d\\n", pin, mode); }
static inline unsigned long micros() { return clock_us; }
static inline int analogRead(int pin) { return pin == A0 ? seen : 0; }
static inline void analogWrite(int pin, int duty) { std::printf("%d %d\\n", pin, duty); }
"""
PLAY = """
int main(int count, char **given) {
    seen = std::atoi(given[1]);
    setup();
    for (int k = 1; k < count; k++) {
        seen = std::atoi(given[k]);
        loop();
        loop();
        clock_us += 50000;
    }
}
"""


def test_the_sketch_for_arduino_acts_like_predict_at_the_environments_rate(tmp_path):
    policy = trained(IntegerRSNN(64, gain_in=1.0))
    (tmp_path / "policy.h").write_text(policy.to_c("policy", real="float"))
    (tmp_path / "Arduino.h").write_text(BOARD)
    (tmp_path / "sketch.cpp").write_text('#include "Arduino.h"\n' + SKETCH.read_text() + PLAY)  # as Arduino's tools do
    strict = [
        "-std=c++11",
        "-O2",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-Wno-unused-function",
    ]
    subprocess.run(["g++", *strict, "sketch.cpp", "-o", "sketch"], cwd=tmp_path, check=True)
    turns = np.round(np.arange(40) ** 1.7).astype(int) % 1024  # faster and faster, more than once around
    said = subprocess.run(
        ["./sketch", *map(str, turns)], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    modes, writes = said.splitlines()[:2], [tuple(map(int, line.split())) for line in said.splitlines()[2:]]
    assert modes == ["mode 5 1", "mode 6 1"]
    duties = [forth - back for (_, forth), (_, back) in zip(writes[::2], writes[1::2], strict=True)]
    angles = turns * (2 * np.pi / 1024)
    turned = np.diff(angles, prepend=angles[0])
    speeds = np.clip(np.arctan2(np.sin(turned), np.cos(turned)) / 0.05, -8, 8)
    state, wanted = None, []
    for angle, speed in zip(angles, speeds, strict=True):
        action, state = policy.predict(np.array([np.cos(angle), np.sin(angle), speed], np.float32), state)
        wanted.append(int(127.5 * action[0]))
    np.testing.assert_allclose(duties, wanted, atol=1)
    assert len(set(wanted)) > 5
    assert {pin for pin, _ in writes} == {5, 6}
