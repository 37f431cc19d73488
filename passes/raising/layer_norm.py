"""Layer normalisation (Ba, Kiros and Hinton 2016), raised in three steps: the core, then its scale, then its shift."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def centred(op: Pen, x: object, axes: object) -> object:
    return op.Sub(x, op.ReduceMean(x, axes, keepdims=1))


def deviation(op: Pen, square: object, axes: object, eps: object) -> object:
    return op.Sqrt(op.Add(op.ReduceMean(square, axes, keepdims=1), eps))


def power(op: Pen, x: object, axes: Const, axes2: Const, eps: Const) -> object:
    d = centred(op, x, axes)
    return op.Div(d, deviation(op, op.Pow(d, 2), axes2, eps))


def product(op: Pen, x: object, axes: Const, axes2: Const, eps: Const) -> object:
    d = centred(op, x, axes)
    return op.Div(d, deviation(op, op.Mul(d, d), axes2, eps))


def power_reciprocal(op: Pen, x: object, axes: Const, axes2: Const, eps: Const) -> object:
    d = centred(op, x, axes)
    return op.Mul(d, op.Reciprocal(deviation(op, op.Pow(d, 2), axes2, eps)))


def product_reciprocal(op: Pen, x: object, axes: Const, axes2: Const, eps: Const) -> object:
    d = centred(op, x, axes)
    return op.Mul(d, op.Reciprocal(deviation(op, op.Mul(d, d), axes2, eps)))


def power_inverse(op: Pen, x: object, axes: Const, axes2: Const, eps: Const) -> object:
    d = centred(op, x, axes)
    return op.Mul(d, op.Div(1.0, deviation(op, op.Pow(d, 2), axes2, eps)))


CORE = (
    "m = ReduceMean(x, axes) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a)",
    "int64[1] axes = {-1}, float two = {2}, float eps = {0.00001}",
)


@rule(
    power,
    product,
    power_reciprocal,
    product_reciprocal,
    power_inverse,
    drift=ROUNDING,
    opset=18,
    examples=[
        f"g (float[N,4] x) => (float[N,4] y) <{CORE[1]}> {{ {CORE[0]} y = Div(d, s) }}",
        f"g (float[N,3,4] x) => (float[N,3,4] y) <{CORE[1]}> {{ {CORE[0]} r = Reciprocal(s) y = Mul(r, d) }}",
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[2] axes = {2,1}, float eps = {0.00001}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(eps, v) s = Sqrt(a) y = Div(d, s) }",
    ],
    leaves=[
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[1] axes = {1}, float eps = {0.00001}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(eps, v) s = Sqrt(a) y = Div(d, s) }",
        "g (float[N,4] x, float[N,4] z) => (float[N,4] y) <int64[1] axes = {1}, float eps = {0.00001}>"
        " { m = ReduceMean(z, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(eps, v) s = Sqrt(a) y = Div(d, s) }",
        "g (float[N,4] x) => (float[N,4] y) <int64[1] axes = {1}, float[4] eps = {1,2,3,4}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(eps, v) s = Sqrt(a) y = Div(d, s) }",
    ],
)
def raise_layer_norm(op: Build, m: Match) -> Result:
    """(x - mean x) / sqrt(mean (x - mean x)^2 + epsilon) -> LayerNormalization(x, 1)"""
    epsilon = m.scalar("eps")
    if epsilon is None or m.x.dtype not in FLOATS or m.x.shape is None:
        return skip("epsilon is not one number, or '%s' has no known float type and shape", m.x.name)
    axis = _first_axis(m, len(m.x.shape))
    if isinstance(axis, Skip):
        return axis
    sizes = m.x.shape[axis:]
    if not all(isinstance(size, int) for size in sizes):
        return skip("the normalised dims %s are not all static", sizes)
    ones = op.const(np.ones([int(size) for size in sizes], dtype=m.x.dtype.numpy()), "scale")
    return op.LayerNormalization(m.x, ones, axis=axis - len(m.x.shape), epsilon=float(epsilon))


def _first_axis(m: Match, rank: int) -> int | Skip:
    axes = sorted(int(axis) % rank for axis in m.array("axes"))
    others = sorted(int(axis) % rank for axis in m.array("axes2"))
    if not axes or axes != others or axes != list(range(axes[0], rank)):
        return skip("it reduces over %s and %s, not over the same last dims", axes, others)
    return axes[0]


def norm_times(op: Pen, x: object, ones: Const, scale: object) -> object:
    return op.Mul(op.LayerNormalization(x, ones, _attrs=ANY, _name="norm"), scale)


@rule(
    norm_times,
    drift=ROUNDING,
    opset=17,
    examples=[
        "g (float[N,2] x, float[2] s) => (float[N,2] y) <float[2] one = {1,1}> { n = LayerNormalization(x, one) y = Mul(n, s) }",
        "g (float[N,3,2] x) => (float[N,3,2] y) <float[2] one = {1,1}, float[1,1,2] s = {3,4}> { n = LayerNormalization(x, one) y = Mul(s, n) }",
    ],
    leaves=[
        "g (float[N,2] x, float[2] s) => (float[N,2] y) <float[2] one = {1,2}> { n = LayerNormalization(x, one) y = Mul(n, s) }",
        "g (float[2,2] x, float[2,1] s) => (float[2,2] y) <float[2] one = {1,1}> { n = LayerNormalization(x, one) y = Mul(n, s) }",
    ],
)
def raise_norm_scale(op: Build, m: Match) -> Result:
    """LayerNormalization(x, 1) s -> LayerNormalization(x, s)"""
    if (m.array("ones") != 1).any():
        return skip("it has a scale already")
    scale = _affine(op, m.scale, m.ones)
    return scale if isinstance(scale, Skip) else op.like(m.node("norm"), m.x, scale)  # type: ignore[return-value]


def norm_plus(op: Pen, x: object, scale: object, shift: object) -> object:
    return op.Add(op.LayerNormalization(x, scale, _attrs=ANY, _name="norm"), shift)


@rule(
    norm_plus,
    drift=ROUNDING,
    opset=17,
    examples=["g (float[N,2] x, float[2] s, float[2] t) => (float[N,2] y) { n = LayerNormalization(x, s) y = Add(t, n) }"],
    leaves=[
        "g (float[N,2] x, float[2] s, float[N,2] t) => (float[N,2] y) { n = LayerNormalization(x, s) y = Add(t, n) }",
        "g (float[N,2] x, float[2] s, float[2] t) => (float[N,2] y) { n = LayerNormalization(x, s, t) y = Add(t, n) }",
    ],
)
def raise_norm_shift(op: Build, m: Match) -> Result:
    """LayerNormalization(x, s) + t -> LayerNormalization(x, s, t)"""
    shift = _affine(op, m.shift, m.scale)
    return shift if isinstance(shift, Skip) else op.like(m.node("norm"), m.x, m.scale, shift)  # type: ignore[return-value]


def _affine(op: Build, value: ir.Value, like: ir.Value) -> ir.Value | Skip:
    """``value`` with the shape of ``like``: as it is, or a constant without its leading ones."""
    if same_shape(value.shape, like.shape):
        return value
    content = array(value)
    if content is None or like.shape is None or not all(isinstance(size, int) for size in like.shape):
        return skip("'%s' has shape %s, not %s", value.name, value.shape, like.shape)
    wanted = tuple(int(size) for size in like.shape)
    if content.shape[-len(wanted) :] != wanted or content.size != np.prod(wanted):
        return skip("'%s' has shape %s, not %s", value.name, value.shape, like.shape)
    return op.const(content.reshape(wanted), "scale")


def norm_axis(node: ir.Node) -> int:
    """The axis from which a LayerNormalization normalises; negative when the rank of its input is unknown."""
    axis = int(attribute(node, "axis", -1))  # type: ignore[call-overload]
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return axis if shape is None or axis < 0 else axis - len(shape)
