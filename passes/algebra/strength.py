"""Cheaper operators for what constants make easy: divisions, remainders, shifts, casts there and back, operands that cancel."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import DOMAIN, EXACT, ROUNDING
from ...compiler.core.graph import array, attribute, is_op, scalar
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import static_shape
from .law import DIVISOR, FLOATS, INTEGERS, MODERATE, UNSIGNED, inside, law

T = ir.DataType
_COMPARABLE = inside(-16, 16)
MAX_BYTES = 2**24
MAX_ELEMENTS = 4096
"""No larger constant is made of a result that does not depend on the inputs."""


def divided(op: Pen, x: object, c: Const) -> object:
    return op.Div(x, c)


def _reciprocal(m: Match) -> np.ndarray | Skip:
    """1 / c in the dtype of ``c``; every element is a normal number."""
    content = array(m.c, MAX_BYTES)
    if m.x.dtype not in FLOATS or content is None or content.size == 0:
        return skip("the divisor is %s", m.x.dtype)
    numbers = content.astype(np.float64)
    if not (np.isfinite(numbers).all() and numbers.all()):
        return skip("a divisor is zero, infinite or NaN")
    with np.errstate(over="ignore"):
        inverse = (1 / numbers).astype(content.dtype)
    small = float(ml_dtypes.finfo(content.dtype).smallest_normal)
    sizes = np.abs(inverse.astype(np.float64))
    return inverse if (np.isfinite(sizes) & (sizes >= small)).all() else skip("a reciprocal overflows or is no normal number")


def _are_powers_of_two(content: np.ndarray) -> bool:
    return bool((np.abs(np.frexp(content.astype(np.float64))[0]) == 0.5).all())


@rule(
    divided,
    drift=EXACT,
    opset=7,
    examples=["g (float[N,3] x) => (float[N,3] y) <float[3] c = {8,-0.25,1}> { y = Div(x, c) }"],
    leaves=[
        "g (float[N,3] x) => (float[N,3] y) <float c = {3}> { y = Div(x, c) }",
        "g (int32[N,3] x) => (int32[N,3] y) <int32 c = {8}> { y = Div(x, c) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {1.7014118e38}> { y = Div(x, c) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {0}> { y = Div(x, c) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {8}> { y = Div(c, x) }",
    ],
)
def multiply_by_power_of_two(op: Build, m: Match) -> Result:
    """x / 2^k -> x * 2^-k"""
    inverse = _reciprocal(m)
    if isinstance(inverse, Skip):
        return inverse
    return op.Mul(m.x, op.const(inverse)) if _are_powers_of_two(m.array("c")) else skip("the divisor is no power of two")


@rule(
    divided,
    drift=ROUNDING,
    opset=7,
    examples=["g (float[N,3] x) => (float[N,3] y) <float[3] c = {3,-0.7,1}> { y = Div(x, c) }"],
    leaves=["g (float[N,3] x) => (float[N,3] y) <float c = {1e-39}> { y = Div(x, c) }", "g (float[N,3] x) => (float[N,3] y) <float c = {4}> { y = Div(x, c) }"],
)
def multiply_by_reciprocal(op: Build, m: Match) -> Result:
    """x / c -> x * (1/c)"""
    inverse = _reciprocal(m)
    if isinstance(inverse, Skip):
        return inverse
    return skip("it divides by a power of two") if _are_powers_of_two(m.array("c")) else op.Mul(m.x, op.const(inverse))


def remainder(op: Pen, x: object, c: Const) -> object:
    return op.Mod(x, c, fmod=ANY)


@rule(
    remainder,
    drift=EXACT,
    opset=18,
    examples=[
        "g (int64[N] x) => (int64[N] y) <int64 c = {8}, int64 d = {3}> { t = Sub(x, d) y = Mod(t, c) }",
        "g (uint8[N] x) => (uint8[N] y) <uint8 c = {4}> { y = Mod(x, c) }",
    ],
    leaves=[
        "g (int64[N] x) => (int64[N] y) <int64 c = {-8}> { y = Mod(x, c) }",
        "g (int64[N] x) => (int64[N] y) <int64 c = {6}> { y = Mod(x, c) }",
        "g (int64[N] x) => (int64[N] y) <int64 c = {8}> { y = Mod<fmod=1>(x, c) }",
        "g (float[N] x) => (float[N] y) <float c = {8}> { y = Mod<fmod=1>(x, c) }",
    ],
)
def mask_remainder(op: Build, m: Match) -> Result:
    """x mod 2^k -> x & (2^k - 1) for integers, the remainder taking the sign of the divisor"""
    number = scalar(m.c)
    if m.x.dtype not in INTEGERS or not isinstance(number, int) or number <= 0 or number & (number - 1):
        return skip("'%s' is %s, the divisor %s", m.x.name, m.x.dtype, number)
    if attribute(m.root, "fmod", 0) and m.x.dtype not in UNSIGNED:
        return skip("the remainder takes the sign of the dividend")
    return op.BitwiseAnd(m.x, op.const(np.array(m.array("c") - 1, dtype=m.array("c").dtype)))


remainder_twice = law(
    "remainder-twice",
    "(x mod c) mod c -> x mod c",
    lambda op, x, c: op.Mod(op.Mod(x, c, _name="kept"), c),
    drift=EXACT,
    dtypes=INTEGERS,
    constants=["c"],
    given={"x": "int64[N,3]", "c": "int64 = {6}"},
    result="int64[N,3]",
    opset=13,
)


def shifted_twice(op: Pen, x: object, c: Const, d: Const) -> object:
    return op.BitShift(op.BitShift(x, c, _attrs=ANY, _name="first"), d, _attrs=ANY)


@rule(
    shifted_twice,
    drift=EXACT,
    opset=11,
    examples=[
        'g (uint32[N] x) => (uint32[N] y) <uint32 c = {8}, uint32 d = {3}> { t = BitShift<direction="LEFT">(x, c) y = BitShift<direction="LEFT">(t, d) }'
    ],
    leaves=[
        'g (uint32[N] x) => (uint32[N] y) <uint32 c = {8}, uint32 d = {3}> { t = BitShift<direction="LEFT">(x, c) y = BitShift<direction="RIGHT">(t, d) }',
        'g (uint32[N] x) => (uint32[N] y) <uint32 c = {20}, uint32 d = {13}> { t = BitShift<direction="LEFT">(x, c) y = BitShift<direction="LEFT">(t, d) }',
    ],
)
def merge_shifts(op: Build, m: Match) -> Result:
    """(x << c) << d -> x << (c + d), and the same for >>, while bits are left"""
    first, total = m.node("first"), m.array("c").astype(np.int64) + m.array("d").astype(np.int64)
    if attribute(first, "direction") != attribute(m.root, "direction"):
        return skip("they shift in opposite directions")
    if m.x.dtype is None or total.max(initial=0) >= m.x.dtype.bitwidth or total.size > max(m.array("c").size, m.array("d").size):
        return skip("they shift by %s", total)
    return op.like(first, m.x, op.const(total.astype(m.array("c").dtype)))


def sum_of_shifted(op: Pen, x: object, c: Const, axes: object = None) -> object:
    return op.ReduceSum(op.BitShift(x, c, direction="LEFT"), axes, _attrs=ANY)


@rule(
    sum_of_shifted,
    drift=EXACT,
    opset=13,
    examples=['g (uint64[N,3] x) => (uint64[N,1] y) <uint64 c = {3}, int64[1] a = {1}> { t = BitShift<direction="LEFT">(x, c) y = ReduceSum(t, a) }'],
    leaves=[
        'g (uint64[N,3] x) => (uint64[N,1] y) <uint64 c = {3}, int64[1] a = {1}> { t = BitShift<direction="RIGHT">(x, c) y = ReduceSum(t, a) }',
        'g (uint64[N,3] x) => (uint64[N,1] y) <uint64[3] c = {3,1,2}, int64[1] a = {1}> { t = BitShift<direction="LEFT">(x, c) y = ReduceSum(t, a) }',
    ],
)
def shift_after_summing(op: Build, m: Match) -> Result:
    """ReduceSum(x << c) -> ReduceSum(x) << c for one number c (DNNFusion, table 4); nothing is lost modulo 2^bits"""
    number = scalar(m.c)
    if number is None or m.c.shape is None or len(m.c.shape) or m.x.dtype not in UNSIGNED:
        return skip("it shifts by '%s' of shape %s", m.c.name, m.c.shape)
    total = op.node("ReduceSum", (m.x, *m.root.inputs[1:]), dict(m.root.attributes)).outputs[0]
    return op.BitShift(total, m.c, direction="LEFT")


_MANTISSA = {T.FLOAT16: 11, T.BFLOAT16: 8, T.FLOAT: 24, T.DOUBLE: 53}
_EXPONENT = {T.FLOAT16: 5, T.BFLOAT16: 8, T.FLOAT: 8, T.DOUBLE: 11}


def holds_all_of(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Whether every value of ``narrow`` is a value of ``wide``."""
    if narrow == T.BOOL:
        return wide in _MANTISSA or wide in INTEGERS
    if narrow in INTEGERS:
        bits = narrow.bitwidth - narrow.is_signed()
        if wide in INTEGERS:
            return wide.bitwidth - wide.is_signed() >= bits and (wide.is_signed() or not narrow.is_signed())
        return _MANTISSA.get(wide, 0) >= bits and not (wide == T.FLOAT16 and bits > 15)
    return narrow in _MANTISSA and wide in _MANTISSA and _MANTISSA[wide] >= _MANTISSA[narrow] and _EXPONENT[wide] >= _EXPONENT[narrow]


