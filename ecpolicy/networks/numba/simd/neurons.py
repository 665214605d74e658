"""A substep of a block of neurons, from the spikes that reach them: in floats and in integers."""

from collections.abc import Callable, Sequence

from llvmlite import ir
from llvmlite.ir import IRBuilder, Value
from numba import types
from numba.core.cpu import CPUContext as Context
from numba.core.typing.templates import Signature

from ecpolicy.networks.layout import LARGEST_COUNT, LARGEST_CURRENT, LARGEST_READOUT, READOUT_SHIFT, WEIGHT_SHIFT
from ecpolicy.networks.numba.simd.vectors import (
    F32,
    FLOATS,
    I16,
    I32,
    I64,
    SHORTS,
    Values,
    intrinsic,
    lanes_of,
    pointer_into,
    splat,
)


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
        return pointer_into(context, builder, signature.args[k], args[k], start, kind)

    def constant(k: int, kind: ir.Type = floats) -> Callable[[Sequence[Value]], Value]:
        """The values of a constant at an index."""
        if varied:
            start = pointer_to(k, kind)
            return lambda index: builder.load(builder.gep(start, index), align=4)
        value = splat(builder, args[k], FLOATS)
        return lambda index: value

    v_start, syn_start, in_start = (pointer_to(k, floats) for k in range(3))
    spike_start = pointer_into(context, builder, signature.args[3], args[3], args[4], I64)
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
            count = builder.sext(lanes_of(builder, args[5], start, FLOATS), ints)
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


@intrinsic
def fire(typing_context, v, i_syn, i_in, spikes, word, counts, like, decay_syn, decay_m, r_h):  # type: ignore[no-untyped-def]
    """One Euler step of the neurons of a block, as wide as ``like``, from their synaptic counts.

    ``i_syn = decay_syn i_syn + r_h count``; ``u = i_syn + i_in``; ``v = u + decay_m (v - u)``; a neuron with ``v > 1``
    spikes and is reset to 0. Updates ``v`` and ``i_syn`` in place and writes the block's spike words. The counts are
    ``Counts``, or the int32 numbers of an array.
    """
    single = types.float32
    return types.none(v, i_syn, i_in, spikes, types.intp, counts, like, single, single, single), _euler


@intrinsic
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


@intrinsic
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
            pointer_into(context, builder, signature.args[k], args[k], lane, shorts) for k in range(3)
        )
        spike_start = pointer_into(context, builder, signature.args[3], args[3], args[4], I64)
        shift_syn, shift_m, threshold = (splat(builder, builder.trunc(args[k], I16), SHORTS) for k in (7, 8, 9))
        weight_shift = ir.Constant(shorts, [WEIGHT_SHIFT] * SHORTS)
        if in_array:
            count_start = pointer_into(context, builder, signature.args[5], args[5], ir.Constant(I64, 0), ints)
        zero, fired = ir.Constant(shorts, None), ir.Constant(I64, 0)
        for start in range(0, 64 * words, SHORTS):
            index = [ir.Constant(I32, start // SHORTS)]
            if in_array:
                wide = builder.load(builder.gep(count_start, index), align=4)
                count = builder.trunc(_clamped(builder, wide, LARGEST_COUNT), shorts)
            else:
                count = builder.sext(lanes_of(builder, args[5], start, SHORTS), shorts)
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


@intrinsic
def filter_integers(typing_context, readouts, offset, totals, shift_out):  # type: ignore[no-untyped-def]
    """One substep of int32 ``readouts[offset:]``, as many as there are words in ``totals``, the counts of their spikes.

    ``r = clamp(r - (r >> shift_out) + (total << READOUT_SHIFT))``.
    """

    def codegen(context: Context, builder: IRBuilder, signature: Signature, args: Values) -> Value:
        ints = ir.VectorType(I32, signature.args[2].words)
        pointer = pointer_into(context, builder, signature.args[0], args[0], args[1], ints)
        before = builder.load(pointer, align=4)
        kept = builder.sub(before, builder.ashr(before, splat(builder, builder.trunc(args[3], I32), ints.count)))
        shift = ir.Constant(ints, [READOUT_SHIFT] * ints.count)
        after = builder.add(kept, builder.shl(builder.trunc(args[2], ints), shift))
        builder.store(_clamped(builder, after, LARGEST_READOUT), pointer, align=4)
        return context.get_dummy_value()

    return types.none(readouts, types.intp, totals, types.int64), codegen
