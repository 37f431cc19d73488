"""Reductions that have operators of their own: means, norms and sums of squares.

The squared distance |a - b|^2 is left as it is: |a|^2 - 2 a b + |b|^2 saves work between many pairs, but cancels where a and b are close.
"""

from __future__ import annotations

import math

from ...compiler.core.axes import numbers_in
from ...compiler.core.build import Build
from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.graph import attribute, is_op, producer
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .deviation import kept_axes
from .polynomial import DOUBLE, FLOAT, FLOAT16, FLOATS, close, number_beside

SLOW_ON = ("cpu",)
"""ONNX Runtime 1.32's CPU kernels for ReduceL1, ReduceL2 and ReduceSumSquare take three times as long as Abs or Mul, then ReduceSum."""
AXES = "int64[1] axes = {-1}, float two = {2}, float three = {3}, float four = {4}, float quarter = {0.25}"


def _model(body: str, given: str = "float[N,4] x", result: str = "float[N,1] y", constants: str = AXES) -> str:
    return f"g ({given}) => ({result}) <{constants}> {{ {body} }}"


@rule(
    "Div",
    "Mul",
    drift=ROUNDING,
    opset=18,
    examples=[
        _model("s = ReduceSum(x, axes) y = Div(s, four)"),
        _model("s = ReduceSum(x, axes) y = Mul(quarter, s)"),
        _model("s = ReduceSum<keepdims=0>(x, axes) y = Div(s, four)", result="float[N] y"),
        _model("s = ReduceSum(x, axes) y = Div(s, four)", "float[N,2,2] x", "float[N,1,1] y", "int64[2] axes = {1,2}, float four = {4}"),
    ],
    leaves=[
        _model("s = ReduceSum(x, axes) y = Div(s, three)"),
        _model("s = ReduceSum(x, axes) y = Div(four, s)"),
        _model("s = ReduceSum(x, axes) y = Div(s, four)", "float[4,N] x"),
        _model("s = ReduceSum(x, axes) y = Div(s, four)", "int64[N,4] x", "int64[N,1] y", "int64[1] axes = {1}, int64 four = {4}"),
        _model("s = ReduceSum(x, axes) y = Div(s, n)", result="float[1,N,1] y", constants="int64[1] axes = {1}, float[1,1,1] n = {4}"),
    ],
)
def raise_reduce_mean(op: Build, m: Match) -> Result:
    """ReduceSum(x) / n of n elements -> ReduceMean(x)"""
    index = 1 if is_op(m.root, "Div") else next((index for index in (0, 1) if number_beside(m.root, index) is not None), 1)
    number, total = number_beside(m.root, index), producer(m.root.inputs[1 - index], "ReduceSum")
    if total is None or not number:
        return None
    x, axes = total.inputs[0], numbers_in(total.inputs[1] if len(total.inputs) > 1 else None) or None
    if x is None or x.shape is None or axes is None or x.dtype not in FLOATS:
        return skip("the axes over which '%s' is summed are not known", x.name if x is not None else "")
    sizes = [x.shape[axis] for axis in axes]
    count = math.prod(size if isinstance(size, int) else 0 for size in sizes)
    if count == 0 or not close(1 / number if is_op(m.root, "Mul") else number, count, x.dtype):
        return skip("it is divided by %s, and the reduced dims are %s", number, sizes)
    m.take(total)
    return op.ReduceMean(*total.inputs, keepdims=attribute(total, "keepdims", 1))


def squares(op: Pen, x: object, axes: Const) -> object:
    return op.ReduceSum(op.Mul(x, x), axes, keepdims=ANY)


def powers(op: Pen, x: object, axes: Const) -> object:
    return op.ReduceSum(op.Pow(x, 2), axes, keepdims=ANY)


@rule(
    squares,
    powers,
    drift=ROUNDING,
    opset=18,
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        _model("q = Mul(x, x) y = ReduceSum(q, axes)"),
        _model("q = Pow(x, two) y = ReduceSum<keepdims=0>(q, axes)", result="float[N] y"),
    ],
    leaves=[
        _model("q = Mul(x, z) y = ReduceSum(q, axes)", "float[N,4] x, float[N,4] z"),
        _model("q = Pow(x, three) y = ReduceSum(q, axes)"),
        _model("q = Mul(x, x) y = ReduceMean(q, axes)"),
        _model("q = Mul(x, x) y = ReduceSum<noop_with_empty_axes=1>(q, axes)"),
    ],
)
def raise_sum_square(op: Build, m: Match) -> Result:
    """ReduceSum(x x) -> ReduceSumSquare(x)"""
    if m.x.dtype not in (FLOAT, FLOAT16, DOUBLE):
        return skip("'%s' is %s", m.x.name, m.x.dtype)
    return op.ReduceSumSquare(m.x, m.axes, keepdims=attribute(m.root, "keepdims", 1))