def cast_twice(op: Pen, x: object) -> object:
    return op.Cast(op.Cast(x, _attrs=ANY, _name="first"), _attrs=ANY)


@rule(
    cast_twice,
    drift=EXACT,
    opset=13,
    shared=True,
    examples=[
        "g (float16[N] x) => (float16[N] y) { t = Cast<to=1>(x) y = Cast<to=10>(t) }",
        "g (int32[N] x) => (float[N] y) { t = Cast<to=7>(x) y = Cast<to=1>(t) }",
        "g (bool[N] x) => (int64[N] y) { t = Cast<to=1>(x) y = Cast<to=7>(t) }",
        "g (uint8[N] x) => (float16[N] y) { t = Cast<to=1>(x) y = Cast<to=10>(t) }",
    ],
    leaves=[
        "g (float[N] x) => (float[N] y) { t = Cast<to=10>(x) y = Cast<to=1>(t) }",
        "g (float[N] x) => (float[N] y) { t = Cast<to=7>(x) y = Cast<to=1>(t) }",
        "g (int64[N] x) => (int64[N] y) { t = Cast<to=1>(x) y = Cast<to=7>(t) }",
        "g (int32[N] x) => (int32[N] y) { t = Cast<to=13>(x) y = Cast<to=6>(t) }",
        "g (float16[N] x) => (int8[N] y) { t = Cast<to=1>(x) y = Cast<to=3>(t) }",
        "g (float[N] x) => (float[N] y) { t = Cast<to=9>(x) y = Cast<to=1>(t) }",
    ],
)
def merge_casts(op: Build, m: Match) -> Result:
    """Cast(Cast(x, wide), y) -> Cast(x, y) where wide holds all values of x's dtype; x itself where y is that dtype"""
    first, last, dtype = m.node("first").outputs[0].dtype, m.root.outputs[0].dtype, m.x.dtype
    if first is None or last is None or dtype is None or not holds_all_of(first, dtype):
        return skip("%s does not hold all of %s", first, dtype)
    if last == dtype:
        return m.x
    if last in INTEGERS and dtype in FLOATS:
        return skip("what a %s out of range becomes depends on the way", dtype)
    return op.like(m.root, m.x)


