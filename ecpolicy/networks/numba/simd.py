"""SIMD building blocks for Numba: values that hold whole blocks of lanes, and the few operations the kernels need.

Numba has no vector types. The intrinsics below emit LLVM vector instructions directly, so the same code becomes AVX2,
AVX-512 or NEON. A ``Bits`` value holds one bit per lane in 64-bit words; a ``Counts`` value holds one int8 per lane,
and a ``Sums`` value one float32, int32 or int16. No fast-math flag is set anywhere: LLVM neither contracts nor reorders
floating-point operations, and the results are those of the scalar formulas.

The functions have no Python body to fall back on; call them from ``@njit`` code only.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llvmlite import ir
from llvmlite.ir import IRBuilder, Value
from numba import types
from numba.core import cgutils
from numba.core.cpu import CPUContext as Context
from numba.core.datamodel.manager import DataModelManager
from numba.core.typing.templates import Signature
from numba.extending import intrinsic, models, register_model

from ecpolicy.networks.layout import LARGEST_COUNT, LARGEST_CURRENT, LARGEST_READOUT, READOUT_SHIFT, WEIGHT_SHIFT
from ecpolicy.networks.numba.compiling import Kernel
from ecpolicy.random import PARITY, ROTATIONS

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32 = ir.FloatType()
_intrinsic: Callable[..., Kernel] = intrinsic  # what it makes is called with values, not with their types
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


def _splat(builder: IRBuilder, scalar: Value, lanes: int) -> Value:
    """A vector with ``scalar`` in every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    vector = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(vector, undefined, _indices([0] * lanes))


def _indices(values: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(I32, len(values)), list(values))


def _lanes(builder: IRBuilder, vector: Value, start: int, count: int) -> Value:
    """Lanes ``start`` to ``start + count`` of a vector."""
    undefined = ir.Constant(vector.type, ir.Undefined)
    return builder.shuffle_vector(vector, undefined, _indices(range(start, start + count)))