def rooted(op: Pen, x: object, axes: Const) -> object:
    return op.Sqrt(op.ReduceSum(op.Mul(x, x), axes, keepdims=ANY, _name="sum"))


def rooted_powers(op: Pen, x: object, axes: Const) -> object:
    return op.Sqrt(op.ReduceSum(op.Pow(x, 2), axes, keepdims=ANY, _name="sum"))


def rooted_squares(op: Pen, x: object, axes: Const) -> object:
    return op.Sqrt(op.ReduceSumSquare(x, axes, keepdims=ANY, _name="sum"))


@rule(
    rooted,
    rooted_powers,
    rooted_squares,
    drift=ROUNDING,
    opset=18,
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        _model("q = Mul(x, x) s = ReduceSum(q, axes) y = Sqrt(s)"),
        _model("q = Pow(x, two) s = ReduceSum(q, axes) y = Sqrt(s)"),
        _model("s = ReduceSumSquare<keepdims=0>(x, axes) y = Sqrt(s)", result="float[N] y"),
    ],
    leaves=[
        _model("q = Mul(x, z) s = ReduceSum(q, axes) y = Sqrt(s)", "float[N,4] x, float[N,4] z"),
        _model("q = Mul(x, x) s = ReduceMean(q, axes) y = Sqrt(s)"),
        _model("q = Mul(x, x) s = ReduceSum(q, axes) y = Exp(s)"),
    ],
)
def raise_reduce_l2(op: Build, m: Match) -> Result:
    """sqrt(ReduceSum(x x)) -> ReduceL2(x)"""
    if m.x.dtype not in (FLOAT, FLOAT16, DOUBLE):
        return skip("'%s' is %s", m.x.name, m.x.dtype)
    return op.ReduceL2(m.x, m.axes, keepdims=attribute(m.node("sum"), "keepdims", 1))


def magnitudes(op: Pen, x: object, axes: Const) -> object:
    return op.ReduceSum(op.Abs(x), axes, keepdims=ANY)


@rule(
    magnitudes,
    drift=ROUNDING,
    opset=18,
    doubtful=SLOW_ON,
    measured=True,
    examples=[_model("q = Abs(x) y = ReduceSum(q, axes)")],
    leaves=[_model("q = Neg(x) y = ReduceSum(q, axes)"), _model("q = Abs(x) y = ReduceMax(q, axes)")],
)
def raise_reduce_l1(op: Build, m: Match) -> Result:
    """ReduceSum(|x|) -> ReduceL1(x)"""
    if m.x.dtype not in (FLOAT, FLOAT16, DOUBLE):
        return skip("'%s' is %s", m.x.name, m.x.dtype)
    return op.ReduceL1(m.x, m.axes, keepdims=attribute(m.root, "keepdims", 1))


def over_length(op: Pen, x: object, axes: Const) -> object:
    return op.Div(x, op.any("ReduceL1", "ReduceL2")(x, axes, keepdims=1, _name="norm"))


@rule(
    over_length,
    drift=DOMAIN,
    opset=18,
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        _model("n = ReduceL2(x, axes) y = Div(x, n)", result="float[N,4] y"),
        _model("n = ReduceL1(x, axes) y = Div(x, n)", result="float[N,4] y", constants="int64[1] axes = {0}"),
        _model("x = Exp(z) n = ReduceL1(x, axes) y = Div(x, n)", "float[N,4] z", "float[N,4] y"),
    ],
    leaves=[
        _model("n = ReduceL2(x, axes) y = Div(x, n)", result="float[N,4] y"),
        _model("n = ReduceL2(x, axes) k = Max(n, two) y = Div(x, k)", result="float[N,4] y"),
        _model("x = Exp(z) n = ReduceL1(z, axes) y = Div(x, n)", "float[N,4] z", "float[N,4] y"),
        _model("x = Exp(z) n = ReduceL2(x, axes) y = Div(x, n)", "float[N,4] z", "float[N,4] y", "int64[2] axes = {0,1}"),
        _model("x = Exp(z) n = ReduceL2<keepdims=0>(x, axes) y = Div(x, n)", "float[4,4] z", "float[4,4] y"),
    ],
)
def raise_lp_norm(op: Build, m: Match) -> Result:
    """x / ReduceL2(x) -> LpNormalization(x, p=2), and L1 with p=1, where no norm is 0: the operator makes 0 of 0 / 0"""
    axes = kept_axes(m.node("norm"))
    if axes is None or len(axes) != 1 or m.x.dtype not in (FLOAT, FLOAT16, DOUBLE):
        return skip("it is divided by a norm over %s of %s", axes, m.x.dtype)
    if not m.fast_math:
        return skip("the norm of '%s' may be 0, and 0 / 0 is not what the operator makes of it", m.x.name)
    return op.LpNormalization(m.x, axis=axes[0], p=1 if is_op(m.node("norm"), "ReduceL1") else 2)
