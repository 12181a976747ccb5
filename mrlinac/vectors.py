"""Eight numbers at once, for kernels of `mrlinac.jit`.

numba leaves loops over a few neighbouring numbers to single numbers; here the vectors are written out. Apart from `jit`,
whose text is part of every stored influence's key: an edit here makes kernels compile anew and leaves influences alone.
"""

from __future__ import annotations

from typing import Any

EIGHT = 8
"""Numbers of a block: one register of AVX-512, two of AVX2, four of NEON."""


def _vectors() -> tuple[Any, Any]:
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    whole, index = ir.IntType(64), ir.IntType(32)
    doubles, floats = ir.VectorType(ir.DoubleType(), EIGHT), ir.VectorType(ir.FloatType(), EIGHT)
    none, rounded_once = ir.Constant(doubles, ir.Undefined), ("contract",)

    def pointers(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
        pairs = list(zip(signature.args, args, strict=True))[:3]
        return [context.make_array(kind)(context, builder, value).data for kind, value in pairs]

    def places(builder: Any, args: Any) -> Any:
        return cgutils.for_range_slice(builder, args[3], args[4], ir.Constant(whole, 1), whole)

    def at(builder: Any, values: Any, place: Any, block: Any) -> Any:
        first = builder.zext(builder.load(builder.gep(place, [block])), whole)
        return builder.bitcast(builder.gep(values, [first]), doubles.as_pointer())

    def widened(builder: Any, data: Any, block: Any) -> Any:
        first = builder.gep(data, [builder.mul(block, ir.Constant(whole, EIGHT))])
        return builder.fpext(builder.load(builder.bitcast(first, floats.as_pointer()), align=4), doubles)

    def plus(builder: Any, old: Any, a: Any, b: Any) -> Any:
        return builder.fadd(old, builder.fmul(a, b, flags=rounded_once), flags=rounded_once)

    @intrinsic
    def add(typing: Any, total: Any, place: Any, data: Any, first: Any, last: Any, factor: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            to, where, values = pointers(context, builder, signature, args)
            one = builder.insert_element(none, args[5], ir.Constant(index, 0))
            same = builder.shuffle_vector(one, none, ir.Constant(ir.VectorType(index, EIGHT), [0] * EIGHT))
            with places(builder, args) as (block, _):
                eight = at(builder, to, where, block)
                new = plus(builder, builder.load(eight, align=8), same, widened(builder, values, block))
                builder.store(new, eight, align=8)
            return context.get_dummy_value()

        return types.void(total, place, data, types.int64, types.int64, types.float64), code

    @intrinsic
    def dot(typing: Any, x: Any, place: Any, data: Any, first: Any, last: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            of, where, values = pointers(context, builder, signature, args)
            sums = cgutils.alloca_once_value(builder, ir.Constant(doubles, [0.0] * EIGHT))
            with places(builder, args) as (block, _):
                mine = builder.load(at(builder, of, where, block), align=8)
                builder.store(plus(builder, builder.load(sums), mine, widened(builder, values, block)), sums)
            parts = [builder.extract_element(builder.load(sums), ir.Constant(index, k)) for k in range(EIGHT)]
            while len(parts) > 1:
                parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            return parts[0]

        return types.float64(x, place, data, types.int64, types.int64), code

    return add, dot


add_blocks, dot_blocks = _vectors()
"""Inside kernels only; numba's own compilation leaves such loops to single numbers, here the vectors are written out.

``add_blocks(total, place, data, first, last, factor)``: for blocks a in first…last-1 and k = 0…7,
``total[place[a] + k] += factor * data[a, k]``. ``dot_blocks(x, place, data, first, last)``: the sum over them of
``x[place[a] + k] * data[a, k]``. ``total`` and ``x`` are float64, ``data`` float32, ``place`` unsigned.
"""
