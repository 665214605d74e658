"""A 1-bit spiking policy as one C99 header: packed connections, sums by bits, no allocation."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecpolicy.export.c_parts import WORD, check_name, counting, decode, number, numbers, standardized
from ecpolicy.networks import RSNN
from ecpolicy.networks.cells import CellConstants
from ecpolicy.networks.layout import FLUSH
from ecpolicy.normalization import Standardizer
from ecpolicy.untyped import Space


class Neurons(NamedTuple):
    """C of what neurons have: the constants of neuron j as expressions, and what refractory periods take."""

    decay_syn: str
    decay_m: str
    r_in: str
    r_h: str
    threshold: str = "1.0f"
    tables: str = ""
    state: str = ""  # a member of the struct
    reset: str = ""
    hold: str = ""  # before a potential is compared
    begin: str = ""  # after a spike


def own_constants(name: str, cells: CellConstants) -> Neurons:
    """Those of neurons that have constants of their own, as tables."""
    single, n = ("decay_syn", "decay_m", "r_in", "r_h", "threshold"), cells.threshold.size
    tables = "".join(
        f"static const {kind} {name}_{key}[{n}] = {{\n{numbers(getattr(cells, key))}}};\n"
        for key, kind in {**dict.fromkeys(single, "float"), "refractory": "int32_t"}.items()
    )
    return Neurons(*(f"{name}_{key}[j]" for key in single))._replace(
        tables=f"\n/* Constants of every neuron; refractory periods are in substeps. */\n{tables}",
        state=f"    int32_t held[{n}];       /* substeps that are left of the refractory period */\n",
        reset="        s->held[j] = 0;\n",
        hold="""\
            if (s->held[j] > 0) {
                s->held[j]--;
                v = 0.0f;
            }
""",
        begin=f"                s->held[j] = {name}_refractory[j];\n",
    )


def c_header(
    network: RSNN,
    connectivity: Mapping[str, NDArray[np.bool_]],
    standardizer: Standardizer,
    initial_potentials: NDArray[np.float32],
    action_space: Space,
    *,
    name: str,
    real: str,
) -> str:
    """Write the header; see :meth:`ecpolicy.EvolvingConnectivityPolicy.to_c`.

    Every floating-point operation is that of the library's kernel, in the same order and precision, where ``real`` is
    "double". Actions are equal bit for bit where the compiler keeps to IEEE arithmetic.

    Raises
    ------
    TypeError
        Where C has no type for the actions.
    ValueError
        Where ``name`` is not a C identifier.
    """
    check_name(name)
    observed, (n, outputs) = connectivity["input"].shape[0] // 2, connectivity["output"].shape
    cells = network.constants(observed)
    decay_out, r_out, per_dt = (number(cells[k]) for k in (2, 5, 6))
    counts, size, words, planes = counting(name, connectivity, network.n_excitatory)
    moments, standardize = standardized(name, standardizer, real)
    constants = size + 4 * n + (16 if real == "double" else 8) * observed
    state, stack = 8 * n + 4 * words + 4 * outputs, 4 * (n + words * planes)
    if network.are_alike:
        own = Neurons(*(number(cells[k]) for k in (0, 1, 3, 4)))
    else:
        own = own_constants(name, cells)
        constants, state = constants + 24 * n, state + 4 * n
    decoding, action_type, action_size = decode(action_space, f"{name}_action", real)
    equal = "bit for bit" if real == "double" else "to rounding"
    return f"""\
/* A spiking policy with 1-bit connections, written by ecpolicy. C99 or C++11; nothing is allocated.

   {name}_state state;
   {name}_reset(&state);                        at the start of every episode
   {name}_step(&state, observation, action);    once in every step of the environment

   observation: {observed} numbers as the environment gives them, flattened; action: {action_size} of {action_type}.
   {n} neurons ({network.n_excitatory} excitatory), {network.substeps} substeps of {network.dt:g} ms in a step.
   Tables: {constants} bytes, to be kept in flash. State: {state} bytes of RAM, and {stack} of stack in a step.

   Actions equal those of the library {equal} where floats are IEEE 754 and products are not fused with
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
    float v[{n}];           /* membrane potentials */
    float i_syn[{n}];       /* synaptic currents */
    uint32_t spikes[{words}];   /* of the last substep */
    float readout[{outputs}];      /* filtered spike counts of the outputs */
{own.state}}} {name}_state;

static const float {name}_v0[{n}] = {{
{numbers(initial_potentials)}}};
{moments}
{own.tables}
{counts}
static inline void {name}_reset({name}_state *s) {{
    for (int j = 0; j < {n}; j++) {{
        s->v[j] = {name}_v0[j];
        s->i_syn[j] = 0.0f;
{own.reset}    }}
    for (int w = 0; w < {words}; w++) s->spikes[w] = 0;
    for (int a = 0; a < {outputs}; a++) s->readout[a] = 0.0f;
}}

/* One step of the network: the raw outputs, before they become an action. */
static inline void {name}_forward({name}_state *s, const {real} *observation, float *output) {{
    float i_in[{n}];
    uint32_t planes[{planes}][{words}];
    for (int j = 0; j < {n}; j++) i_in[j] = 0.0f;
    for (int d = 0; d < {observed}; d++) {{
{standardize}        const float x = (float)value;
        for (int j = 0; j < {n}; j++) {{
            if ({name}_k_in[d][j / {WORD}] >> (j % {WORD}) & 1u) i_in[j] += x;
            if ({name}_k_in[{observed} + d][j / {WORD}] >> (j % {WORD}) & 1u) i_in[j] -= x;
        }}
    }}
    for (int j = 0; j < {n}; j++) {{
        i_in[j] *= {own.r_in};
        if (fabsf(s->i_syn[j]) < {number(FLUSH)}) s->i_syn[j] = 0.0f;
        if (fabsf(s->v[j]) < {number(FLUSH)}) s->v[j] = 0.0f;
    }}
    for (int a = 0; a < {outputs}; a++)
        if (fabsf(s->readout[a]) < {number(FLUSH)}) s->readout[a] = 0.0f;

    for (int substep = 0; substep < {network.substeps}; substep++) {{
        const int used = {name}_receive(s->spikes, planes);
        for (int w = 0; w < {words}; w++) s->spikes[w] = 0;
        for (int j = 0; j < {n}; j++) {{
            const int count = {name}_received(planes, used, j);
            s->i_syn[j] = {own.decay_syn} * s->i_syn[j] + {own.r_h} * (float)count;
            const float u = s->i_syn[j] + i_in[j];
            float v = u + {own.decay_m} * (s->v[j] - u);
{own.hold}            if (v > {own.threshold}) {{
                s->spikes[j / {WORD}] |= (uint32_t)1 << (j % {WORD});
{own.begin}                v = 0.0f;
            }}
            s->v[j] = v;
        }}
        for (int a = 0; a < {outputs}; a++) {{
            const float total = (float){name}_count({name}_k_out[a], s->spikes) * {per_dt};
            s->readout[a] = total + {decay_out} * (s->readout[a] - total);
        }}
    }}
    for (int a = 0; a < {outputs}; a++) output[a] = {r_out} * s->readout[a];
}}

static inline void {name}_step({name}_state *s, const {real} *observation, {name}_action *action) {{
    float output[{outputs}];
    {name}_forward(s, observation, output);
{decoding}}}

#endif
"""
