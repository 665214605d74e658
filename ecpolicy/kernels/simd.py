"""SIMD building blocks for Numba: values that hold whole blocks of lanes, and the few operations the kernels need.

Numba has no vector types. The intrinsics below emit LLVM vector instructions directly, so the same code becomes AVX2,
AVX-512 or NEON. A ``Bits`` value holds one bit per lane in 64-bit words; a ``Counts`` value holds one int8 per lane,
and a ``Floats`` value one float32. No fast-math flag is set anywhere: LLVM neither contracts nor reorders
floating-point operations, and the results are those of the scalar formulas.

The functions have no Python body to fall back on; call them from ``@njit`` code only.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from ecpolicy.random import PARITY, ROTATIONS

I1, I8, I32, I64, F32 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_intrinsic: Callable[..., Any] = intrinsic  # what it makes is called with values, not with their types
FLOATS = 16  # float32 lanes handled at a time: one AVX-512 register, two of AVX2


class Bits(types.Type):
    """``words`` 64-bit words, one bit per lane."""

    def __init__(self, words: int) -> None:
        self.words = words
        super().__init__(f"Bits({words})")


class Counts(types.Type):
    """One int8 for each of the 64 lanes of ``words`` words."""

    def __init__(self, words: int) -> None:
        self.words = words
        super().__init__(name=f"Counts({words})")


class Floats(types.Type):
    """One float32 for each of the 64 lanes of ``words`` words."""

    def __init__(self, words: int) -> None:
        self.words = words
        super().__init__(name=f"Floats({words})")


@register_model(Bits)
class _BitsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Bits) -> None:
        super().__init__(manager, kind, ir.VectorType(I64, kind.words))  # type: ignore[no-untyped-call]


@register_model(Counts)
class _CountsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Counts) -> None:
        super().__init__(manager, kind, ir.VectorType(I8, 64 * kind.words))  # type: ignore[no-untyped-call]


@register_model(Floats)
class _FloatsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Floats) -> None:
        super().__init__(manager, kind, ir.VectorType(F32, 64 * kind.words))  # type: ignore[no-untyped-call]


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector with ``scalar`` in every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    vector = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(vector, undefined, _indices([0] * lanes))


def _indices(values: Sequence[int]) -> Any:
    return ir.Constant(ir.VectorType(I32, len(values)), list(values))


def _lanes(builder: Any, vector: Any, start: int, count: int) -> Any:
    """Lanes ``start`` to ``start + count`` of a vector."""
    undefined = ir.Constant(vector.type, ir.Undefined)
    return builder.shuffle_vector(vector, undefined, _indices(range(start, start + count)))


def _joined(builder: Any, parts: Sequence[Any]) -> Any:
    """The lanes of all parts, a power of two of them, in one vector."""
    while len(parts) > 1:
        both = _indices(range(2 * parts[0].type.count))
        parts = [builder.shuffle_vector(a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, pointee: Any) -> Any:
    """A pointer to element ``offset`` of a C-contiguous array, cast to ``pointee``."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), pointee.as_pointer())


