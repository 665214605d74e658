"""The C header on a microcontroller that QEMU plays: instructions a step, flash and RAM; its actions are checked.

A Cortex-M4 (also with the instructions of a Cortex-M0+ alone) runs the first steps of an episode. It prints each action
and the ticks of its clock, which count instructions under ``-icount``. Actions must be those of ``predict``.
Microseconds are those of one instruction a cycle, which flash and pipelines of a real chip do not reach.

Needs Debian's gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm.
"""

import re
import subprocess
import tempfile
from itertools import product
from pathlib import Path

import numpy as np

import ecpolicy
from ecpolicy.inspection import record_activity
from ecpolicy.networks import RSNN, IntegerRSNN
from ecpolicy.spaces import action_decoder

OPTIONS = {"env": ["CartPole-v1", "HalfCheetah-v5", "Hopper-v5"], "neurons": [64, 256], "steps": 20}
MEGAHERTZ = 180
INSTRUCTIONS = 40  # in a tick of the clock of the machine, 25 MHz
CORES = {
    "M4": ["-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"],
    "M0+": ["-mcpu=cortex-m0plus"],
}
LINKER = """\
MEMORY { flash (rx) : ORIGIN = 0, LENGTH = 4M  ram (rw) : ORIGIN = 0x20000000, LENGTH = 4M }
ENTRY(start)
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > flash
  .data : { *(.data*) } > ram
  .bss (NOLOAD) : { *(.bss*) *(COMMON) } > ram
}
"""
DRIVER = """\
#include "net.h"
#include "seen.h"
static net_state state;
volatile net_action action[NET_ACTIONS];
void start(void);
__attribute__((section(".vectors"), used)) const void *const vectors[] = { (void *)0x20300000, (void *)start };
static int host(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
static void print(long long value) {
    char text[24], *at = text + 23;
    unsigned long long left = value < 0 ? -(unsigned long long)value : (unsigned long long)value;
    *at = 0; *--at = ' ';
    do { *--at = (char)('0' + left % 10); left /= 10; } while (left);
    if (value < 0) *--at = '-';
    host(4, at);
}
#define TICKS (*(volatile uint32_t *)0xE000E018)
static __attribute__((noinline)) void play(void) {
    *(volatile uint32_t *)0xE000E014 = 0xFFFFFF;
    *(volatile uint32_t *)0xE000E018 = 0;
    *(volatile uint32_t *)0xE000E010 = 5;
    net_reset(&state);
    for (int t = 0; t < STEPS; t++) {
        const uint32_t before = TICKS;
        net_step(&state, seen[t], (net_action *)action);
        print((before - TICKS) & 0xFFFFFF);
        for (int a = 0; a < NET_ACTIONS; a++) print((long long)(action[a] * UNIT));
    }
    host(0x18, (void *)0x20026);
}
void start(void) {
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
    __asm__ volatile("dsb; isb");
#endif
    play();
    for (;;) { }
}
"""


def run(*command, cwd, **options):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, **options).stdout


def measure(policy, observations, wanted, core):
    """Instructions a step (least, mean, most), bytes of flash and of RAM; raises where an action differs."""
    integer = isinstance(policy.network, IntegerRSNN)
    mean, inverse_std, clip = policy._deployed.standardizer
    seen, unit, kind = observations.astype(np.float32), 1 << 16, "float"
    discrete = not hasattr(policy.action_space_, "low")
    if integer:
        x = np.clip((observations - mean) * inverse_std, -clip, clip).astype(np.float32)
        constants = policy.network.constants(observations.shape[1])
        seen = np.clip(np.rint(x * np.float32(constants.scale_in)), -(1 << 13), (1 << 13) - 1).astype(int)
        unit, kind = 1, "int16_t"
    rows = "".join("{" + ",".join(map(repr, row.tolist())) + "},\n" for row in seen)
    header = policy.to_c("net", real="float")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "net.h").write_text(header)
        (folder / "seen.h").write_text(
            f"#define STEPS {len(seen)}\n#define UNIT {1 if discrete else unit}\n"
            f"static const {kind} seen[STEPS][NET_OBSERVATIONS] = {{\n{rows}}};\n"
        )
        (folder / "driver.c").write_text(DRIVER)
        (folder / "alone.c").write_text(f'#include "net.h"\nvoid act(net_state *s, const {kind} *x, net_action *a) '
                                        "{ net_step(s, x, a); }\n")  # fmt: skip
        (folder / "linker.ld").write_text(LINKER)
        gcc = ["arm-none-eabi-gcc", "-std=gnu99", "-O2", "-mthumb", "-ffp-contract=off", *CORES[core]]
        run(*gcc, "-c", "alone.c", cwd=folder)
        flash = int(run("arm-none-eabi-size", "alone.o", cwd=folder).split("\n")[1].split()[0])
        run(*gcc, "-nostartfiles", "-T", "linker.ld", "driver.c", "-o", "driver", "-lm", "-lc", "-lgcc", cwd=folder)
        qemu = ["qemu-system-arm", "-M", "mps2-an386", "-icount", "shift=0", "-semihosting", "-nographic", "-kernel"]
        done = subprocess.run([*qemu, "driver"], cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr[:2000])
    numbers = np.array((done.stdout + done.stderr).split(), np.int64).reshape(len(seen), -1)
    if integer and not discrete:
        bounds = 1 / constants.scale_out
        decoded = action_decoder(policy.action_space_)((numbers[:, 1:] / bounds).astype(np.float32))
        np.testing.assert_array_equal(decoded, wanted)
    elif discrete:
        np.testing.assert_array_equal(numbers[:, 1], wanted.reshape(-1))
    else:
        np.testing.assert_allclose(numbers[:, 1:] / unit, wanted, atol=1e-3)
    ram = sum(int(size) for size in re.search(r"State: (\d+) bytes of RAM, and (\d+)", header).groups())
    counts = numbers[:, 0] * INSTRUCTIONS
    return counts.min(), counts.mean(), counts.max(), flash, ram


def rows(options):
    for environment, neurons, kind in product(options.env, options.neurons, (RSNN, IntegerRSNN)):
        network = kind(neurons, gain_in=0.3)
        policy = ecpolicy.EvolvingConnectivityPolicy(
            network=network, n_generations=2, population_size=16, max_episode_steps=50, random_state=0
        ).fit(environment)
        activity = record_activity(policy, environment, max_episode_steps=options.steps)
        for core in CORES:
            least, mean, most, flash, ram = measure(policy, activity.observations, activity.actions, core)
            yield {
                "task": environment, "network": repr(network), "core": core, "least instructions a step": least,
                "mean": mean, "most": most, "a substep": mean / network.substeps,
                "us at 180 MHz": mean / network.substeps / MEGAHERTZ, "bytes of flash": flash, "of RAM": ram,
            }  # fmt: skip
