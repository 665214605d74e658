"""A policy of integers as one C99 header without any floating point, but where the caller asks for it."""

from collections.abc import Mapping

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ecpolicy.export.c_parts import WORD, check_name, counting, decode, number, numbers, standardized
from ecpolicy.networks import IntegerRSNN
from ecpolicy.networks.layout import LARGEST_COUNT, LARGEST_CURRENT, LARGEST_READOUT, READOUT_SHIFT, WEIGHT_SHIFT
from ecpolicy.normalization import Standardizer
from ecpolicy.spaces import box_bounds
from ecpolicy.untyped import Space


def integer_c_header(
    network: IntegerRSNN,
    connectivity: Mapping[str, NDArray[np.bool_]],
    standardizer: Standardizer,
    initial_potentials: NDArray[np.int16],
    action_space: Space,
    *,
    name: str,
    real: str,
) -> str:
    """Write the header; see :meth:`ecpolicy.EvolvingConnectivityPolicy.to_c`.

    Raises
    ------
    TypeError
        Where C has no type for the actions.
    ValueError
        Where ``name`` is not a C identifier.
    """
    check_name(name)
    observed, (n, outputs) = connectivity["input"].shape[0] // 2, connectivity["output"].shape
    shift_syn, shift_m, shift_out, threshold, scale_in, scale_out = network.constants(observed)
    counts, size, words, planes = counting(name, connectivity, network.n_excitatory)
    moments, standardize = standardized(name, standardizer, real)
    decoding, number_type, actions = decode(action_space, f"{name}_number", real)
    if isinstance(action_space, gym.spaces.Box):  # its decoding needs floats: in integers, the output is clipped
        bounded = box_bounds(action_space).bounded
        unit, action_type = round(1 / scale_out), "int32_t"
        deciding = "".join(
            f"    action[{a}] = {f'{name}_clamp(output[{a}], {unit}, {unit})' if bounded[a] else f'output[{a}]'};\n"
            for a in range(actions)
        )
        meaning = f"{actions} of int32_t, in which {unit} is the upper and -{unit} the lower bound of the environment's"
    else:
        deciding, action_type = decode(action_space, f"{name}_action")[0], number_type
        meaning = f"{actions} of {action_type}, as the environment takes it"
    state, stack = 4 * n + 4 * words + 4 * outputs, 2 * n + 4 * words * planes
    current, count, readout = (f"{most}, {most - 1}" for most in (LARGEST_CURRENT, LARGEST_COUNT, LARGEST_READOUT))
    big = name.upper()
    return f"""\
/* A spiking policy of integers with 1-bit connections, written by ecpolicy. C99 or C++11; nothing is allocated, and no
   floating point is used.

   {name}_state state;
   {name}_reset(&state);              at the start of every episode
   {name}_step(&state, x, action);    once in every step of the environment

   x: {observed} of int16_t in [-{LARGEST_CURRENT}, {LARGEST_CURRENT - 1}]:
   the observation, standardised, times {scale_in:g}, rounded.
   action: {meaning}.
   {n} neurons ({network.n_excitatory} excitatory), {network.substeps} substeps of {network.dt:g} ms in a step.
   Tables: {size + 2 * n} bytes, to be kept in flash. State: {state} bytes of RAM, and {stack} of stack in a step.

   Where {big}_FLOAT is defined, {name}_observe makes x of an observation as the environment gives it, and {name}_act
   does all: from such an observation to an action as the environment takes it. Right shifts of negative numbers must
   keep the sign, as they do in all compilers that are known to us. */
#ifndef {big}_H
#define {big}_H

#include <stdint.h>

#define {big}_OBSERVATIONS {observed}
#define {big}_NEURONS {n}
#define {big}_ACTIONS {actions}

typedef {action_type} {name}_action;

typedef struct {{
    int16_t v[{n}];         /* membrane potentials; the threshold is {threshold} */
    int16_t i_syn[{n}];     /* synaptic currents */
    uint32_t spikes[{words}];   /* of the last substep */
    int32_t readout[{outputs}];    /* filtered spike counts of the outputs */
}} {name}_state;

static const int16_t {name}_v0[{n}] = {{
{numbers(initial_potentials)}}};

{counts}
/* The nearest number in [-low, high]. */
static inline int32_t {name}_clamp(int32_t value, int32_t low, int32_t high) {{
    return value < -low ? -low : value > high ? high : value;
}}

static inline void {name}_reset({name}_state *s) {{
    for (int j = 0; j < {n}; j++) {{
        s->v[j] = {name}_v0[j];
        s->i_syn[j] = 0;
    }}
    for (int w = 0; w < {words}; w++) s->spikes[w] = 0;
    for (int a = 0; a < {outputs}; a++) s->readout[a] = 0;
}}

/* One step of the network: the raw outputs, before they become an action. */
static inline void {name}_forward({name}_state *s, const int16_t *x, int32_t *output) {{
    int16_t i_in[{n}];
    uint32_t planes[{planes}][{words}];
    for (int j = 0; j < {n}; j++) {{
        int32_t sum = 0;
        for (int d = 0; d < {observed}; d++) {{
            if ({name}_k_in[d][j / {WORD}] >> (j % {WORD}) & 1u) sum += x[d];
            if ({name}_k_in[{observed} + d][j / {WORD}] >> (j % {WORD}) & 1u) sum -= x[d];
        }}
        i_in[j] = (int16_t){name}_clamp(sum, {current});
    }}
    for (int substep = 0; substep < {network.substeps}; substep++) {{
        const int used = {name}_receive(s->spikes, planes);
        for (int w = 0; w < {words}; w++) {{
            uint32_t fired = 0;
            for (int j = {WORD} * w; j < {WORD} * w + {WORD} && j < {n}; j++) {{
                const int32_t count = {name}_clamp({name}_received(planes, used, j), {count});
                int32_t i_syn = s->i_syn[j], v = s->v[j];
                i_syn = {name}_clamp(i_syn - (i_syn >> {shift_syn}) + {1 << WEIGHT_SHIFT} * count, {current});
                s->i_syn[j] = (int16_t)i_syn;
                v += (i_syn + i_in[j] - v) >> {shift_m};
                if (v > {threshold}) {{
                    fired |= (uint32_t)1 << (j % {WORD});
                    v = 0;
                }}
                s->v[j] = (int16_t)v;
            }}
            s->spikes[w] = fired;
        }}
        for (int a = 0; a < {outputs}; a++) {{
            const int32_t total = (int32_t){1 << READOUT_SHIFT} * {name}_count({name}_k_out[a], s->spikes);
            s->readout[a] = {name}_clamp(s->readout[a] - (s->readout[a] >> {shift_out}) + total, {readout});
        }}
    }}
    for (int a = 0; a < {outputs}; a++) output[a] = s->readout[a];
}}

static inline void {name}_step({name}_state *s, const int16_t *x, {name}_action *action) {{
    int32_t output[{outputs}];
    {name}_forward(s, x, output);
{deciding}}}

#ifdef {big}_FLOAT

#include <math.h>

typedef {number_type} {name}_number;

{moments}

static inline void {name}_observe(const {real} *observation, int16_t *x) {{
    for (int d = 0; d < {observed}; d++) {{
{standardize}        float scaled = rintf((float)value * {number(np.float32(scale_in))});
        if (scaled < {-LARGEST_CURRENT}.0f) scaled = {-LARGEST_CURRENT}.0f;
        if (scaled > {LARGEST_CURRENT - 1}.0f) scaled = {LARGEST_CURRENT - 1}.0f;
        x[d] = (int16_t)scaled;
    }}
}}

static inline void {name}_act({name}_state *s, const {real} *observation, {name}_number *action) {{
    int16_t x[{observed}];
    int32_t readout[{outputs}];
    float output[{outputs}];
    {name}_observe(observation, x);
    {name}_forward(s, x, readout);
    for (int a = 0; a < {outputs}; a++) output[a] = {number(np.float32(scale_out))} * (float)readout[a];
{decoding}}}

#endif
#endif
"""
