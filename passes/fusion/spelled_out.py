"""Operators that ONNX Runtime's CPU kernels compute more slowly than their own definitions, spelled out.

Measured with ONNX Runtime 1.32 on 512 x 1024 floats and one thread, in us, kernel against definition: Mish 5600 : 450,
PRelu by channel (96 x 56 x 56) 1300 : 190, ReduceL2 and ReduceSumSquare over 768 180 : 60, ReduceLogSumExp 1360 : 130. Softplus and Elu would gain
as much, but their definitions lose the digits of what lies near 0.
"""

from __future__ import annotations

import numpy as np

from ...compiler.core.build import Build
from ...compiler.core.dims import at_least
from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.graph import attribute, is_op
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ..raising.deviation import kept_axes
from ..raising.polynomial import FLOAT

HERE = ("com.microsoft::FusedMatMul",)
"""A kernel that tells ONNX Runtime from other targets: what is measured here says nothing about theirs."""
NOT_ON = ("cuda",)
SATURATED = 20.0
"""exp of it squared is finite, and so large that adding 2 changes nothing."""


def _model(body: str, given: str = "float[N,4] x", result: str = "float[N,4] y", constants: str = "float one = {1}") -> str:
    return f"g ({given}) => ({result}) <{constants}> {{ {body} }}"


HALF = "g (float16[N,4] x) => (float16[N,4] y) {{ y = {}(x) }}"


def mish(op: Pen, x: object) -> object:
    return op.Mish(x)


def softplus_mish(op: Pen, x: object) -> object:
    return op.Mul(x, op.Tanh(op.Softplus(x)))


def log_mish(op: Pen, x: object) -> object:
    return op.Mul(x, op.Tanh(op.Log(op.Add(op.Exp(x), 1.0))))


@rule(
    mish,
    softplus_mish,
    log_mish,
    drift=ROUNDING,
    opset=18,
    kernels=HERE,
    doubtful=NOT_ON,
    measured=True,
    examples=[
        _model("y = Mish(x)"),
        _model("s = Softplus(x) t = Tanh(s) y = Mul(x, t)"),
        _model("e = Exp(x) p = Add(e, one) l = Log(p) t = Tanh(l) y = Mul(x, t)"),
    ],
    leaves=[HALF.format("Mish"), _model("s = Softplus(z) t = Tanh(s) y = Mul(x, t)", "float[N,4] x, float[N,4] z")],
)
def spell_mish(op: Build, m: Match) -> Result:
    """Mish(x) -> x w / (w + 2) with w = n (n + 2), n = exp(x), as tanh(log(1 + n)) = ((1 + n)^2 - 1) / ((1 + n)^2 + 1)"""
    if m.x.dtype != FLOAT:
        return skip("'%s' is %s", m.x.name, m.x.dtype)
    n = op.Exp(op.Min(m.x, SATURATED))
    w = op.Mul(n, op.Add(n, 2.0))
    return op.Mul(m.x, op.Div(w, op.Add(w, 2.0)))


def prelu(op: Pen, x: object, slope: object) -> object:
    return op.PRelu(x, slope)


@rule(
    prelu,
    drift=ROUNDING,
    opset=9,
    kernels=HERE,
    doubtful=NOT_ON,
    measured=True,
    examples=[_model("y = PRelu(x, s)", constants="float[4] s = {1,-2,3,0}")],
    leaves=[_model("y = PRelu(x, s)", "float[N,4] x, float[4] s")],
)
def spell_prelu(op: Build, m: Match) -> Result:
    """PRelu(x, s) -> Relu(x) + s min(x, 0) for finite s"""
    if m.x.dtype != FLOAT or not m.ranges.is_finite(m.slope):
        return skip("'%s' is %s, and the slope '%s' may be infinite", m.x.name, m.x.dtype, m.slope.name)
    return op.Add(op.Relu(m.x), op.Mul(op.Min(m.x, 0.0), m.slope))


def reduced(op: Pen, x: object, axes: Const) -> object:
    return op.any("ReduceL2", "ReduceL1", "ReduceSumSquare")(x, axes, keepdims=ANY)


@rule(
    reduced,
    drift=ROUNDING,
    opset=18,
    kernels=HERE,
    doubtful=NOT_ON,
    measured=True,
    examples=[
        _model("y = ReduceL2(x, axes)", result="float[N,1] y", constants="int64[1] axes = {1}"),
        _model("y = ReduceL1<keepdims=0>(x, axes)", result="float[N] y", constants="int64[1] axes = {1}"),
        _model("y = ReduceSumSquare(x, axes)", result="float[1,4] y", constants="int64[1] axes = {0}"),
    ],
    leaves=[
        _model("y = ReduceL2(x, axes)", "double[N,4] x", "double[N,1] y", "int64[1] axes = {1}"),
        _model("y = ReduceL2<noop_with_empty_axes=1>(x, axes)", result="float[N,1] y", constants="int64[1] axes = {1}"),
    ],
)
def spell_reduction(op: Build, m: Match) -> Result:
    """ReduceL2(x) -> sqrt(ReduceSum(x x)), ReduceSumSquare(x) -> ReduceSum(x x), ReduceL1(x) -> ReduceSum(|x|)"""
    if m.x.dtype != FLOAT or m.array("axes").size == 0:
        return skip("'%s' is %s", m.x.name, m.x.dtype)
    inner = op.Abs(m.x) if is_op(m.root, "ReduceL1") else op.Mul(m.x, m.x)
    total = op.ReduceSum(inner, m.axes, keepdims=attribute(m.root, "keepdims", 1))
    return op.Sqrt(total) if is_op(m.root, "ReduceL2") else total


