"""Counting spikes: rows of firing neurons are added up in every lane, bits that are set in two words are counted."""

from collections.abc import Sequence

from llvmlite import ir
from llvmlite.ir import IRBuilder, Value
from numba import types
from numba.core import cgutils
from numba.core.cpu import CPUContext as Context
from numba.core.typing.templates import Signature

from ecpolicy.networks.numba.compiling import Kernel
from ecpolicy.networks.numba.simd import vectors
from ecpolicy.networks.numba.simd.vectors import (
    I1,
    I8,
    I32,
    I64,
    Counts,
    Values,
    intrinsic,
    joined,
    lanes_of,
    pointer_into,
    shuffle_indices,
    splat,
    zeros,
)


def _expand(builder: IRBuilder, bits: Value, words: int) -> Value:
    """One int8 per lane: -1 where the lane's bit is set, else 0 (shuffle, and, compare on AVX2)."""
    lanes = 64 * words
    source = builder.bitcast(bits, ir.VectorType(I8, lanes // 8))
    undefined = ir.Constant(source.type, ir.Undefined)
    spread = builder.shuffle_vector(source, undefined, shuffle_indices([lane // 8 for lane in range(lanes)]))
    bit_of_byte = [1, 2, 4, 8, 16, 32, 64, -128]
    select = ir.Constant(spread.type, [bit_of_byte[lane % 8] for lane in range(lanes)])
    return builder.sext(builder.icmp_signed("==", builder.and_(spread, select), select), spread.type)


no_counts = zeros(Counts)


@intrinsic
def load_signed(typing_context, array, offsets, i, word, masks, keep, invert, like):  # type: ignore[no-untyped-def]
    """``Bits`` at ``array[offsets[i] + word]``, as many words as ``like`` has; ``offsets`` are int32, not negative.

    They are complemented where ``masks[invert + i]`` is all ones, then zeroed where ``masks[keep + i]`` is zero.
    """

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        def at(k: int, index: Value, pointee: ir.Type) -> Value:
            return pointer_into(context, builder, signature.args[k], args[k], index, pointee)

        offset = builder.zext(builder.load(at(1, args[2], I32), align=4), I64)
        row = builder.load(at(0, builder.add(offset, args[3]), args[7].type), align=8)
        keep, invert = (
            splat(builder, builder.load(at(4, builder.add(first, args[2]), I64)), signature.args[7].words)
            for first in args[5:7]
        )
        return builder.and_(builder.xor(row, invert), keep)

    return like(array, offsets, types.intp, types.intp, masks, types.intp, types.intp, like), codegen


@intrinsic
def append_bits(typing_context, numbers, n, spikes, byte, starts, table):  # type: ignore[no-untyped-def]
    """Append ``starts[byte] + table[8 b : 8 b + 8]`` to the first ``n`` numbers, for the byte ``b = spikes[byte]``.

    All numbers are int32. Eight are written, to spare branches; returned is ``n`` plus the number of bits of ``b``.
    """

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        def at(k: int, index: Value, pointee: ir.Type) -> Value:
            return pointer_into(context, builder, signature.args[k], args[k], index, pointee)

        eight = ir.VectorType(I32, 8)
        b = builder.zext(builder.load(at(2, args[3], I8)), I64)
        entry = builder.load(at(5, builder.shl(b, ir.Constant(I64, 3)), eight), align=4)
        start = splat(builder, builder.load(at(4, args[3], I32)), 8)
        builder.store(builder.add(entry, start), at(0, args[1], eight), align=4)
        return builder.add(args[1], builder.ctpop(b))

    return types.intp(numbers, types.intp, spikes, types.intp, starts, table), codegen


@intrinsic
def append_copies(typing_context, numbers, n, value):  # type: ignore[no-untyped-def]
    """``numbers[n : n + 16] = value`` for int32 numbers."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        values = splat(builder, builder.trunc(args[2], I32), 16)
        builder.store(values, pointer_into(context, builder, signature.args[0], args[0], args[1], values.type), align=4)
        return context.get_dummy_value()

    return types.none(numbers, types.intp, types.intp), codegen


@intrinsic
def tally(typing_context, counts, bits):  # type: ignore[no-untyped-def]
    """``counts`` plus one in every lane whose bit is set."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        words = signature.args[1].words
        if not vectors.has_masks(context):
            return builder.sub(args[0], _expand(builder, args[1], words))
        parts = []
        for w in range(words):
            mask = builder.bitcast(builder.extract_element(args[1], ir.Constant(I32, w)), ir.VectorType(I1, 64))
            before = lanes_of(builder, args[0], 64 * w, 64)
            parts.append(builder.select(mask, builder.add(before, ir.Constant(before.type, [1] * 64)), before))
        return joined(builder, parts)

    return counts(counts, bits), codegen


def _mixed(builder: IRBuilder, a: Value, b: Value, mask: int, shift: int) -> tuple[Value, Value]:
    """The fields of ``mask`` of both, those of b above those of a; and the fields between them likewise."""
    every = 0x0101010101010101
    low, high, by = (ir.Constant(a.type, [n] * a.type.count) for n in (every * mask, every * (255 - mask), shift))
    return (
        builder.or_(builder.and_(a, low), builder.shl(builder.and_(b, low), by)),
        builder.or_(builder.lshr(builder.and_(a, high), by), builder.and_(b, high)),
    )


def _interleaved(builder: IRBuilder, a: Value, b: Value, bits: int) -> Value:
    """a[0], b[0], a[1], b[1], ... in units of so many bits."""
    unit = ir.VectorType(ir.IntType(bits), a.type.count * a.type.element.width // bits)
    a, b = (builder.bitcast(vector, unit) for vector in (a, b))
    order = [k // 2 + unit.count * (k % 2) for k in range(2 * unit.count)]
    return builder.shuffle_vector(a, b, shuffle_indices(order))


@intrinsic
def sixteen_fold(typing_context, counts, eights, fours, twos, ones):  # type: ignore[no-untyped-def]
    """``16 counts + 8 eights + 4 fours + 2 twos + ones`` in every lane, modulo 256; four bits first become a nibble."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        counts, eights, fours, twos, ones = args
        words = signature.args[1].words
        even, odd = zip(_mixed(builder, ones, twos, 0x55, 1), _mixed(builder, fours, eights, 0x55, 1), strict=True)
        (first, third), (second, fourth) = (_mixed(builder, *pair, 0x33, 2) for pair in (even, odd))
        twofold = _interleaved(builder, first, second, 8), _interleaved(builder, third, fourth, 8)
        pairs = builder.bitcast(_interleaved(builder, twofold[0], twofold[1], 16), ir.VectorType(I64, 4 * words))
        four, nibbles = (ir.Constant(pairs.type, [n] * 4 * words) for n in (4, 0x0F0F0F0F0F0F0F0F))
        low, high = builder.and_(pairs, nibbles), builder.and_(builder.lshr(pairs, four), nibbles)
        added = builder.bitcast(_interleaved(builder, low, high, 32), counts.type)
        return builder.add(builder.shl(counts, ir.Constant(counts.type, [4] * counts.type.count)), added)

    return counts(counts, eights, fours, twos, ones), codegen


@intrinsic
def less(typing_context, counts, number):  # type: ignore[no-untyped-def]
    """The counts less a number, modulo 256."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return builder.sub(args[0], splat(builder, builder.trunc(args[1], I8), 64 * signature.args[0].words))

    return counts(counts, types.intp), codegen


@intrinsic
def add_counts(typing_context, array, counts, factor):  # type: ignore[no-untyped-def]
    """``array[:lanes] += factor * counts`` for an int32 array."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        lanes = 64 * signature.args[1].words
        values = builder.sext(args[1], ir.VectorType(I32, lanes))
        start = ir.Constant(I64, 0)
        pointer = pointer_into(context, builder, signature.args[0], args[0], start, values.type)
        scaled = builder.mul(values, splat(builder, args[2], lanes))
        builder.store(builder.add(builder.load(pointer, align=4), scaled), pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, counts, types.int32), codegen


def _common(context: Context, builder: IRBuilder, kinds: Sequence[types.Array], arrays: Values, at: Value) -> Value:
    """The bits that two arrays of words have in common at an index."""
    first, second = (
        builder.load(pointer_into(context, builder, kind, array, at, I64), align=8)
        for kind, array in zip(kinds, arrays, strict=True)
    )
    return builder.and_(first, second)


@intrinsic
def count_common(typing_context, words, mask, w):  # type: ignore[no-untyped-def]
    """Number of bits that are set in ``words[w]`` and in ``mask[w]``."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return builder.ctpop(_common(context, builder, signature.args[:2], args[:2], args[2]))

    return types.int64(words, mask, types.intp), codegen


def _common_bits(operation: str) -> Kernel:
    """An intrinsic that adds to every total, or subtracts from it, the number of bits that a row shares with a word."""

    def typed(typing_context, totals, array, offset, words, mask, w):  # type: ignore[no-untyped-def]
        def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
            kind = args[0].type
            word = _common(context, builder, signature.args[3:5], args[3:5], args[5])
            row = builder.load(pointer_into(context, builder, signature.args[1], args[1], args[2], kind), align=8)
            both = builder.and_(row, splat(builder, word, kind.count))
            function = ir.FunctionType(kind, [kind])
            count = cgutils.get_or_insert_function(builder.module, function, f"llvm.ctpop.v{kind.count}i64")
            return getattr(builder, operation)(args[0], builder.call(count, [both]))

        return totals(totals, array, types.intp, words, mask, types.intp), codegen

    return intrinsic(typed)


# (totals, array, offset, words, mask, w): each of the totals, plus or less the number of bits that its word of
# array[offset:] has in common with words[w] & mask[w].
plus_common = _common_bits("add")


minus_common = _common_bits("sub")
