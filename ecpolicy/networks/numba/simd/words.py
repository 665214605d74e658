"""Bits of lanes in words, and sums of the lanes whose bit is set: loading, storing, logic, random words."""

from collections.abc import Callable

from llvmlite import ir
from llvmlite.ir import IRBuilder, Value
from numba import types
from numba.core.cpu import CPUContext as Context
from numba.core.typing.templates import Signature

from ecpolicy.networks.numba.compiling import Kernel
from ecpolicy.networks.numba.simd import vectors
from ecpolicy.networks.numba.simd.vectors import (
    FLOATS,
    I1,
    I32,
    I64,
    SHORTS,
    Bits,
    Sums,
    Values,
    intrinsic,
    joined,
    lanes_of,
    pointer_into,
    splat,
    zeros,
)
from ecpolicy.random import PARITY, ROTATIONS

no_bits = zeros(Bits)


@intrinsic(prefer_literal=True)
def no_sums(typing_context, words, like):  # type: ignore[no-untyped-def]
    """``Sums`` for ``words`` words (a compile-time constant) of the type of the number ``like``, all +0."""
    kind = Sums(words.literal_value, like)

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return ir.Constant(kind.vector, None)

    return kind(words, like), codegen


@intrinsic(prefer_literal=True)
def load(typing_context, array, offset, words):  # type: ignore[no-untyped-def]
    """``Bits`` of ``array[offset : offset + words]``."""
    kind = Bits(words.literal_value)

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        pointer = pointer_into(context, builder, signature.args[0], args[0], args[1], kind.vector)
        return builder.load(pointer, align=8)

    return kind(array, types.intp, words), codegen


@intrinsic
def store(typing_context, array, offset, bits):  # type: ignore[no-untyped-def]
    """``array[offset : offset + words] = bits``."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        pointer = pointer_into(context, builder, signature.args[0], args[0], args[1], args[2].type)
        builder.store(args[2], pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.intp, bits), codegen


def _bitwise(operation: Callable[..., Value]) -> Kernel:
    """An intrinsic on three values of the same ``Bits`` type."""

    def typed(typing_context, a, b, c):  # type: ignore[no-untyped-def]
        def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
            return operation(builder, *args)

        return a(a, a, a), codegen

    return intrinsic(typed)


sum_bit = _bitwise(lambda b, x, y, z: b.xor(b.xor(x, y), z))
carry_bit = _bitwise(lambda b, x, y, z: b.or_(b.and_(x, y), b.and_(b.xor(x, y), z)))


less_bit = _bitwise(lambda b, undecided, r, t: b.and_(undecided, b.and_(b.not_(r), t)))
same_bit = _bitwise(lambda b, undecided, r, t: b.and_(undecided, b.not_(b.xor(r, t))))


@intrinsic
def bit_not(typing_context, bits):  # type: ignore[no-untyped-def]
    """Complement of every bit."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return builder.not_(args[0])

    return bits(bits), codegen


@intrinsic
def any_bit(typing_context, bits):  # type: ignore[no-untyped-def]
    """True where at least one bit is set."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        whole = ir.IntType(64 * signature.args[0].words)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], whole), ir.Constant(whole, 0))

    return types.boolean(bits), codegen


def _where(operation: str) -> Kernel:
    """An intrinsic that adds a number to, or subtracts it from, the ``Sums`` whose bit is set in a row of words."""

    def typed(typing_context, sums, array, offset, value):  # type: ignore[no-untyped-def]
        def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
            change = getattr(builder, f"f{operation}" if sums.dtype == types.float32 else operation)
            masked, width = vectors.has_masks(context), sums.dtype.bitwidth
            lanes = SHORTS if masked and width == 16 else FLOATS
            values, integer = splat(builder, args[3], lanes), ir.IntType(lanes if masked else width)
            start = pointer_into(context, builder, signature.args[1], args[1], args[2], integer)
            parts = []
            for lane in range(0, 64 * sums.words, lanes):
                before = lanes_of(builder, args[0], lane, lanes)
                place = builder.gep(start, [ir.Constant(I32, lane // integer.width)])
                bits = builder.load(place, align=integer.width // 8)
                if masked:
                    mask = builder.bitcast(bits, ir.VectorType(I1, lanes))
                    parts.append(builder.select(mask, change(before, values), before))
                else:
                    bit = ir.Constant(ir.VectorType(integer, lanes), [1 << (lane + k) % width for k in range(lanes)])
                    mask = builder.icmp_signed("==", builder.and_(splat(builder, bits, lanes), bit), bit)
                    parts.append(change(before, builder.select(mask, values, ir.Constant(values.type, None))))
            return joined(builder, parts)

        return sums(sums, array, types.intp, sums.dtype), codegen

    return intrinsic(typed)


# (sums, array, offset, value): the sums whose bit is set in array[offset : offset + words], plus or less the value. The
# others are left alone or have 0 added to them, which is the same unless a sum is -0.
plus_where = _where("add")


minus_where = _where("sub")


@intrinsic
def plus_short(typing_context, sums, short):  # type: ignore[no-untyped-def]
    """The int32 sums plus those in int16."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return builder.add(args[0], builder.sext(args[1], args[0].type))

    return sums(sums, short), codegen


@intrinsic
def store_sums(typing_context, array, offset, sums):  # type: ignore[no-untyped-def]
    """``array[offset : offset + lanes] = sums``."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        pointer = pointer_into(context, builder, signature.args[0], args[0], args[1], args[2].type)
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, sums), codegen


@intrinsic
def negative_lanes(typing_context, array, offset):  # type: ignore[no-untyped-def]
    """A word with bit ``j`` set where int32 ``array[offset + j]`` is negative, for 64 elements."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        pointer = pointer_into(context, builder, signature.args[0], args[0], args[1], ir.VectorType(I32, 64))
        values = builder.load(pointer, align=4)
        return builder.bitcast(builder.icmp_signed("<", values, ir.Constant(values.type, None)), I64)

    return types.uint64(array, types.intp), codegen


@intrinsic(prefer_literal=True)
def random_words(typing_context, key0, key1, first, plane, words):  # type: ignore[no-untyped-def]
    """``Bits`` of Threefry-2x32-20 for the counters ``(first + k, plane)``, ``k < words``; the low half is output 0."""
    kind = Bits(words.literal_value)

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        n = kind.words
        keys = [splat(builder, builder.trunc(args[k], I32), n) for k in (0, 1)]
        lanes = keys[0].type

        def constant(value: int) -> ir.Constant:
            return ir.Constant(lanes, [value] * n)

        keys.append(builder.xor(builder.xor(keys[0], keys[1]), constant(PARITY)))
        first = splat(builder, builder.trunc(args[2], I32), n)
        x0 = builder.add(builder.add(first, ir.Constant(lanes, list(range(n)))), keys[0])
        x1 = builder.add(splat(builder, builder.trunc(args[3], I32), n), keys[1])
        for block in range(5):
            for rotation in ROTATIONS[block % 2]:
                x0 = builder.add(x0, x1)
                rotated = builder.or_(builder.shl(x1, constant(rotation)), builder.lshr(x1, constant(32 - rotation)))
                x1 = builder.xor(rotated, x0)
            x0 = builder.add(x0, keys[(block + 1) % 3])
            x1 = builder.add(builder.add(x1, keys[(block + 2) % 3]), constant(block + 1))
        wide = ir.VectorType(I64, n)
        high = builder.shl(builder.zext(x1, wide), ir.Constant(wide, [32] * n))
        return builder.or_(builder.zext(x0, wide), high)

    return kind(types.uint64, types.uint64, types.uint64, types.uint64, words), codegen
