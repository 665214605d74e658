"""Vectors of LLVM for Numba: values that hold whole blocks of lanes, and how they are made of, and read from, others.

Numba has no vector types. The intrinsics of this package emit LLVM vector instructions directly, so the same code
becomes AVX2, AVX-512 or NEON. No fast-math flag is set anywhere: LLVM neither contracts nor reorders floating-point
operations, and the results are those of the scalar formulas.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numba.extending
from llvmlite import ir
from llvmlite.ir import IRBuilder, Value
from numba import types
from numba.core.cpu import CPUContext as Context
from numba.core.datamodel.manager import DataModelManager
from numba.core.typing.templates import Signature
from numba.extending import models, register_model

from ecpolicy.networks.numba.compiling import Kernel

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32 = ir.FloatType()
intrinsic: Callable[..., Kernel] = numba.extending.intrinsic  # what it makes is called with values
Values: TypeAlias = Sequence[Value]
FLOATS = 16  # float32 or int32 lanes handled at a time: one AVX-512 register, two of AVX2
SHORTS = 32  # int16 lanes, likewise


class Bits(types.Type):
    """``words`` 64-bit words, one bit per lane."""

    def __init__(self, words: int) -> None:
        self.words, self.vector = words, ir.VectorType(I64, words)
        super().__init__(f"Bits({words})")


class Counts(types.Type):
    """One int8 for each of the 64 lanes of ``words`` words."""

    def __init__(self, words: int) -> None:
        self.words, self.vector = words, ir.VectorType(I8, 64 * words)
        super().__init__(f"Counts({words})")


class Sums(types.Type):
    """One float32, int32 or int16 for each of the 64 lanes of ``words`` words."""

    def __init__(self, words: int, dtype: types.Number) -> None:
        self.words, self.dtype = words, dtype
        self.vector = ir.VectorType({types.float32: F32, types.int32: I32, types.int16: I16}[dtype], 64 * words)
        super().__init__(f"Sums({words}, {dtype})")


@register_model(Bits)
@register_model(Counts)
@register_model(Sums)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: DataModelManager, kind: Bits | Counts | Sums) -> None:
        super().__init__(manager, kind, kind.vector)  # type: ignore[no-untyped-call]


def splat(builder: IRBuilder, scalar: Value, lanes: int) -> Value:
    """A vector with ``scalar`` in every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    vector = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(vector, undefined, shuffle_indices([0] * lanes))


def shuffle_indices(values: Sequence[int]) -> ir.Constant:
    """Lane numbers as ``shuffle_vector`` takes them."""
    return ir.Constant(ir.VectorType(I32, len(values)), list(values))


def lanes_of(builder: IRBuilder, vector: Value, start: int, count: int) -> Value:
    """Lanes ``start`` to ``start + count`` of a vector."""
    undefined = ir.Constant(vector.type, ir.Undefined)
    return builder.shuffle_vector(vector, undefined, shuffle_indices(range(start, start + count)))


def joined(builder: IRBuilder, parts: Values) -> Value:
    """The lanes of all parts, a power of two of them, in one vector."""
    while len(parts) > 1:
        both = shuffle_indices(range(2 * parts[0].type.count))
        parts = [builder.shuffle_vector(a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def pointer_into(
    context: Context, builder: IRBuilder, kind: types.Array, array: Value, offset: Value, pointee: ir.Type
) -> Value:
    """A pointer to element ``offset`` of a C-contiguous array, cast to ``pointee``."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), pointee.as_pointer())


def has_masks(context: Context) -> bool:
    """Whether instructions take one bit per lane as their mask (AVX-512); elsewhere bits are widened to lanes first."""
    return "+avx512bw" in context.codegen().magic_tuple()[2]


def zeros(kind: type[Bits] | type[Counts]) -> Kernel:
    """An intrinsic that makes values of this kind, of so many words (a compile-time constant), all zero."""

    def typed(typing_context, words):  # type: ignore[no-untyped-def]
        made = kind(words.literal_value)

        def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
            return ir.Constant(made.vector, None)

        return made(words), codegen

    made_by: Kernel = intrinsic(prefer_literal=True)(typed)
    return made_by
