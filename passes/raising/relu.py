"""Rectifiers and clipping, from Max, Min and Where."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import DOMAIN, EXACT, ROUNDING
from ...compiler.core.graph import scalar
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .comparison import pieces
from .polynomial import FLOATS, SINGLES, claim, uniform

NUMBERS = "float zero = {0}, float one = {1}, float six = {6}, float low = {-1}"
CLIPPED = (*FLOATS, ir.DataType.INT32, ir.DataType.INT64)


def _model(body: str, given: str = "float[N,4] x", constants: str = NUMBERS) -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {body} }}"


def at_least_zero(op: Pen, x: object) -> object:
    return op.Max(x, 0)


@rule(
    at_least_zero,
    drift=ROUNDING,
    opset=14,
    examples=[_model("y = Max(x, zero)"), _model("y = Max(zero, x)"), "g (double[N,4] x) => (double[N,4] y) <double[1] zero = {0}> { y = Max(x, zero) }"],
    leaves=[
        _model("y = Max(x, one)"),
        _model("y = Max(x, zero, low)"),
        "g (float[N,1] x) => (float[N,4] y) <float[4] zero = {0,0,0,0}> { y = Max(x, zero) }",
        "g (int64[N,4] x) => (int64[N,4] y) <int64 zero = {0}> { y = Max(x, zero) }",
    ],
)
def raise_relu(op: Build, m: Match) -> Result:
    """max(x, 0) -> Relu(x)"""
    return op.Relu(m.x) if m.x.dtype in FLOATS else skip("'%s' is %s", m.x.name, m.x.dtype)


@rule(
    "Where",
    drift=DOMAIN,
    opset=14,
    examples=[
        _model("c = LessOrEqual(x, zero) y = Where(c, zero, x)"),
        _model("c = Greater(zero, x) y = Where(c, zero, x)"),
        _model("c = Greater(x, zero) n = Not(c) y = Where(n, zero, x)"),
        _model("e = Exp(x) f = Sigmoid(e) c = Greater(f, zero) y = Where(c, f, zero)"),
    ],
    leaves=[
        _model("c = Greater(x, zero) y = Where(c, x, zero)"),
        _model("c = LessOrEqual(x, one) y = Where(c, zero, x)"),
        _model("c = LessOrEqual(x, zero) y = Where(c, one, x)"),
        _model("c = Less(z, zero) y = Where(c, zero, x)", "float[N,4] x, float[N,4] z"),
        _model("c = LessOrEqual(x, zero) y = Where(c, x, zero)"),
    ],
)
def raise_selected_relu(op: Build, m: Match) -> Result:
    """x where x > 0, else 0 -> Relu(x), where x is not NaN or the NaN is kept"""
    found = pieces(m.root)
    if found is None or found.at != 0 or found.above is not found.x or uniform(found.below) != 0:
        return None
    if found.x.dtype not in FLOATS or not _fits(found.below, found.x):
        return skip("'%s' (%s) may make the result larger than '%s'", found.below.name, found.below.shape, found.x.name)
    if not (m.fast_math or found.nan_above or m.ranges.is_number(found.x)):
        return skip("it makes 0 of NaN, and '%s' may be NaN", found.x.name)
    claim(m, *found.nodes)
    return op.Relu(found.x)


@rule(
    "Where",
    drift=EXACT,
    opset=10,
    examples=[
        _model("c = Greater(x, zero) y = Where(c, x, zero)"),
        _model("c = Less(one, x) y = Where(c, x, zero)"),
    ],
    leaves=[
        _model("c = Less(low, x) y = Where(c, x, zero)"),
        _model("c = GreaterOrEqual(x, one) y = Where(c, x, zero)"),
        _model("c = LessOrEqual(x, zero) y = Where(c, zero, x)"),
        _model("c = Greater(x, zero) y = Where(c, x, one)"),
        _model("c = Greater(x, zero) y = Where(c, zero, x)"),
        "g (double[N,4] x) => (double[N,4] y) <double zero = {0}> { c = Greater(x, zero) y = Where(c, x, zero) }",
        "g (float[N,1] x) => (float[N,4] y) <float[4] zero = {0,0,0,0}, float t = {0}> { c = Greater(x, t) y = Where(c, x, zero) }",
    ],
)
def raise_thresholded_relu(op: Build, m: Match) -> Result:
    """x where x > a, else 0 -> ThresholdedRelu(x, alpha=a): NaN becomes 0 in both"""
    found = pieces(m.root)
    if found is None or found.above is not found.x or uniform(found.below) != 0 or math.copysign(1, uniform(found.below) or 0.0) < 0:
        return None
    if found.equal_above or found.nan_above or found.at < 0 or found.x.dtype not in SINGLES or not _fits(found.below, found.x):
        return skip("'%s' (%s) is kept above %s; what is equal, NaN or -0.0 must become 0", found.x.name, found.x.dtype, found.at)
    claim(m, *found.nodes)
    return op.ThresholdedRelu(found.x, alpha=found.at)


def _fits(small: ir.Value, big: ir.Value) -> bool:
    return broadcasts_into(small.shape, big.shape)


@rule(
    "Clip",
    drift=DOMAIN,
    opset=14,
    examples=[_model("y = Clip(x, zero)"), _model("s = Sigmoid(x) y = Clip(s, zero)")],
    leaves=[_model("y = Clip(x, zero)"), _model("s = Sigmoid(x) y = Clip(s, zero, six)"), _model("s = Sigmoid(x) y = Clip(s, one)"), _model("y = Clip(x)")],
)
def raise_clip_relu(op: Build, m: Match) -> Result:
    """Clip(x, 0) -> Relu(x), where x is not infinite (Clip makes the largest number of it)"""
    x, *limits = m.root.inputs
    if len(limits) != 1 or scalar(limits[0]) != 0 or x is None or x.dtype not in FLOATS:
        return None
    if not (m.fast_math or m.ranges.bound(x) is not None):
        return skip("'%s' may be infinite, of which Clip makes the largest number", x.name)
    return op.Relu(x)


def capped_below(op: Pen, x: object, low: Const, high: Const) -> object:
    return op.Min(op.Max(x, low), high)


def floored_above(op: Pen, x: object, low: Const, high: Const) -> object:
    return op.Max(op.Min(x, high), low)


@rule(
    capped_below,
    floored_above,
    drift=EXACT,
    opset=13,
    examples=[
        _model("a = Max(x, low) y = Min(a, six)"),
        _model("a = Max(low, x) y = Min(six, a)"),
        _model("a = Min(x, six) y = Max(a, low)"),
        "g (int64[N,4] x) => (int64[N,4] y) <int64 low = {1}, int64[1] six = {3}> { a = Max(x, low) y = Min(a, six) }",
        "g (double[N,4] x) => (double[N,4] y) <double low = {-1}, double six = {3}> { a = Max(x, low) y = Min(a, six) }",
    ],
    leaves=[
        _model("a = Max(x, six) y = Min(a, low)"),
        _model("a = Max(x, v) y = Min(a, six)", constants="float[4] v = {1,2,3,4}, float six = {6}"),
        _model("a = Max(x, low) y = Min(a, z)", "float[N,4] x, float z"),
        "g (float[4] x) => (float[1,4] y) <float[1,1] low = {1}, float six = {3}> { a = Max(x, low) y = Min(a, six) }",
        "g (float[N,4] x) => (float[N,4] y, float[N,4] a) <float low = {1}, float six = {3}> { a = Max(x, low) y = Min(a, six) }",
    ],
)
def raise_clip(op: Build, m: Match) -> Result:
    """min(max(x, a), b) -> Clip(x, a, b) for a <= b, and the same for max(min(x, b), a)"""
    return _clip(op, m, m.x, m.low, m.high)


def rectified_below(op: Pen, x: object, high: Const) -> object:
    return op.Min(op.Relu(x), high)


def capped_relu(op: Pen, x: object, high: Const) -> object:
    return op.Relu(op.Min(x, high))


@rule(
    rectified_below,
    capped_relu,
    drift=ROUNDING,
    opset=13,
    examples=[_model("a = Relu(x) y = Min(a, six)"), _model("a = Min(six, x) y = Relu(a)")],
    leaves=[
        _model("a = Relu(x) y = Min(a, low)"),
        _model("a = Relu(x) y = Max(a, six)"),
        _model("a = Relu(x) y = Min(a, v)", constants="float[4] v = {1,2,3,4}"),
    ],
)
def raise_relu_clip(op: Build, m: Match) -> Result:
    """min(Relu(x), b) -> Clip(x, 0, b) for b >= 0, and the same for Relu(min(x, b))"""
    if m.x.dtype not in FLOATS:
        return skip("'%s' is %s", m.x.name, m.x.dtype)
    return _clip(op, m, m.x, None, m.high)


def _clip(op: Build, m: Match, x: ir.Value, low: ir.Value | None, high: ir.Value) -> Result:
    """Clip of ``x`` to numbers that fit it; no ``low`` means 0."""
    bottom, top = scalar(low) if low is not None else 0.0, scalar(high)
    if bottom is None or top is None or not bottom <= top or math.isnan(top):
        return skip("%s to %s is no interval of numbers", bottom, top)
    if x.dtype not in CLIPPED or any(item is not None and not _fits(item, x) for item in (low, high)):
        return skip("'%s' (%s) has shape %s", x.name, x.dtype, x.shape)
    kind = x.dtype.numpy()
    return op.Clip(x, op.const(np.array(bottom, kind), "low"), op.const(np.array(top, kind), "high"))
