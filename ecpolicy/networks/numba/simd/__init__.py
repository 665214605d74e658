"""SIMD building blocks for Numba: values that hold whole blocks of lanes, and the few operations the kernels need.

A ``Bits`` value holds one bit per lane in 64-bit words; a ``Counts`` value holds one int8 per lane, and a ``Sums``
value one float32, int32 or int16. The functions have no Python body to fall back on; call them from ``@njit`` code
only.
"""

from ecpolicy.networks.numba.simd.counting import (
    add_counts,
    append_bits,
    append_copies,
    count_common,
    less,
    load_signed,
    minus_common,
    no_counts,
    plus_common,
    sixteen_fold,
    tally,
)  # fmt: skip
from ecpolicy.networks.numba.simd.neurons import filter_integers, fire, fire_cells, fire_integers
from ecpolicy.networks.numba.simd.vectors import Bits
from ecpolicy.networks.numba.simd.words import (
    any_bit,
    bit_not,
    carry_bit,
    less_bit,
    load,
    minus_where,
    negative_lanes,
    no_bits,
    no_sums,
    plus_short,
    plus_where,
    random_words,
    same_bit,
    store,
    store_sums,
    sum_bit,
)  # fmt: skip

__all__ = [
    "Bits", "add_counts", "any_bit", "append_bits", "append_copies", "bit_not", "carry_bit", "count_common",
    "filter_integers", "fire", "fire_cells", "fire_integers", "less", "less_bit", "load", "load_signed", "minus_common",
    "minus_where", "negative_lanes", "no_bits", "no_counts", "no_sums", "plus_common", "plus_short", "plus_where",
    "random_words", "same_bit", "sixteen_fold", "store", "store_sums", "sum_bit", "tally",
]  # fmt: skip