def differs(op: Pen, x: object) -> object:
    return op.any("Sub", "Xor", "BitwiseXor")(x, x)


def compared(op: Pen, x: object) -> object:
    return op.any("Equal", "LessOrEqual", "GreaterOrEqual", "Less", "Greater")(x, x)


@rule(
    differs,
    compared,
    drift=DOMAIN,
    opset=13,
    examples=[
        "g (int64[2,3] x) => (int64[2,3] y) { y = Sub(x, x) }",
        "g (bool[2,3] x) => (bool[2,3] y) { y = Xor(x, x) }",
        "g (int64[2,3] x) => (bool[2,3] y) { y = Equal(x, x) }",
        "g (int32[2,3] x) => (bool[2,3] y) { y = Less(x, x) }",
        "g (int8[2,3] r) => (float[2,3] y) { x = Cast<to=1>(r) y = Sub(x, x) }",
    ],
    leaves=[
        "g (float[2,3] x) => (float[2,3] y) { y = Sub(x, x) }",
        "g (float[2,3] x) => (bool[2,3] y) { y = Equal(x, x) }",
        "g (int64[N,3] x) => (int64[N,3] y) { y = Sub(x, x) }",
        "g (int64[100,100] x) => (int64[100,100] y) { y = Sub(x, x) }",
    ],
)
def settle_with_itself(op: Build, m: Match) -> Result:
    """x - x -> 0, x = x -> true, x < x -> false where x is finite, for results of known, moderate size"""
    shape, made = static_shape(m.root.outputs[0]), m.root.outputs[0].dtype
    if shape is None or made is None or int(np.prod(shape)) > MAX_ELEMENTS:
        return skip("the result has shape %s", m.root.outputs[0].shape)
    if m.x.dtype in FLOATS and not (m.fast_math or m.ranges.is_finite(m.x)):
        return skip("'%s' is not proven to be finite", m.x.name)
    if m.x.dtype == T.STRING or m.x.dtype is None:
        return skip("'%s' is %s", m.x.name, m.x.dtype)
    return op.Identity(op.const(np.full(shape, is_op(m.root, "Equal", "LessOrEqual", "GreaterOrEqual"), made.numpy())))


