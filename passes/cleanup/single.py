"""Operators that look for the largest, smallest or product of one element, or hold it within bounds that nothing exceeds."""

from __future__ import annotations

import math

from ...compiler.core.build import Build
from ...compiler.core.dims import at_least
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from ...compiler.core.symbolic.attributes import ints_attribute
from ...compiler.core.symbolic.reading import ints_at


def pooled(op: Pen, x: object) -> object:
    return op.MaxPool(x, _attrs=ANY)


@rule(
    pooled,
    drift=EXACT,
    examples=["g (float[N,2,3,3] x) => (float[N,2,3,3] y) { a = MaxPool<kernel_shape=[1,1], strides=[1,1]>(x) y = Relu(a) }"],
    leaves=[
        "g (float[N,2,3,3] x) => (float[N,2,2,2] y) { a = MaxPool<kernel_shape=[1,1], strides=[2,2]>(x) y = Relu(a) }",
        "g (float[N,2,3,3] x) => (float[N,2,5,5] y) { a = MaxPool<kernel_shape=[1,1], pads=[1,1,1,1]>(x) y = Relu(a) }",
        "g (float[N,2,3] x) => (float[N,2,3] y) { a = MaxPool<kernel_shape=[1]>(x) y = Relu(a) }",
        "g (float[N,2,1,1] x) => (float[N,2,1,1] y) { a = MaxPool<kernel_shape=[1,1]>(x) y = Relu(a) }",
        "g (float[N,2,H,W] x) => (float[N,2,H,W] y) { a = MaxPool<kernel_shape=[1,1]>(x) y = Relu(a) }",
        "g (float[N,2,3,3] x) => (float[N,2,3,3] y) { a = AveragePool<kernel_shape=[1,1]>(x) y = Reciprocal(a) }",
    ],
)
def drop_max_pool(op: Build, m: Match) -> Result:
    """MaxPool(x) of one pixel -> x; AveragePool adds it to 0.0, which makes -0.0 positive"""
    kernel, strides, pads = (ints_attribute(m.root, name) for name in ("kernel_shape", "strides", "pads"))
    if kernel is None or {*kernel, *(strides or ())} != {1} or any(pads or ()):
        return skip("it has the kernel %s, strides %s and pads %s", kernel, strides, pads)
    dims = tuple(m.x.shape or ())
    if m.x.dtype is None or not (m.x.dtype.is_integer() or (len(dims) == 4 and any(at_least(dim, 2) for dim in dims[2:]))):
        return skip("over a row, a volume or one pixel in all the runtime's kernel turns NaN and -inf into the lowest number")
    return m.x


def clipped(op: Pen, x: object, low: Const, high: Const) -> object:
    return op.Clip(x, low, high)


@rule(
    clipped,
    drift=EXACT,
    opset=11,
    examples=["g (int32[N,3] x) => (int32[N,3] y) <int32 a = {-2147483648}, int32 b = {2147483647}> { c = Clip(x, a, b) y = Abs(c) }"],
    leaves=[
        "g (float[N,3] x) => (float[N,3] y) <float a = {0}, float b = {6}> { c = Clip(x, a, b) y = Exp(c) }",
        "g (float[N,3] x) => (float[N,3] y) { c = Clip(x) y = Exp(c) }",
    ],
)
def drop_clip(op: Build, m: Match) -> Result:
    """Clip(x) to all that x can be -> x; without bounds a runtime may clip infinities"""
    low, high, dtype = m.scalar("low"), m.scalar("high"), m.x.dtype
    if low is None or high is None or dtype is None:
        return skip("the bounds are not known")
    wide = low == -math.inf and high == math.inf if dtype.is_floating_point() else dtype.is_integer() and low <= dtype.min and high >= dtype.max
    return m.x if wide else skip("it clips to %s..%s", low, high)


REDUCTIONS = ("ReduceMax", "ReduceMin", "ReduceProd")
"""What they make of one element is that element."""
SUMS = ("ReduceSum", "ReduceMean")
"""They add it to 0.0 first, which makes -0.0 positive."""


@rule(
    *REDUCTIONS,
    *SUMS,
    drift=EXACT,
    opset=18,
    examples=[
        "g (float[N,1,3] x) => (float[N,1,3] y) <int64[1] a = {1}> { b = ReduceMax<keepdims=1>(x, a) y = Relu(b) }",
        "g (float[N,1,3] x) => (float[N,3] y) <int64[1] a = {-2}> { y = ReduceProd<keepdims=0>(x, a) }",
        "g (int64[N,1,3] x) => (int64[N,3] y) <int64[1] a = {1}> { y = ReduceSum<keepdims=0>(x, a) }",
    ],
    leaves=[
        "g (float[N,1,3] x) => (float[N,3] y) <int64[1] a = {1}> { y = ReduceSum<keepdims=0>(x, a) }",
        "g (float[N,3,1] x) => (float[N,1] y) <int64[1] a = {1}> { y = ReduceMax<keepdims=0>(x, a) }",
        "g (float[N,M] x) => (float[M] y) <int64[1] a = {0}> { y = ReduceMax<keepdims=0>(x, a) }",
        "g (float[1,1] x) => (float[1,1] y) { y = ReduceL2(x) }",
    ],
)
def drop_reduction(op: Build, m: Match) -> Result:
    """ReduceMax(x), ReduceMin(x), ReduceProd(x) over dims of size 1 -> x, or Squeeze(x); of integers also ReduceSum and ReduceMean"""
    source = m.root.inputs[0]
    shape, axes = dims_of(source), ints_at(m.root, 1)
    if source is None or shape is None or not axes or any(shape[axis] != 1 for axis in axes):
        return skip("it is not over dims of size 1")
    if m.root.op_type in SUMS and (source.dtype is None or not source.dtype.is_integer()):
        return skip("adding 0.0 turns -0.0 into 0.0")
    if attribute(m.root, "keepdims", 1):
        return source
    return op.Squeeze(source, op.const(list(axes), "axes"))
