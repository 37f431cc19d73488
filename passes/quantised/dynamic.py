"""Matrix products quantised while they run, in one kernel."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, constant, is_op, producer, users
from ...compiler.core.pattern import Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import static_shape

MICROSOFT = "com.microsoft"
WEIGHT = "int8[4,2] w = {1,2,3,4,5,6,7,8}, float v = {0.1}, float[2] vs = {0.1, 0.2}, int8 wz = {1}, float[2] b = {1,2}"
PRODUCT = "q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z, wz) f = Cast<to=1>(i)"
QUANTISED = "int8[4,2] w = {1,2,3,4,5,6,7,8}, float v = {0.1}, float s = {0.3}, uint8 z = {3}, float[2] b = {1,2}"


@rule(
    "Mul",
    drift=ROUNDING,
    opset=11,
    kernels=("com.microsoft::MatMulIntegerToFloat",),
    measured=True,
    shared=True,
    examples=[
        f"g (float[N,4] x) => (float[N,2] y) <{WEIGHT}> {{ {PRODUCT} k = Mul(s, v) y = Mul(f, k) }}",
        f"g (float[N,3,4] x) => (float[N,3,2] y) <{WEIGHT}> {{ {PRODUCT} m = Mul(s, f) y = Mul(m, vs) }}",
        f"g (float[N,4] x) => (float[N,2] y, float[N,2] r) <{WEIGHT}, int8[4,2] u = {{8,7,6,5,4,3,2,1}}> {{ {PRODUCT} k = Mul(vs, s) y = Mul(k, f)"
        " j = MatMulInteger(q, u, z) h = Cast<to=1>(j) r = Mul(h, k) }",
    ],
    leaves=[
        f"g (float[N,4] x) => (float[N,2] y, float[N,2] f) <{WEIGHT}> {{ {PRODUCT} k = Mul(s, v) y = Mul(f, k) }}",
        f"g (float[2,4] x) => (float[2,2] y) <{WEIGHT}, float[2,1] vr = {{1,2}}> {{ {PRODUCT} k = Mul(s, vr) y = Mul(f, k) }}",
        f"g (float[N,4] x, float[N,2] e) => (float[N,2] y) <{WEIGHT}> {{ {PRODUCT} k = Mul(s, e) y = Mul(f, k) }}",
        f"g (float[N,4] x, int8[4,2] e) => (float[N,2] y) <{WEIGHT}> {{ q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, e, z)"
        " f = Cast<to=11>(i) d = Cast<to=11>(s) m = Mul(f, d) y = Cast<to=1>(m) }",
    ],
)
def fuse_integer_product(op: Build, m: Match) -> Result:
    """float(MatMulInteger(q, w, z, wz)) (s ws) -> MatMulIntegerToFloat(q, w, s, ws, z, wz)"""
    found = _factors(m.root)
    if found is None:
        return None
    cast, scales, inner = found
    product = producer(cast.inputs[0], "MatMulInteger")
    if product is None or attribute(cast, "to") != ir.DataType.FLOAT.value:
        return skip("it does not scale the result of a MatMulInteger as float")
    made_once = [cast, product, *([inner] if is_op(inner, "Mul") and cast.outputs[0] in inner.inputs else [])]
    if any(value.is_graph_output() or len(users(value)) > 1 for node in made_once for value in node.outputs):
        return skip("what is scaled is also needed elsewhere")
    for node in made_once:
        m.take(node)
    codes, weight, *zeros = product.inputs
    ordered = _ordered(scales, weight)
    if isinstance(ordered, Skip):
        return ordered
    first, second = (*zeros, None, None)[:2]
    return op.MatMulIntegerToFloat(codes, weight, *ordered, first, second, _domain=MICROSOFT)


def _factors(root: ir.Node) -> tuple[ir.Node, list[ir.Value], ir.Node] | None:
    """The Cast, the two scales, and the second Mul of a product of three."""
    for value, other in (root.inputs, root.inputs[::-1]):
        cast, inner = producer(value, "Cast"), producer(other, "Mul")
        if cast is not None and inner is not None and other is not None:
            return cast, [item for item in inner.inputs if item is not None], inner
        inner = producer(value, "Mul")
        for one, rest in (inner.inputs, inner.inputs[::-1]) if inner is not None else ():
            cast = producer(one, "Cast")
            if cast is not None and rest is not None and other is not None and inner is not None:
                return cast, [rest, other], inner
    return None


def _ordered(scales: list[ir.Value], weight: ir.Value | None) -> tuple[ir.Value, ir.Value] | Skip:
    """The scale of the left operand, which is one number, and that of the weight: one number, or one for each column."""
    sizes = static_shape(weight)
    if sizes is None or len(sizes) != 2 or any(value.dtype != ir.DataType.FLOAT for value in scales):
        return skip("the weight has shape %s, or a scale is no float", weight.shape if weight is not None else None)
    for left, right in (scales, scales[::-1]):
        if static_shape(left) == () and static_shape(right) in ((), (1,), (sizes[1],)) and (constant(right) is not None or static_shape(right) == ()):
            return left, right
    return skip("the scales have shapes %s and %s", *(value.shape for value in scales))


def biased(op: Pen, a: object, w: object, s: object, v: object, bias: object, z: object = None, wz: object = None) -> object:
    return op.Add(op.MatMulIntegerToFloat(a, w, s, v, z, wz, _domain=MICROSOFT), bias)


@rule(
    biased,
    drift=ROUNDING,
    kernels=("com.microsoft::MatMulIntegerToFloat",),
    examples=[
        f"g (uint8[N,4] x) => (float[N,2] y) <{QUANTISED}> {{ p = com.microsoft.MatMulIntegerToFloat(x, w, s, v, z) y = Add(b, p) }}",
    ],
    leaves=[
        f"g (uint8[N,4] x, float[N,2] e) => (float[N,2] y) <{QUANTISED}> {{ p = com.microsoft.MatMulIntegerToFloat(x, w, s, v, z) y = Add(p, e) }}",
        f"g (uint8[N,4] x) => (float[N,2] y) <{QUANTISED}, float e = {{1}}> {{ p = com.microsoft.MatMulIntegerToFloat(x, w, s, v, z) y = Add(p, e) }}",
    ],
)
def fuse_integer_product_bias(op: Build, m: Match) -> Result:
    """MatMulIntegerToFloat(a, w, s, v, z, wz) + b -> MatMulIntegerToFloat(a, w, s, v, z, wz, b)"""
    columns = static_shape(m.w)
    if columns is None or static_shape(m.bias) != columns[-1:]:
        return skip("the bias has shape %s and the weight %s", m.bias.shape, m.w.shape)
    return op.MatMulIntegerToFloat(m.a, m.w, m.s, m.v, m.z, m.wz, m.bias, _domain=MICROSOFT)


@rule(
    "com.microsoft::MatMulIntegerToFloat",
    drift=ROUNDING,
    opset=11,
    kernels=("com.microsoft::DynamicQuantizeMatMul",),
    measured=True,
    examples=[
        f"g (float[N,4] x) => (float[N,2] y) <{WEIGHT}> {{ q, s, z = DynamicQuantizeLinear(x) y = com.microsoft.MatMulIntegerToFloat(q, w, s, vs, z, wz, b) }}",
    ],
    leaves=[
        f"g (float[N,4] x) => (float[N,2] y, uint8[N,4] q) <{WEIGHT}> {{ q, s, z = DynamicQuantizeLinear(x)"
        " y = com.microsoft.MatMulIntegerToFloat(q, w, s, vs, z, wz, b) }",
        f"g (float[N,4] x) => (float[N,2] y) <{WEIGHT}> {{ q, s, z = DynamicQuantizeLinear(x) y = com.microsoft.MatMulIntegerToFloat(q, w, v, vs, z) }}",
        f"g (float[N,4] x) => (float[N,2] y) <{WEIGHT}> {{ q, s, z = DynamicQuantizeLinear(x) y = com.microsoft.MatMulIntegerToFloat(q, w, s, vs) }}",
    ],
)
def fuse_dynamic_product(op: Build, m: Match) -> Result:
    """MatMulIntegerToFloat(q, w, s, v, z, wz, b) with q, s, z = DynamicQuantizeLinear(x) -> DynamicQuantizeMatMul(x, w, v, wz, b)"""
    codes, weight, scale, column, zero, other, bias = (*m.root.inputs, None, None, None)[:7]
    quantise = producer(codes, "DynamicQuantizeLinear")
    if quantise is None or (codes, scale, zero) != tuple(quantise.outputs):
        return skip("its left operand is not quantised while it runs")
    m.take(quantise)
    return op.DynamicQuantizeMatMul(quantise.inputs[0], weight, column, other, bias, _domain=MICROSOFT)
