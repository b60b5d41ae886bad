"""Vector instructions for numba's compiler, which has none: one register of numbers as a type, and operations on it.

How numba vectorises a loop by itself depends on the loop, and the loops of ``toy_models.mixtures.compiled.kernels`` are
short. Every operation emits one of LLVM's vector instructions, or few of them, so that these are the same on any
processor with fused multiplication and addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array

BYTES = 64 if binding.get_host_cpu_features().get("avx512f") else 32  # of a vector register
SHIFTER, LEAST_EXPONENT = {64: 1.5 * 2.0**52, 32: 1.5 * 2.0**23}, {64: -700.0, 32: -80.0}
MANTISSA, BIAS, DEGREE = {64: 52, 32: 23}, {64: 1023, 32: 127}, {64: 13, 32: 7}
LN2 = {64: (6.93147180369123816490e-01, 1.90821492927058770002e-10), 32: (0.693359375, -2.12194440e-4)}


def _vector(function: Callable[..., Any]) -> Any:
    """Make an intrinsic, for which there are no types."""
    return intrinsic(function)


class Lanes(types.Type):
    """One vector register of numbers of ``dtype``."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.count = dtype, 8 * BYTES // dtype.bitwidth
        super().__init__(f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.dtype).get_value_type(), kind.count))


def _constant(kind: ir.VectorType, value: Any) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _splat(builder: Any, value: Any, count: int) -> Any:
    vector = ir.VectorType(value.type, count)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


def _pointer(context: Any, builder: Any, array: Any, kind: Any, at: Any) -> Any:
    return cgutils.pointer_add(
        builder,
        builder.gep(make_array(kind)(context, builder, array).data, [at]),
        ir.Constant(ir.IntType(64), 0),
        ir.VectorType(context.get_value_type(kind.dtype), Lanes(kind.dtype).count).as_pointer(),
    )


@_vector
def block(typing: Any, array: Any) -> Any:
    """Return the number of samples in a block of an array's dtype."""
    count = 2 * Lanes(array.dtype).count
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, count)


@_vector
def load(typing: Any, array: Any, at: Any) -> Any:
    """Return a vector of the numbers from ``array[at]`` on."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, args[0], array, args[1])
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, types.intp), code


@_vector
def store(typing: Any, array: Any, at: Any, vector: Any) -> Any:
    """Write a vector to ``array[at]`` and on."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, args[0], array, args[1]), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), code


@_vector
def each(typing: Any, array: Any, at: Any) -> Any:
    """Return a vector of which every lane is ``array[at]``."""
    kind = Lanes(array.dtype)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(make_array(array)(context, builder, args[0]).data, [args[1]])
        return _splat(builder, builder.load(pointer), kind.count)

    return kind(array, types.intp), code


@_vector
def zeros(typing: Any, array: Any) -> Any:
    """Return a vector of zeros."""
    kind = Lanes(array.dtype)
    return kind(array), lambda context, builder, sig, args: _constant(context.get_value_type(kind), 0.0)


def _operation(code: Callable[[Any, list[Any], int], Any], arity: int) -> Any:
    """Return the intrinsic of an operation on vectors; ``code`` is given the builder, vectors and bits of a number."""

    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return code(builder, list(args), sig.return_type.dtype.bitwidth)

    if arity == 1:
        return _vector(lambda typing, a: (a(a), lowered))
    if arity == 2:
        return _vector(lambda typing, a, b: (a(a, b), lowered))
    return _vector(lambda typing, a, b, c: (a(a, b, c), lowered))


def _function(builder: Any, name: str, *args: Any) -> Any:
    """Emit LLVM's own function of vectors of one kind, such as "fma"."""
    kind = args[0].type
    name = f"llvm.{name}.v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
    code = ir.FunctionType(kind, [kind] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, code, name), args)


def _select(builder: Any, compare: str, a: Any, b: Any, chosen: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(compare, a, b), chosen, other)


def _exponential(builder: Any, args: list[Any], bits: int) -> Any:
    """Emit exp(x) for x <= 0: 2^n exp(x - n log 2), n taken from the last digits of a shifted sum."""
    x, kind = args[0], args[0].type
    least, shifter = _constant(kind, LEAST_EXPONENT[bits]), _constant(kind, SHIFTER[bits])
    x = _select(builder, "<", x, least, least, x)
    shifted = _function(builder, "fma", x, _constant(kind, 1 / math.log(2)), shifter)
    n = builder.fsub(shifted, shifter)
    for part in LN2[bits]:
        x = _function(builder, "fma", n, _constant(kind, -part), x)
    total = _constant(kind, 1 / math.factorial(DEGREE[bits]))
    for i in reversed(range(DEGREE[bits])):
        total = _function(builder, "fma", total, x, _constant(kind, 1 / math.factorial(i)))
    whole = ir.VectorType(ir.IntType(bits), kind.count)
    power = builder.add(builder.bitcast(shifted, whole), _constant(whole, BIAS[bits]))
    return builder.fmul(total, builder.bitcast(builder.shl(power, _constant(whole, MANTISSA[bits])), kind))


def _exponent(builder: Any, args: list[Any], bits: int) -> Any:
    whole = ir.VectorType(ir.IntType(bits), args[0].type.count)
    power = builder.lshr(builder.bitcast(args[0], whole), _constant(whole, MANTISSA[bits]))
    return builder.sitofp(builder.sub(power, _constant(whole, BIAS[bits])), args[0].type)


def _mantissa(builder: Any, args: list[Any], bits: int) -> Any:
    whole = ir.VectorType(ir.IntType(bits), args[0].type.count)
    digits = builder.and_(builder.bitcast(args[0], whole), _constant(whole, 2 ** MANTISSA[bits] - 1))
    return builder.bitcast(builder.or_(digits, _constant(whole, BIAS[bits] << MANTISSA[bits])), args[0].type)


add = _operation(lambda builder, args, bits: builder.fadd(*args), 2)
minus = _operation(lambda builder, args, bits: builder.fsub(*args), 2)
times = _operation(lambda builder, args, bits: builder.fmul(*args), 2)
over = _operation(lambda builder, args, bits: builder.fdiv(*args), 2)
fma = _operation(lambda builder, args, bits: _function(builder, "fma", *args), 3)  # a b + c
greater = _operation(lambda builder, args, bits: _select(builder, ">", args[0], args[1], args[0], args[1]), 2)
without_small = _operation(  # a, or zero where a <= b
    lambda builder, args, bits: _select(builder, "<=", args[0], args[1], _constant(args[0].type, 0.0), args[0]), 2
)
root = _operation(lambda builder, args, bits: _function(builder, "sqrt", *args), 1)
log = _operation(lambda builder, args, bits: _function(builder, "log", *args), 1)
exponential = _operation(_exponential, 1)
exponent, mantissa = _operation(_exponent, 1), _operation(_mantissa, 1)