def _expand(builder: Any, bits: Any, words: int) -> Any:
    """One int8 per lane: -1 where the lane's bit is set, else 0 (shuffle, and, compare on AVX2)."""
    lanes = 64 * words
    source = builder.bitcast(bits, ir.VectorType(I8, lanes // 8))
    undefined = ir.Constant(source.type, ir.Undefined)
    spread = builder.shuffle_vector(source, undefined, _indices([lane // 8 for lane in range(lanes)]))
    bit_of_byte = [1, 2, 4, 8, 16, 32, 64, -128]
    select = ir.Constant(spread.type, [bit_of_byte[lane % 8] for lane in range(lanes)])
    return builder.sext(builder.icmp_signed("==", builder.and_(spread, select), select), spread.type)


@_intrinsic(prefer_literal=True)
def no_bits(typing_context, words):  # type: ignore[no-untyped-def]
    """``Bits`` of ``words`` words (a compile-time constant), all zero."""
    kind = Bits(words.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(ir.VectorType(I64, kind.words), None)

    return kind(words), codegen


@_intrinsic(prefer_literal=True)
def no_counts(typing_context, words):  # type: ignore[no-untyped-def]
    """``Counts`` for ``words`` words (a compile-time constant), all zero."""
    kind = Counts(words.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(ir.VectorType(I8, 64 * kind.words), None)

    return kind(words), codegen


@_intrinsic(prefer_literal=True)
def no_floats(typing_context, words):  # type: ignore[no-untyped-def]
    """``Floats`` for ``words`` words (a compile-time constant), all +0."""
    kind = Floats(words.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(ir.VectorType(F32, 64 * kind.words), None)

    return kind(words), codegen


@_intrinsic(prefer_literal=True)
def load(typing_context, array, offset, words):  # type: ignore[no-untyped-def]
    """``Bits`` of ``array[offset : offset + words]``."""
    kind = Bits(words.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], ir.VectorType(I64, kind.words))
        return builder.load(pointer, align=8)

    return kind(array, types.intp, words), codegen


@_intrinsic
def store(typing_context, array, offset, bits):  # type: ignore[no-untyped-def]
    """``array[offset : offset + words] = bits``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], args[2].type)
        builder.store(args[2], pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.intp, bits), codegen


def _bitwise(operation: Callable[..., Any]) -> Any:
    """An intrinsic on three values of the same ``Bits`` type."""

    def typed(typing_context, a, b, c):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return operation(builder, *args)

        return a(a, a, a), codegen

    return _intrinsic(typed)


sum_bit = _bitwise(lambda b, x, y, z: b.xor(b.xor(x, y), z))
carry_bit = _bitwise(lambda b, x, y, z: b.or_(b.and_(x, y), b.and_(b.xor(x, y), z)))
less_bit = _bitwise(lambda b, undecided, r, t: b.and_(undecided, b.and_(b.not_(r), t)))
same_bit = _bitwise(lambda b, undecided, r, t: b.and_(undecided, b.not_(b.xor(r, t))))


@_intrinsic
def bit_not(typing_context, bits):  # type: ignore[no-untyped-def]
    """Complement of every bit."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.not_(args[0])

    return bits(bits), codegen


@_intrinsic
def any_bit(typing_context, bits):  # type: ignore[no-untyped-def]
    """True where at least one bit is set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = ir.IntType(64 * signature.args[0].words)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], whole), ir.Constant(whole, 0))

    return types.boolean(bits), codegen


@_intrinsic
def load_signed(typing_context, array, offset, masks, keep, excite, like):  # type: ignore[no-untyped-def]
    """``Bits`` of a row, complemented where ``masks[excite]`` is zero, then zeroed where ``masks[keep]`` is zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = signature.args[5].words
        row = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1], args[5].type), align=8)
        keep, excite = (
            _splat(builder, builder.load(_pointer(context, builder, signature.args[2], args[2], at, I64)), words)
            for at in (args[3], args[4])
        )
        return builder.and_(builder.not_(builder.xor(row, excite)), keep)

    return like(array, types.intp, masks, types.intp, types.intp, like), codegen


@_intrinsic
def tally(typing_context, counts, bits):  # type: ignore[no-untyped-def]
    """``counts`` plus one in every lane whose bit is set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sub(args[0], _expand(builder, args[1], signature.args[1].words))

    return counts(counts, bits), codegen


@_intrinsic
def double(typing_context, counts):  # type: ignore[no-untyped-def]
    """Twice the counts."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.add(args[0], args[0])

    return counts(counts), codegen


@_intrinsic
def add_counts(typing_context, array, counts, factor):  # type: ignore[no-untyped-def]
    """``array[:lanes] += factor * counts`` for an int32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = 64 * signature.args[1].words
        values = builder.sext(args[1], ir.VectorType(I32, lanes))
        start = ir.Constant(I64, 0)
        pointer = _pointer(context, builder, signature.args[0], args[0], start, values.type)
        scaled = builder.mul(values, _splat(builder, args[2], lanes))
        builder.store(builder.add(builder.load(pointer, align=4), scaled), pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, counts, types.int32), codegen


@_intrinsic
def add_where(typing_context, array, offset, bits, value):  # type: ignore[no-untyped-def]
    """``array[offset : offset + lanes] += value`` in the lanes whose bit is set; float32 or int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = 64 * signature.args[2].words
        mask = builder.bitcast(args[2], ir.VectorType(I1, lanes))
        values = _splat(builder, args[3], FLOATS)
        start = _pointer(context, builder, signature.args[0], args[0], args[1], values.type)
        is_float = signature.args[0].dtype == types.float32
        add, zero = (builder.fadd, [0.0] * FLOATS) if is_float else (builder.add, None)
        for part in range(lanes // FLOATS):
            pointer = builder.gep(start, [ir.Constant(I32, part)])
            chosen = builder.select(
                _lanes(builder, mask, part * FLOATS, FLOATS), values, ir.Constant(values.type, zero)
            )
            builder.store(add(builder.load(pointer, align=4), chosen), pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, bits, array.dtype), codegen


@_intrinsic
def plus_where(typing_context, floats, array, offset, value):  # type: ignore[no-untyped-def]
    """``floats + value`` in the lanes whose bit is set in ``array[offset : offset + words]``.

    The others are left alone, where :func:`add_where` adds +0: the same unless the lane is -0.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask = ir.VectorType(I1, FLOATS)
        start = _pointer(context, builder, signature.args[1], args[1], args[2], ir.IntType(FLOATS))
        values = _splat(builder, args[3], FLOATS)
        parts = []
        for part in range(64 * signature.args[0].words // FLOATS):
            bits = builder.bitcast(builder.load(builder.gep(start, [ir.Constant(I32, part)]), align=2), mask)
            before = _lanes(builder, args[0], part * FLOATS, FLOATS)
            parts.append(builder.select(bits, builder.fadd(before, values), before))
        return _joined(builder, parts)

    return floats(floats, array, types.intp, types.float32), codegen


@_intrinsic
def store_floats(typing_context, array, offset, floats):  # type: ignore[no-untyped-def]
    """``array[offset : offset + lanes] = floats`` for a float32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], args[2].type)
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, floats), codegen


@_intrinsic
def fire(  # type: ignore[no-untyped-def]
    typing_context, v, i_syn, i_in, spikes, word, eights, rest, surplus, bias, decay_syn, decay_m, r_h
):
    """One Euler step of a block of neurons from their synaptic counts ``8 eights + rest + surplus - bias``.

    ``i_syn = decay_syn i_syn + r_h count``; ``u = i_syn + i_in``; ``v = u + decay_m (v - u)``; a neuron with ``v > 1``
    spikes and is reset to 0. Updates ``v`` and ``i_syn`` in place and writes the block's spike words.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = 64 * signature.args[5].words
        floats, ints = ir.VectorType(F32, FLOATS), ir.VectorType(I32, FLOATS)
        lane = builder.mul(args[4], ir.Constant(I64, 64))
        v_start, syn_start, in_start = (
            _pointer(context, builder, signature.args[k], args[k], lane, floats) for k in range(3)
        )
        spike_start = _pointer(context, builder, signature.args[3], args[3], args[4], ir.IntType(FLOATS))
        surplus_start = _pointer(context, builder, signature.args[7], args[7], ir.Constant(I64, 0), ints)
        bias = _splat(builder, args[8], FLOATS)
        decay_syn, decay_m, r_h = (_splat(builder, args[k], FLOATS) for k in (9, 10, 11))
        zero, one = ir.Constant(floats, [0.0] * FLOATS), ir.Constant(floats, [1.0] * FLOATS)
        three = ir.Constant(ints, [3] * FLOATS)
        for part in range(lanes // FLOATS):
            index = [ir.Constant(I32, part)]
            eights, rest = (builder.sext(_lanes(builder, args[k], part * FLOATS, FLOATS), ints) for k in (5, 6))
            count = builder.sub(builder.add(builder.shl(eights, three), rest), bias)
            count = builder.add(count, builder.load(builder.gep(surplus_start, index), align=4))
            count = builder.sitofp(count, floats)
            pointer = builder.gep(syn_start, index)
            current = builder.fadd(builder.fmul(decay_syn, builder.load(pointer, align=4)), builder.fmul(r_h, count))
            builder.store(current, pointer, align=4)
            target = builder.fadd(current, builder.load(builder.gep(in_start, index), align=4))
            pointer = builder.gep(v_start, index)
            potential = builder.fadd(
                target, builder.fmul(decay_m, builder.fsub(builder.load(pointer, align=4), target))
            )
            spike = builder.fcmp_ordered(">", potential, one)
            builder.store(builder.select(spike, zero, potential), pointer, align=4)
            builder.store(builder.bitcast(spike, ir.IntType(FLOATS)), builder.gep(spike_start, index))
        return context.get_dummy_value()

    signature = types.none(
        v, i_syn, i_in, spikes, types.intp, eights, rest, surplus,
        types.int32, types.float32, types.float32, types.float32,
    )  # fmt: skip
    return signature, codegen


@_intrinsic
def negative_lanes(typing_context, array, offset):  # type: ignore[no-untyped-def]
    """A word with bit ``j`` set where int32 ``array[offset + j]`` is negative, for 64 elements."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], ir.VectorType(I32, 64))
        values = builder.load(pointer, align=4)
        return builder.bitcast(builder.icmp_signed("<", values, ir.Constant(values.type, None)), I64)

    return types.uint64(array, types.intp), codegen


@_intrinsic(prefer_literal=True)
def random_words(typing_context, key0, key1, first, plane, words):  # type: ignore[no-untyped-def]
    """``Bits`` of Threefry-2x32-20 for the counters ``(first + k, plane)``, ``k < words``; the low half is output 0."""
    kind = Bits(words.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n = kind.words
        keys = [_splat(builder, builder.trunc(args[k], I32), n) for k in (0, 1)]
        lanes = keys[0].type

        def constant(value: int) -> Any:
            return ir.Constant(lanes, [value] * n)

        keys.append(builder.xor(builder.xor(keys[0], keys[1]), constant(PARITY)))
        first = _splat(builder, builder.trunc(args[2], I32), n)
        x0 = builder.add(builder.add(first, ir.Constant(lanes, list(range(n)))), keys[0])
        x1 = builder.add(_splat(builder, builder.trunc(args[3], I32), n), keys[1])
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


@_intrinsic
def popcount(typing_context, word):  # type: ignore[no-untyped-def]
    """Number of set bits of a uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@_intrinsic
def excess(typing_context, bits, among, positive):  # type: ignore[no-untyped-def]
    """Of the bits set in ``bits`` and ``among``: the number set in ``positive`` less the number of the others."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = signature.args[0].words
        kind = ir.FunctionType(args[0].type, [args[0].type])
        count = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{words}i64")  # type: ignore[no-untyped-call]
        both = builder.and_(args[0], args[1])
        ahead = builder.call(count, [builder.and_(both, args[2])])
        total = builder.sub(builder.add(ahead, ahead), builder.call(count, [both]))
        while words > 1:
            words //= 2
            total = builder.add(_lanes(builder, total, 0, words), _lanes(builder, total, words, words))
        return builder.extract_element(total, ir.Constant(I32, 0))

    return types.int64(bits, bits, bits), codegen


@_intrinsic
def lowest_bit(typing_context, word):  # type: ignore[no-untyped-def]
    """Index of the lowest set bit of a uint64; 64 for zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(I1, 0))

    return types.int64(types.uint64), codegen