def times_zero(op: Pen, x: object, c: Const) -> object:
    return op.any("Mul", "BitwiseAnd", "And")(x, c)


@rule(
    times_zero,
    drift=EXACT,
    opset=7,
    examples=[
        "g (int64[N,3] x) => (int64[2,3] y) <int64[2,3] c = {0,0,0,0,0,0}> { y = Mul(x, c) }".replace("N", "1"),
        "g (bool[3] x) => (bool[2,3] y) <bool[2,3] c = {0,0,0,0,0,0}> { y = And(c, x) }",
    ],
    leaves=[
        "g (float[3] x) => (float[3] y) <float[3] c = {0,0,0}> { y = Mul(x, c) }",
        "g (int64[N] x) => (int64[N] y) <int64 c = {0}> { y = Mul(x, c) }",
        "g (int64[3] x) => (int64[3] y) <int64[3] c = {0,1,0}> { y = Mul(x, c) }",
    ],
)
def settle_with_zero(op: Build, m: Match) -> Result:
    """x * 0 -> 0 for integers, And(x, false) -> false, where the constant has the shape of the result"""
    content = array(m.c, MAX_BYTES)
    if m.x.dtype in FLOATS or content is None or content.any() or not broadcasts_into(m.x.shape, m.c.shape):
        return skip("'%s' is %s of shape %s", m.x.name, m.x.dtype, m.x.shape)
    return m.c


multiply_and_divide = law(
    "multiply-and-divide",
    "(x y) / y -> x where y > 0 is of moderate size and x y does not overflow",
    lambda op, x, y: op.Div(op.Mul(x, y), y),
    lambda op, x: x,
    drift=DOMAIN,
    given={"y": "float[3]"},
    needs={"x": MODERATE, "y": DIVISOR},
)
divide_and_multiply = law(
    "divide-and-multiply",
    "(x / y) y -> x where y > 0 is of moderate size and x / y does not overflow",
    lambda op, x, y: op.Mul(op.Div(x, y), y),
    lambda op, x: x,
    drift=DOMAIN,
    given={"y": "float[3]"},
    needs={"x": MODERATE, "y": DIVISOR},
)
add_and_subtract = law(
    "add-and-subtract",
    "(x + y) - y -> x where neither is much larger",
    lambda op, x, y: op.Sub(op.Add(x, y), y),
    lambda op, x: x,
    drift=DOMAIN,
    given={"y": "float[3]"},
    needs={"x": _COMPARABLE, "y": _COMPARABLE},
)