def _joined(builder: IRBuilder, parts: Values) -> Value:
    """The lanes of all parts, a power of two of them, in one vector."""
    while len(parts) > 1:
        both = _indices(range(2 * parts[0].type.count))
        parts = [builder.shuffle_vector(a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _pointer(
    context: Context, builder: IRBuilder, kind: types.Array, array: Value, offset: Value, pointee: ir.Type
) -> Value:
    """A pointer to element ``offset`` of a C-contiguous array, cast to ``pointee``."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), pointee.as_pointer())


def _has_masks(context: Context) -> bool:
    """Whether instructions take one bit per lane as their mask (AVX-512); elsewhere bits are widened to lanes first."""
    return "+avx512bw" in context.codegen().magic_tuple()[2]


def _expand(builder: IRBuilder, bits: Value, words: int) -> Value:
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

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return ir.Constant(kind.vector, None)

    return kind(words), codegen


@_intrinsic(prefer_literal=True)
def no_counts(typing_context, words):  # type: ignore[no-untyped-def]
    """``Counts`` for ``words`` words (a compile-time constant), all zero."""
    kind = Counts(words.literal_value)

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return ir.Constant(kind.vector, None)

    return kind(words), codegen


@_intrinsic(prefer_literal=True)
def no_sums(typing_context, words, like):  # type: ignore[no-untyped-def]
    """``Sums`` for ``words`` words (a compile-time constant) of the type of the number ``like``, all +0."""
    kind = Sums(words.literal_value, like)

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return ir.Constant(kind.vector, None)

    return kind(words, like), codegen


@_intrinsic(prefer_literal=True)
def load(typing_context, array, offset, words):  # type: ignore[no-untyped-def]
    """``Bits`` of ``array[offset : offset + words]``."""
    kind = Bits(words.literal_value)

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], kind.vector)
        return builder.load(pointer, align=8)

    return kind(array, types.intp, words), codegen


@_intrinsic
def store(typing_context, array, offset, bits):  # type: ignore[no-untyped-def]
    """``array[offset : offset + words] = bits``."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], args[2].type)
        builder.store(args[2], pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.intp, bits), codegen


def _bitwise(operation: Callable[..., Value]) -> Kernel:
    """An intrinsic on three values of the same ``Bits`` type."""

    def typed(typing_context, a, b, c):  # type: ignore[no-untyped-def]
        def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
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

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return builder.not_(args[0])

    return bits(bits), codegen


@_intrinsic
def any_bit(typing_context, bits):  # type: ignore[no-untyped-def]
    """True where at least one bit is set."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        whole = ir.IntType(64 * signature.args[0].words)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], whole), ir.Constant(whole, 0))

    return types.boolean(bits), codegen


@_intrinsic
def load_signed(typing_context, array, offsets, i, word, masks, keep, invert, like):  # type: ignore[no-untyped-def]
    """``Bits`` at ``array[offsets[i] + word]``, as many words as ``like`` has; ``offsets`` are int32, not negative.

    They are complemented where ``masks[invert + i]`` is all ones, then zeroed where ``masks[keep + i]`` is zero.
    """

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        def at(k: int, index: Value, pointee: ir.Type) -> Value:
            return _pointer(context, builder, signature.args[k], args[k], index, pointee)

        offset = builder.zext(builder.load(at(1, args[2], I32), align=4), I64)
        row = builder.load(at(0, builder.add(offset, args[3]), args[7].type), align=8)
        keep, invert = (
            _splat(builder, builder.load(at(4, builder.add(first, args[2]), I64)), signature.args[7].words)
            for first in args[5:7]
        )
        return builder.and_(builder.xor(row, invert), keep)

    return like(array, offsets, types.intp, types.intp, masks, types.intp, types.intp, like), codegen


@_intrinsic
def append_bits(typing_context, numbers, n, spikes, byte, starts, table):  # type: ignore[no-untyped-def]
    """Append ``starts[byte] + table[8 b : 8 b + 8]`` to the first ``n`` numbers, for the byte ``b = spikes[byte]``.

    All numbers are int32. Eight are written, to spare branches; returned is ``n`` plus the number of bits of ``b``.
    """

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        def at(k: int, index: Value, pointee: ir.Type) -> Value:
            return _pointer(context, builder, signature.args[k], args[k], index, pointee)

        eight = ir.VectorType(I32, 8)
        b = builder.zext(builder.load(at(2, args[3], I8)), I64)
        entry = builder.load(at(5, builder.shl(b, ir.Constant(I64, 3)), eight), align=4)
        start = _splat(builder, builder.load(at(4, args[3], I32)), 8)
        builder.store(builder.add(entry, start), at(0, args[1], eight), align=4)
        return builder.add(args[1], builder.ctpop(b))

    return types.intp(numbers, types.intp, spikes, types.intp, starts, table), codegen


@_intrinsic
def append_copies(typing_context, numbers, n, value):  # type: ignore[no-untyped-def]
    """``numbers[n : n + 16] = value`` for int32 numbers."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        values = _splat(builder, builder.trunc(args[2], I32), 16)
        builder.store(values, _pointer(context, builder, signature.args[0], args[0], args[1], values.type), align=4)
        return context.get_dummy_value()

    return types.none(numbers, types.intp, types.intp), codegen


@_intrinsic
def tally(typing_context, counts, bits):  # type: ignore[no-untyped-def]
    """``counts`` plus one in every lane whose bit is set."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        words = signature.args[1].words
        if not _has_masks(context):
            return builder.sub(args[0], _expand(builder, args[1], words))
        parts = []
        for w in range(words):
            mask = builder.bitcast(builder.extract_element(args[1], ir.Constant(I32, w)), ir.VectorType(I1, 64))
            before = _lanes(builder, args[0], 64 * w, 64)
            parts.append(builder.select(mask, builder.add(before, ir.Constant(before.type, [1] * 64)), before))
        return _joined(builder, parts)

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
    return builder.shuffle_vector(a, b, _indices(order))


@_intrinsic
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


@_intrinsic
def less(typing_context, counts, number):  # type: ignore[no-untyped-def]
    """The counts less a number, modulo 256."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return builder.sub(args[0], _splat(builder, builder.trunc(args[1], I8), 64 * signature.args[0].words))

    return counts(counts, types.intp), codegen


@_intrinsic
def add_counts(typing_context, array, counts, factor):  # type: ignore[no-untyped-def]
    """``array[:lanes] += factor * counts`` for an int32 array."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        lanes = 64 * signature.args[1].words
        values = builder.sext(args[1], ir.VectorType(I32, lanes))
        start = ir.Constant(I64, 0)
        pointer = _pointer(context, builder, signature.args[0], args[0], start, values.type)
        scaled = builder.mul(values, _splat(builder, args[2], lanes))
        builder.store(builder.add(builder.load(pointer, align=4), scaled), pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, counts, types.int32), codegen


def _where(operation: str) -> Kernel:
    """An intrinsic that adds a number to, or subtracts it from, the ``Sums`` whose bit is set in a row of words."""

    def typed(typing_context, sums, array, offset, value):  # type: ignore[no-untyped-def]
        def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
            change = getattr(builder, f"f{operation}" if sums.dtype == types.float32 else operation)
            masked, width = _has_masks(context), sums.dtype.bitwidth
            lanes = SHORTS if masked and width == 16 else FLOATS
            values, integer = _splat(builder, args[3], lanes), ir.IntType(lanes if masked else width)
            start = _pointer(context, builder, signature.args[1], args[1], args[2], integer)
            parts = []
            for lane in range(0, 64 * sums.words, lanes):
                before = _lanes(builder, args[0], lane, lanes)
                place = builder.gep(start, [ir.Constant(I32, lane // integer.width)])
                bits = builder.load(place, align=integer.width // 8)
                if masked:
                    mask = builder.bitcast(bits, ir.VectorType(I1, lanes))
                    parts.append(builder.select(mask, change(before, values), before))
                else:
                    bit = ir.Constant(ir.VectorType(integer, lanes), [1 << (lane + k) % width for k in range(lanes)])
                    mask = builder.icmp_signed("==", builder.and_(_splat(builder, bits, lanes), bit), bit)
                    parts.append(change(before, builder.select(mask, values, ir.Constant(values.type, None))))
            return _joined(builder, parts)

        return sums(sums, array, types.intp, sums.dtype), codegen

    return _intrinsic(typed)


# (sums, array, offset, value): the sums whose bit is set in array[offset : offset + words], plus or less the value. The
# others are left alone or have 0 added to them, which is the same unless a sum is -0.
plus_where = _where("add")
minus_where = _where("sub")


@_intrinsic
def plus_short(typing_context, sums, short):  # type: ignore[no-untyped-def]
    """The int32 sums plus those in int16."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        return builder.add(args[0], builder.sext(args[1], args[0].type))

    return sums(sums, short), codegen


@_intrinsic
def store_sums(typing_context, array, offset, sums):  # type: ignore[no-untyped-def]
    """``array[offset : offset + lanes] = sums``."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], args[2].type)
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, sums), codegen


def _stored(builder: IRBuilder, spike: Value, fired: Value, words: Value, start: int) -> Value:
    """Add the spikes of the lanes from ``start`` on to ``fired``, and store the word that they fill; the word so far.

    Words are written whole: the next substep reads bytes of them, and must not wait for several stores.
    """
    lanes = spike.type.count
    bits = builder.zext(builder.bitcast(spike, ir.IntType(lanes)), I64)
    fired = builder.or_(fired, builder.shl(bits, ir.Constant(I64, start % 64)))
    if (start + lanes) % 64:
        return fired
    builder.store(fired, builder.gep(words, [ir.Constant(I32, start // 64)]), align=8)
    return ir.Constant(I64, 0)


def _euler(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
    """What :func:`fire` and :func:`fire_cells` do; constants are numbers, or arrays of one for each lane."""
    words, varied = signature.args[6].words, len(args) > 10
    floats, ints = ir.VectorType(F32, FLOATS), ir.VectorType(I32, FLOATS)
    lane, origin = builder.mul(args[4], ir.Constant(I64, 64)), ir.Constant(I64, 0)

    def pointer_to(k: int, kind: ir.Type, start: Value = lane) -> Value:
        return _pointer(context, builder, signature.args[k], args[k], start, kind)

    def constant(k: int, kind: ir.Type = floats) -> Callable[[Sequence[Value]], Value]:
        """The values of a constant at an index."""
        if varied:
            start = pointer_to(k, kind)
            return lambda index: builder.load(builder.gep(start, index), align=4)
        value = _splat(builder, args[k], FLOATS)
        return lambda index: value

    v_start, syn_start, in_start = (pointer_to(k, floats) for k in range(3))
    spike_start = _pointer(context, builder, signature.args[3], args[3], args[4], I64)
    decay_syn, decay_m, r_h = (constant(k) for k in (7, 8, 9))
    in_array = isinstance(signature.args[5], types.Array)
    if in_array:
        count_start = pointer_to(5, ints, origin)
    if varied:
        threshold, refractory, held_start = constant(10), constant(11, ints), pointer_to(12, ints)
    zero, one, fired = ir.Constant(floats, None), ir.Constant(floats, [1.0] * FLOATS), ir.Constant(I64, 0)
    for start in range(0, 64 * words, FLOATS):
        index = [ir.Constant(I32, start // FLOATS)]
        if in_array:
            count = builder.load(builder.gep(count_start, index), align=4)
        else:
            count = builder.sext(_lanes(builder, args[5], start, FLOATS), ints)
        count = builder.sitofp(count, floats)
        pointer = builder.gep(syn_start, index)
        kept = builder.fmul(decay_syn(index), builder.load(pointer, align=4))
        current = builder.fadd(kept, builder.fmul(r_h(index), count))
        builder.store(current, pointer, align=4)
        target = builder.fadd(current, builder.load(builder.gep(in_start, index), align=4))
        pointer = builder.gep(v_start, index)
        gap = builder.fsub(builder.load(pointer, align=4), target)
        potential = builder.fadd(target, builder.fmul(decay_m(index), gap))
        if varied:
            held_pointer, none = builder.gep(held_start, index), ir.Constant(ints, None)
            held = builder.load(held_pointer, align=4)
            waits = builder.icmp_signed(">", held, none)
            potential = builder.select(waits, zero, potential)
            spike = builder.fcmp_ordered(">", potential, threshold(index))
            left = builder.select(waits, builder.sub(held, ir.Constant(ints, [1] * FLOATS)), none)
            builder.store(builder.select(spike, refractory(index), left), held_pointer, align=4)
        else:
            spike = builder.fcmp_ordered(">", potential, one)
        builder.store(builder.select(spike, zero, potential), pointer, align=4)
        fired = _stored(builder, spike, fired, spike_start, start)
    return context.get_dummy_value()


@_intrinsic
def fire(typing_context, v, i_syn, i_in, spikes, word, counts, like, decay_syn, decay_m, r_h):  # type: ignore[no-untyped-def]
    """One Euler step of the neurons of a block, as wide as ``like``, from their synaptic counts.

    ``i_syn = decay_syn i_syn + r_h count``; ``u = i_syn + i_in``; ``v = u + decay_m (v - u)``; a neuron with ``v > 1``
    spikes and is reset to 0. Updates ``v`` and ``i_syn`` in place and writes the block's spike words. The counts are
    ``Counts``, or the int32 numbers of an array.
    """
    single = types.float32
    return types.none(v, i_syn, i_in, spikes, types.intp, counts, like, single, single, single), _euler


@_intrinsic
def fire_cells(  # type: ignore[no-untyped-def]
    typing_context, v, i_syn, i_in, spikes, word, counts, like, decay_syn, decay_m, r_h, threshold, refractory, held
):
    """:func:`fire` with arrays of constants, one for each lane, and a number of substeps that neurons are held at 0.

    A neuron with ``held > 0`` has ``v = 0``, and ``held`` falls by one; one that spikes has ``held = refractory``.
    """
    constants = decay_syn, decay_m, r_h, threshold, refractory, held
    return types.none(v, i_syn, i_in, spikes, types.intp, counts, like, *constants), _euler


def _clamped(builder: IRBuilder, vector: Value, limit: int) -> Value:
    """The nearest numbers in [-limit, limit - 1]."""
    for comparison, bound in (("<", -limit), (">", limit - 1)):
        bounds = ir.Constant(vector.type, [bound] * vector.type.count)
        vector = builder.select(builder.icmp_signed(comparison, vector, bounds), bounds, vector)
    return vector


@_intrinsic
def fire_integers(typing_context, v, i_syn, i_in, spikes, word, counts, like, shift_syn, shift_m, threshold):  # type: ignore[no-untyped-def]
    """One substep of the neurons of a block in int16, as wide as ``like``, from their synaptic counts.

    ``i_syn = clamp(i_syn - (i_syn >> shift_syn) + (clamp(count) << WEIGHT_SHIFT))``; ``v += (i_syn + i_in - v) >>
    shift_m``; a neuron with ``v > threshold`` spikes and is reset to 0. Arguments are those of :func:`fire`.
    """

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        words, in_array = signature.args[6].words, isinstance(signature.args[5], types.Array)
        shorts, ints = ir.VectorType(I16, SHORTS), ir.VectorType(I32, SHORTS)
        lane = builder.mul(args[4], ir.Constant(I64, 64))
        v_start, syn_start, in_start = (
            _pointer(context, builder, signature.args[k], args[k], lane, shorts) for k in range(3)
        )
        spike_start = _pointer(context, builder, signature.args[3], args[3], args[4], I64)
        shift_syn, shift_m, threshold = (_splat(builder, builder.trunc(args[k], I16), SHORTS) for k in (7, 8, 9))
        weight_shift = ir.Constant(shorts, [WEIGHT_SHIFT] * SHORTS)
        if in_array:
            count_start = _pointer(context, builder, signature.args[5], args[5], ir.Constant(I64, 0), ints)
        zero, fired = ir.Constant(shorts, None), ir.Constant(I64, 0)
        for start in range(0, 64 * words, SHORTS):
            index = [ir.Constant(I32, start // SHORTS)]
            if in_array:
                wide = builder.load(builder.gep(count_start, index), align=4)
                count = builder.trunc(_clamped(builder, wide, LARGEST_COUNT), shorts)
            else:
                count = builder.sext(_lanes(builder, args[5], start, SHORTS), shorts)
            pointer = builder.gep(syn_start, index)
            current = builder.load(pointer, align=2)
            current = builder.sub(current, builder.ashr(current, shift_syn))
            current = _clamped(builder, builder.add(current, builder.shl(count, weight_shift)), LARGEST_CURRENT)
            builder.store(current, pointer, align=2)
            target = builder.add(current, builder.load(builder.gep(in_start, index), align=2))
            pointer = builder.gep(v_start, index)
            before = builder.load(pointer, align=2)
            potential = builder.add(before, builder.ashr(builder.sub(target, before), shift_m))
            spike = builder.icmp_signed(">", potential, threshold)
            builder.store(builder.select(spike, zero, potential), pointer, align=2)
            fired = _stored(builder, spike, fired, spike_start, start)
        return context.get_dummy_value()

    signature = types.none(v, i_syn, i_in, spikes, types.intp, counts, like, types.int64, types.int64, types.int64)
    return signature, codegen


@_intrinsic
def filter_integers(typing_context, readouts, offset, totals, shift_out):  # type: ignore[no-untyped-def]
    """One substep of int32 ``readouts[offset:]``, as many as there are words in ``totals``, the counts of their spikes.

    ``r = clamp(r - (r >> shift_out) + (total << READOUT_SHIFT))``.
    """

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        ints = ir.VectorType(I32, signature.args[2].words)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], ints)
        before = builder.load(pointer, align=4)
        kept = builder.sub(before, builder.ashr(before, _splat(builder, builder.trunc(args[3], I32), ints.count)))
        shift = ir.Constant(ints, [READOUT_SHIFT] * ints.count)
        after = builder.add(kept, builder.shl(builder.trunc(args[2], ints), shift))
        builder.store(_clamped(builder, after, LARGEST_READOUT), pointer, align=4)
        return context.get_dummy_value()

    return types.none(readouts, types.intp, totals, types.int64), codegen


@_intrinsic
def negative_lanes(typing_context, array, offset):  # type: ignore[no-untyped-def]
    """A word with bit ``j`` set where int32 ``array[offset + j]`` is negative, for 64 elements."""

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], ir.VectorType(I32, 64))
        values = builder.load(pointer, align=4)
        return builder.bitcast(builder.icmp_signed("<", values, ir.Constant(values.type, None)), I64)

    return types.uint64(array, types.intp), codegen


@_intrinsic(prefer_literal=True)
def random_words(typing_context, key0, key1, first, plane, words):  # type: ignore[no-untyped-def]
    """``Bits`` of Threefry-2x32-20 for the counters ``(first + k, plane)``, ``k < words``; the low half is output 0."""
    kind = Bits(words.literal_value)

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        n = kind.words
        keys = [_splat(builder, builder.trunc(args[k], I32), n) for k in (0, 1)]
        lanes = keys[0].type

        def constant(value: int) -> ir.Constant:
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


def _common(context: Context, builder: IRBuilder, kinds: Sequence[types.Array], arrays: Values, at: Value) -> Value:
    """The bits that two arrays of words have in common at an index."""
    first, second = (
        builder.load(_pointer(context, builder, kind, array, at, I64), align=8)
        for kind, array in zip(kinds, arrays, strict=True)
    )
    return builder.and_(first, second)


@_intrinsic
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
            row = builder.load(_pointer(context, builder, signature.args[1], args[1], args[2], kind), align=8)
            both = builder.and_(row, _splat(builder, word, kind.count))
            function = ir.FunctionType(kind, [kind])
            count = cgutils.get_or_insert_function(builder.module, function, f"llvm.ctpop.v{kind.count}i64")
            return getattr(builder, operation)(args[0], builder.call(count, [both]))

        return totals(totals, array, types.intp, words, mask, types.intp), codegen

    return _intrinsic(typed)


# (totals, array, offset, words, mask, w): each of the totals, plus or less the number of bits that its word of
# array[offset:] has in common with words[w] & mask[w].
plus_common = _common_bits("add")
minus_common = _common_bits("sub")