def log_sum_exp(op: Pen, x: object, axes: Const) -> object:
    return op.ReduceLogSumExp(x, axes, keepdims=1)


@rule(
    log_sum_exp,
    drift=DOMAIN,
    opset=18,
    kernels=HERE,
    doubtful=NOT_ON,
    measured=True,
    examples=[
        _model("y = ReduceLogSumExp(x, axes)", result="float[N,1] y", constants="int64[1] axes = {1}"),
        _model("x = Sigmoid(z) y = ReduceLogSumExp(x, axes)", "float[N,4] z", "float[N,1] y", "int64[1] axes = {1}"),
    ],
    leaves=[
        _model("y = ReduceLogSumExp(x, axes)", result="float[N,1] y", constants="int64[1] axes = {1}"),
        _model("x = Sin(z) y = ReduceLogSumExp(x, axes)", "float[4,N] z", "float[4,1] y", "int64[1] axes = {1}"),
    ],
)
def spell_log_sum_exp(op: Build, m: Match) -> Result:
    """ReduceLogSumExp(x) -> max x + log(sum(exp(x - max x))), where x is finite and not empty"""
    axes = kept_axes(m.root)
    if m.x.dtype != FLOAT or axes is None or m.x.shape is None or not all(at_least(m.x.shape[axis], 1) for axis in axes):
        return skip("'%s' is %s of shape %s, which may be empty", m.x.name, m.x.dtype, m.x.shape)
    if not (m.fast_math or m.ranges.is_finite(m.x)):
        return skip("'%s' may be infinite, and infinity less itself is NaN", m.x.name)
    top = op.ReduceMax(m.x, m.axes, keepdims=1)
    return op.Add(top, op.Log(op.ReduceSum(op.Exp(op.Sub(m.x, top)), m.axes, keepdims=1)))


def group_norm(op: Pen, x: object, scale: object, shift: object) -> object:
    return op.GroupNormalization(x, scale, shift, _attrs=ANY)


@rule(
    group_norm,
    drift=ROUNDING,
    opset=21,
    kernels=HERE,
    doubtful=NOT_ON,
    measured=True,
    examples=[
        _model("y = GroupNormalization<num_groups=2>(x, s, b)", "float[2,4,3,2] x, float[4] s, float[4] b", "float[2,4,3,2] y"),
        _model("y = GroupNormalization<num_groups=1, epsilon=0.001>(x, s, b)", "float[1,4,3] x, float[4] s, float[4] b", "float[1,4,3] y"),
    ],
    leaves=[
        _model("y = GroupNormalization<num_groups=2>(x, s, b)", "float[2,4,H,2] x, float[4] s, float[4] b", "float[2,4,H,2] y"),
        _model("y = GroupNormalization<num_groups=2>(x, s, b)", "double[2,4,3,2] x, double[4] s, double[4] b", "double[2,4,3,2] y"),
    ],
)
def spell_group_norm(op: Build, m: Match) -> Result:
    """GroupNormalization(x, s, b, g) -> Reshape(InstanceNormalization(Reshape(x, [n, g, -1]), 1, 0)) s + b"""
    sizes = [size for size in (m.x.shape or ())[1:] if isinstance(size, int) and size > 0]
    if m.x.dtype != FLOAT or m.x.shape is None or len(sizes) != len(m.x.shape) - 1 or attribute(m.root, "stash_type", 1) != 1:
        return skip("'%s' is %s of shape %s", m.x.name, m.x.dtype, m.x.shape)
    groups = int(attribute(m.root, "num_groups", 1))  # type: ignore[call-overload]
    split = op.Reshape(m.x, op.const([-1, groups, int(np.prod(sizes)) // groups], "split"))
    ones, zeros = op.const(np.ones(groups, np.float32), "scale"), op.const(np.zeros(groups, np.float32), "shift")
    epsilon = float(attribute(m.root, "epsilon", 1e-5))  # type: ignore[arg-type]
    joined = op.Reshape(op.InstanceNormalization(split, ones, zeros, epsilon=epsilon), op.const([-1, *sizes], "joined"))
    column = op.const([-1, *[1] * (len(sizes) - 1)], "column")
    return op.Add(op.Mul(joined, op.Reshape(m.scale, column)), op.Reshape(m.shift, column))
