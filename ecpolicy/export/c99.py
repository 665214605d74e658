"""A 1-bit spiking policy as one C99 header: packed connections, popcounts, no allocation."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks import RSNN
from ecpolicy.networks.layout import FLUSH, pack
from ecpolicy.normalization import Standardizer
from ecpolicy.spaces import action_outputs, box_bounds

WORD = 32  # bits: what a microcontroller has
TYPES = {
    "float32": "float", "float64": "double",
    "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t",
}  # fmt: skip


def c_header(
    network: RSNN,
    connectivity: Mapping[str, NDArray[np.bool_]],
    standardizer: Standardizer,
    initial_potentials: NDArray[np.float32],
    action_space: gym.Space[Any],
    *,
    name: str,
) -> str:
    """Write the header; see :meth:`ecpolicy.EvolvingConnectivityPolicy.to_c`.

    Every floating-point operation is that of the library's kernel, in the same order and precision, and constants are
    written in hexadecimal. Actions are equal bit for bit where the compiler keeps to IEEE arithmetic.

    Raises
    ------
    TypeError
        Where C has no type for the actions.
    ValueError
        Where ``name`` is not a C identifier.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a C identifier, the prefix of what the header defines; got {name!r}.")
    inputs, recurrent, output = (connectivity[key] for key in ("input", "recurrent", "output"))
    observed, n, outputs = inputs.shape[0] // 2, network.n_neurons, action_outputs(action_space)
    words = -(-n // WORD)
    decay_syn, decay_m, decay_out, r_in, r_h, r_out, per_dt = network.constants(observed)
    mean, inverse_std, clip = standardizer
    excitatory = np.arange(n) < network.n_excitatory
    packed = {"in": _pack(inputs), "h": _pack(recurrent.T), "out": _pack(output.T)}
    constants = sum(array.nbytes for array in packed.values()) + 4 * words + 4 * n + 16 * observed
    state = 8 * n + 4 * words + 4 * outputs
    decode, action_type, action_size = _decode(action_space, name)
    tables = "\n".join(
        f"static const uint32_t {name}_k_{key}[{rows.shape[0]}][{words}] = {{\n{_rows(rows)}}};"
        for key, rows in packed.items()
    )
    return f"""\
/* A spiking policy with 1-bit connections, written by ecpolicy. C99; nothing is allocated.

   {name}_state state;
   {name}_reset(&state);                        at the start of every episode
   {name}_step(&state, observation, action);    once in every step of the environment

   observation: {observed} numbers as the environment gives them, flattened; action: {action_size} of {action_type}.
   {n} neurons ({network.n_excitatory} excitatory), {network.substeps} substeps of {network.dt:g} ms in a step.
   Tables: {constants} bytes, to be kept in flash. State: {state} bytes of RAM, and {4 * n} of stack in a step.

   Actions equal those of the library bit for bit where floats are IEEE 754 and products are not fused with
   additions: compile with -ffp-contract=off (clang reads it here), and not with -ffast-math. */
#ifndef {name.upper()}_H
#define {name.upper()}_H

#include <math.h>
#include <stdint.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define {name.upper()}_OBSERVATIONS {observed}
#define {name.upper()}_NEURONS {n}
#define {name.upper()}_ACTIONS {action_size}

typedef {action_type} {name}_action;

typedef struct {{
    float v[{n}];           /* membrane potentials; the threshold is 1 */
    float i_syn[{n}];       /* synaptic currents */
    uint32_t spikes[{words}];   /* of the last substep */
    float readout[{outputs}];      /* filtered spike counts of the outputs */
}} {name}_state;

/* Connections, one bit each: inputs by observation (the second half takes it with the sign changed), the others by
   postsynaptic neuron or output. */
{tables}
static const uint32_t {name}_excitatory[{words}] = {{{_words(_pack(excitatory[None])[0])}}};
static const float {name}_v0[{n}] = {{
{_numbers(initial_potentials)}}};
static const double {name}_mean[{observed}] = {{
{_numbers(mean)}}};
static const double {name}_inverse_std[{observed}] = {{
{_numbers(inverse_std)}}};

static inline int {name}_popcount(uint32_t x) {{
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_popcount(x);
#else
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    return (int)((((x + (x >> 4)) & 0x0F0F0F0Fu) * 0x01010101u) >> 24);
#endif
}}

/* Excitatory less inhibitory spikes among the connected neurons. */
static inline int {name}_count(const uint32_t *row, const uint32_t *excitatory, const uint32_t *inhibitory) {{
    int count = 0;
    for (int w = 0; w < {words}; w++)
        count += {name}_popcount(row[w] & excitatory[w]) - {name}_popcount(row[w] & inhibitory[w]);
    return count;
}}

static inline void {name}_reset({name}_state *s) {{
    for (int j = 0; j < {n}; j++) {{
        s->v[j] = {name}_v0[j];
        s->i_syn[j] = 0.0f;
    }}
    for (int w = 0; w < {words}; w++) s->spikes[w] = 0;
    for (int a = 0; a < {outputs}; a++) s->readout[a] = 0.0f;
}}

/* One step of the network: the raw outputs, before they become an action. */
static inline void {name}_forward({name}_state *s, const double *observation, float *output) {{
    float i_in[{n}];
    uint32_t excitatory[{words}], inhibitory[{words}];
    for (int j = 0; j < {n}; j++) i_in[j] = 0.0f;
    for (int d = 0; d < {observed}; d++) {{
        double value = (observation[d] - {name}_mean[d]) * {name}_inverse_std[d];
        if (value > {_number(clip)}) value = {_number(clip)};
        if (value < {_number(-clip)}) value = {_number(-clip)};
        const float x = (float)value;
        for (int j = 0; j < {n}; j++) {{
            if ({name}_k_in[d][j / {WORD}] >> (j % {WORD}) & 1u) i_in[j] += x;
            if ({name}_k_in[{observed} + d][j / {WORD}] >> (j % {WORD}) & 1u) i_in[j] -= x;
        }}
    }}
    for (int j = 0; j < {n}; j++) {{
        i_in[j] *= {_number(r_in)};
        if (fabsf(s->i_syn[j]) < {_number(FLUSH)}) s->i_syn[j] = 0.0f;
        if (fabsf(s->v[j]) < {_number(FLUSH)}) s->v[j] = 0.0f;
    }}
    for (int a = 0; a < {outputs}; a++)
        if (fabsf(s->readout[a]) < {_number(FLUSH)}) s->readout[a] = 0.0f;

    for (int substep = 0; substep < {network.substeps}; substep++) {{
        for (int w = 0; w < {words}; w++) {{
            excitatory[w] = s->spikes[w] & {name}_excitatory[w];
            inhibitory[w] = s->spikes[w] & ~{name}_excitatory[w];
            s->spikes[w] = 0;
        }}
        for (int j = 0; j < {n}; j++) {{
            const int count = {name}_count({name}_k_h[j], excitatory, inhibitory);
            s->i_syn[j] = {_number(decay_syn)} * s->i_syn[j] + {_number(r_h)} * (float)count;
            const float u = s->i_syn[j] + i_in[j];
            float v = u + {_number(decay_m)} * (s->v[j] - u);
            if (v > 1.0f) {{
                s->spikes[j / {WORD}] |= 1u << (j % {WORD});
                v = 0.0f;
            }}
            s->v[j] = v;
        }}
        for (int w = 0; w < {words}; w++) {{
            excitatory[w] = s->spikes[w] & {name}_excitatory[w];
            inhibitory[w] = s->spikes[w] & ~{name}_excitatory[w];
        }}
        for (int a = 0; a < {outputs}; a++) {{
            const float total = (float){name}_count({name}_k_out[a], excitatory, inhibitory) * {_number(per_dt)};
            s->readout[a] = total + {_number(decay_out)} * (s->readout[a] - total);
        }}
    }}
    for (int a = 0; a < {outputs}; a++) output[a] = {_number(r_out)} * s->readout[a];
}}

static inline void {name}_step({name}_state *s, const double *observation, {name}_action *action) {{
    float output[{outputs}];
    {name}_forward(s, observation, output);
{decode}}}

#endif
"""


def _decode(space: gym.Space[Any], name: str) -> tuple[str, str, int]:
    """C that turns ``output`` into ``action``, the type of an action's numbers, and how many they are."""
    dtype = str(np.dtype(space.dtype))
    if dtype not in TYPES:
        raise TypeError(f"C has no type for actions of {dtype}; wanted {', '.join(TYPES)}.")
    if isinstance(space, gym.spaces.Discrete):
        return _largest([int(space.n)], [int(space.start)], name), TYPES[dtype], 1
    if isinstance(space, gym.spaces.MultiDiscrete):
        sizes, starts = space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist()
        return _largest(sizes, starts, name), TYPES[dtype], len(sizes)
    n = action_outputs(space)
    if isinstance(space, gym.spaces.MultiBinary):
        return f"    for (int a = 0; a < {n}; a++) action[a] = output[a] > 0.0f;\n", TYPES[dtype], n
    assert isinstance(space, gym.spaces.Box)
    bounds = box_bounds(space)
    lines = []
    for a in range(n):
        low, high, middle, half = (float(part[a]) for part in bounds[:4])
        if not bounds.bounded[a]:
            lines.append(f"    y = output[{a}];")
        else:
            clipped = f"(output[{a}] > 1.0f ? 1.0f : output[{a}] < -1.0f ? -1.0f : output[{a}])"
            lines.append(f"    y = {_number(middle)} + {_number(half)} * (double){clipped};")
        if np.issubdtype(space.dtype, np.integer):
            lines.append("    y = rint(y);")
        if np.isfinite(low):
            lines.append(f"    if (y < {_number(low)}) y = {_number(low)};")
        if np.isfinite(high):
            lines.append(f"    if (y > {_number(high)}) y = {_number(high)};")
        lines.append(f"    action[{a}] = ({name}_action)y;")
    return "\n".join(["    double y;", *lines, ""]), TYPES[dtype], n


def _largest(sizes: list[int], starts: list[int], name: str) -> str:
    """The position of the largest output of each component, the first where several are."""
    first, lines = 0, ["    int best;"]
    for a, (size, start) in enumerate(zip(sizes, starts, strict=True)):
        lines += [
            f"    best = {first};",
            f"    for (int k = {first + 1}; k < {first + size}; k++) if (output[k] > output[best]) best = k;",
            f"    action[{a}] = ({name}_action)(best - {first} + {start});",
        ]
        first += size
    return "\n".join([*lines, ""])


def _pack(rows: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Words (rows, words) of booleans (rows, bits), least significant bit first."""
    words = pack(rows).astype("<u8").view("<u4")[:, : -(-rows.shape[1] // WORD)]
    return words.astype(np.uint32)


def _rows(words: NDArray[np.uint32]) -> str:
    return "".join(f"    {{{_words(row)}}},\n" for row in words)


def _words(row: Iterable[Any]) -> str:
    return ", ".join(f"0x{int(word):08x}u" for word in row)


def _numbers(values: NDArray[Any]) -> str:
    """Lines of four numbers."""
    text = [_number(value) for value in values]
    return "".join("    " + " ".join(f"{item}," for item in text[k : k + 4]) + "\n" for k in range(0, len(text), 4))


def _number(value: Any) -> str:
    """A literal of exactly this number: a float for float32, otherwise a double."""
    return float(value).hex() + ("f" if isinstance(value, np.float32) else "")
