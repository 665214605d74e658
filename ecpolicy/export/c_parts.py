"""What C headers of policies are made of: literals, tables of connections, counting along them, actions."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ecpolicy.networks.layout import pack
from ecpolicy.normalization import Standardizer
from ecpolicy.spaces import action_outputs, box_bounds
from ecpolicy.untyped import Space

WORD = 32  # bits: what a microcontroller has
TYPES = {
    "float32": "float", "float64": "double",
    "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t",
}  # fmt: skip


def decode(space: Space, kind: str, real: str = "double") -> tuple[str, str, int]:
    """C that turns ``output`` into ``action``, the type of an action's numbers, and how many they are.

    ``kind`` is what the header calls this type, ``real`` the type of its arithmetic.
    """
    number, dtype = literal(real), str(np.dtype(space.dtype))
    if dtype not in TYPES:
        raise TypeError(f"C has no type for actions of {dtype}; wanted {', '.join(TYPES)}.")
    if isinstance(space, gym.spaces.Discrete):
        return _largest([int(space.n)], [int(space.start)], kind), TYPES[dtype], 1
    if isinstance(space, gym.spaces.MultiDiscrete):
        sizes, starts = space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist()
        return _largest(sizes, starts, kind), TYPES[dtype], len(sizes)
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
            lines.append(f"    y = {number(middle)} + {number(half)} * ({real}){clipped};")
        if np.issubdtype(space.dtype, np.integer):
            lines.append(f"    y = {'rint' if real == 'double' else 'rintf'}(y);")
        if np.isfinite(low):
            lines.append(f"    if (y < {number(low)}) y = {number(low)};")
        if np.isfinite(high):
            lines.append(f"    if (y > {number(high)}) y = {number(high)};")
        lines.append(f"    action[{a}] = ({kind})y;")
    return "\n".join([f"    {real} y;", *lines, ""]), TYPES[dtype], n


def _largest(sizes: list[int], starts: list[int], kind: str) -> str:
    """The position of the largest output of each component, the first where several are."""
    first, lines = 0, ["    int best;"]
    for a, (size, start) in enumerate(zip(sizes, starts, strict=True)):
        lines += [
            f"    best = {first};",
            f"    for (int k = {first + 1}; k < {first + size}; k++) if (output[k] > output[best]) best = k;",
            f"    action[{a}] = ({kind})(best - {first} + {start});",
        ]
        first += size
    return "\n".join([*lines, ""])


def packed(bits: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Words (rows, words) of booleans (rows, bits), least significant bit first."""
    words = pack(bits).astype("<u8").view("<u4")[:, : -(-bits.shape[1] // WORD)]
    return words.astype(np.uint32)


def rows(words: NDArray[np.uint32]) -> str:
    """The elements of an array of arrays, a line each."""
    return "".join(f"    {{{row(part)}}},\n" for part in words)


def row(words: Iterable[int | np.integer]) -> str:
    """Words in hexadecimal."""
    return ", ".join(f"0x{int(word):08x}u" for word in words)


def numbers(values: np.ndarray) -> str:
    """Lines of eight numbers."""
    text = [number(value) for value in values]
    return "".join("    " + " ".join(f"{item}," for item in text[k : k + 8]) + "\n" for k in range(0, len(text), 8))


def number(value: float | np.number) -> str:
    """The shortest decimal literal that is read as exactly this number: of float for float32, of double for others.

    C++ has hexadecimal ones only since 2017.
    """
    if isinstance(value, int | np.integer):
        return str(int(value))
    return f"{value}f" if isinstance(value, np.float32) else repr(float(value))


def literal(real: str) -> Callable[[float | np.number], str]:
    """What writes numbers as literals of this type."""
    return number if real == "double" else lambda value: number(np.float32(value))


class Counting(NamedTuple):
    """C that counts spikes along connections."""

    text: str
    size: int  # bytes of its tables
    words: int  # that hold a bit for each neuron
    planes: int  # that hold a count for each neuron


def counting(name: str, connectivity: Mapping[str, NDArray[np.bool_]], n_excitatory: int) -> Counting:
    """The packed connections, and the functions that count spikes along them.

    Without recurrent connections there is no table of them, and neurons receive nothing.
    """
    n = len(connectivity["output"])
    excitatory = packed((np.arange(n) < n_excitatory)[None])
    k = {"in": packed(connectivity["input"]), "out": packed(connectivity["output"].T)}
    words, planes, receiving = excitatory.shape[1], 1, _receiving_nothing(name, excitatory.shape[1])
    if connectivity["recurrent"].any():
        k["h"], planes = packed(connectivity["recurrent"]), max(n_excitatory, n - n_excitatory).bit_length() + 1
        receiving = _receiving(name, words, planes)
    matrices = "\n".join(
        f"static const uint32_t {name}_k_{key}[{part.shape[0]}][{words}] = {{\n{rows(part)}}};"
        for key, part in k.items()
    )
    text = f"""\
/* Connections, one bit each: of observations (the second half takes them with the sign changed), and of presynaptic
   neurons, to neurons; and of each output from neurons. */
{matrices}
static const uint32_t {name}_excitatory[{words}] = {{{row(excitatory[0])}}};

static inline int {name}_popcount(uint32_t x) {{
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_popcountl(x);
#else
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    return (int)((((x + (x >> 4)) & 0x0F0F0F0Fu) * 0x01010101u) >> 24);
#endif
}}

/* Excitatory less inhibitory spikes among the connected neurons. */
static inline int {name}_count(const uint32_t *row, const uint32_t *spikes) {{
    int count = 0;
    for (int w = 0; w < {words}; w++) {{
        const uint32_t reaching = row[w] & spikes[w];
        count += 2 * {name}_popcount(reaching & {name}_excitatory[w]) - {name}_popcount(reaching);
    }}
    return count;
}}

{receiving}"""
    return Counting(text, sum(part.nbytes for part in k.values()) + excitatory.nbytes, words, planes)


def _receiving(name: str, words: int, planes: int) -> str:
    """C that counts the spikes that reach each neuron.

    Spikes are few, so the rows of those that fire are added up: 32 counters at a time, a bit of each to a word.
    """
    return f"""\
/* The same for all neurons at once: the rows of those that fired are added, or subtracted, in 32 counters at a time.
   Plane p holds bit p of each, in two's complement; returns the number of planes in use. */
static inline int {name}_receive(const uint32_t *spikes, uint32_t planes[{planes}][{words}]) {{
    int excitatory = 0, inhibitory = 0, used = 1;
    for (int w = 0; w < {words}; w++) {{
        excitatory += {name}_popcount(spikes[w] & {name}_excitatory[w]);
        inhibitory += {name}_popcount(spikes[w] & ~{name}_excitatory[w]);
    }}
    while ((excitatory | inhibitory) >> (used - 1)) used++;
    for (int p = 0; p < used; p++)
        for (int w = 0; w < {words}; w++) planes[p][w] = 0;
    for (int w = 0; w < {words}; w++) {{
        uint32_t left = spikes[w], excites = {name}_excitatory[w];
        for (int j = {WORD} * w; left; j++, left >>= 1, excites >>= 1) {{
            const uint32_t flip = excites & 1u ? 0u : 0xFFFFFFFFu;
            if (!(left & 1u)) continue;
            for (int k = 0; k < {words}; k++) {{
                uint32_t carry = {name}_k_h[j][k];
                for (int p = 0; carry && p < used; p++) {{
                    const uint32_t before = planes[p][k];
                    planes[p][k] = before ^ carry;
                    carry &= before ^ flip;
                }}
            }}
        }}
    }}
    return used;
}}

/* The counter of neuron j. */
static inline int {name}_received(uint32_t planes[{planes}][{words}], int used, int j) {{
    int count = -(int)(planes[used - 1][j / {WORD}] >> (j % {WORD}) & 1u);
    for (int p = used - 2; p >= 0; p--)
        count = 2 * count + (int)(planes[p][j / {WORD}] >> (j % {WORD}) & 1u);
    return count;
}}
"""


def _receiving_nothing(name: str, words: int) -> str:
    """The same functions where no neuron reaches another."""
    return f"""\
/* There are no recurrent connections: no spike reaches a neuron. */
static inline int {name}_receive(const uint32_t *spikes, uint32_t planes[1][{words}]) {{
    (void)spikes;
    (void)planes;
    return 0;
}}

static inline int {name}_received(uint32_t planes[1][{words}], int used, int j) {{
    (void)planes;
    (void)j;
    return used;
}}
"""


def check_name(name: str) -> None:
    """Raise unless it is a C identifier."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a C identifier, the prefix of what the header defines; got {name!r}.")


def standardized(name: str, standardizer: Standardizer, real: str) -> tuple[str, str]:
    """Tables of the mean and the inverse deviation, and C that makes ``value`` of ``observation[d]``, standardised."""
    number, as_real = literal(real), np.float32 if real == "float" else np.float64
    mean, inverse_std, clip = standardizer
    arrays = {"mean": mean, "inverse_std": inverse_std}
    text = "\n".join(
        f"static const {real} {name}_{key}[{part.size}] = {{\n{numbers(part.astype(as_real))}}};"
        for key, part in arrays.items()
    )
    return (
        text,
        f"""\
        {real} value = (observation[d] - {name}_mean[d]) * {name}_inverse_std[d];
        if (value > {number(clip)}) value = {number(clip)};
        if (value < {number(-clip)}) value = {number(-clip)};
""",
    )
