"""Constant arithmetic after a linear operator: y * s + t goes into its weight and bias."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, is_op
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .channels import channel_axis, gemm_bias, narrowed, output_channels, output_rank, per_channel, scaled

CONV = ("Conv", "ConvTranspose", "Gemm")


def affine(op: Build, node: ir.Node, weight: np.ndarray, bias: np.ndarray | None, scale: np.ndarray, shift: np.ndarray) -> Result:
    """The node with ``scale`` [channels] on its weight and ``bias * scale + shift`` as its bias, computed in float64."""
    before = gemm_bias(node, bias, scale.size) if is_op(node, "Gemm") else _vector(bias, scale.size)
    if before is None:
        return skip("the bias differs from row to row")
    new_weight = narrowed(scaled(node, weight, scale), weight.dtype, "weight")
    new_bias = narrowed(before * scale + shift, weight.dtype, "bias")
    if isinstance(new_weight, Skip):
        return new_weight
    if isinstance(new_bias, Skip):
        return new_bias
    changed = {"beta": None} if is_op(node, "Gemm") else {}
    same_weight = bool((scale == 1).all())
    return op.like(node, node.inputs[0], node.inputs[1] if same_weight else op.const(new_weight, "weight"), op.const(new_bias, "bias"), **changed)  # type: ignore[return-value]


def _vector(bias: np.ndarray | None, channels: int) -> np.ndarray:
    return np.zeros(channels) if bias is None else bias.astype(np.float64)


def normalised(op: Pen, x: object, w: Const, scale: Const, shift: Const, mean: Const, var: Const, b: Const | None = None) -> object:
    linear = op.any(*CONV)(x, w, b, _attrs=ANY, _name="linear")
    return op.BatchNormalization(linear, scale, shift, mean, var, epsilon=ANY, momentum=ANY)


@rule(
    normalised,
    drift=ROUNDING,
    opset=7,
    examples=[
        "g (float[N,1,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2,3},"
        " float[2] s = {1,2}, float[2] t = {0,1}, float[2] u = {1,-1}, float[2] v = {4,0.25}>"
        " { c = Conv(x, w) y = BatchNormalization<epsilon=0.001>(c, s, t, u, v) }",
        "g (float[1,2,3,3] x) => (float[1,4,3,3] y) <float[2,2,1,1] w = {2,3,4,5}, float[4] b = {1,2,3,4}, float[4] s = {1,2,3,4}, float[4] t = {0,1,0,1},"
        " float[4] u = {1,-1,1,-1}, float[4] v = {4,1,2,3}> { c = ConvTranspose<group=2>(x, w, b) y = BatchNormalization(c, s, t, u, v) }",
    ],
    leaves=[
        "g (float[2,1,3,3] x) => (float[2,1,3,3] y, float[1] rm, float[1] rv) <float[1,1,1,1] w = {2},"
        " float[1] s = {1}, float[1] t = {0}, float[1] u = {1}, float[1] v = {4}>"
        " { c = Conv(x, w) y, rm, rv = BatchNormalization<training_mode=1>(c, s, t, u, v) }"
    ],
)
def fold_batch_norm(op: Build, m: Match) -> Result:
    """BatchNormalization(x * w + b) -> x * (w k) + ((b - mean) k + shift) with k = scale / sqrt(var + epsilon)"""
    node, weight = m.node("linear"), m.array("w")
    channels = output_channels(node, weight)
    if channels is None or m.array("scale").shape != (channels,):
        return skip("it has %s channels and the scale has shape %s", channels, m.array("scale").shape)
    epsilon = float(attribute(m.root, "epsilon", 1e-5))  # type: ignore[arg-type]
    scale, shift, mean, var = (m.array(name).astype(np.float64) for name in ("scale", "shift", "mean", "var"))
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = scale / np.sqrt(var + epsilon)
    return affine(op, node, weight, m.array("b") if m.b is not None else None, factor, shift - mean * factor)


def times(op: Pen, x: object, w: Const, c: Const, b: Const | None = None) -> object:
    return op.Mul(op.any(*CONV)(x, w, b, _attrs=ANY, _name="linear"), c)


def over(op: Pen, x: object, w: Const, c: Const, b: Const | None = None) -> object:
    return op.Div(op.any(*CONV)(x, w, b, _attrs=ANY, _name="linear"), c)


@rule(
    times,
    over,
    drift=ROUNDING,
    opset=7,
    examples=[
        "g (float[N,1,3,2] x) => (float[N,2,3,2] y) <float[2,1,1,1] w = {2,3}, float[2,1,1] s = {5,7}> { c = Conv(x, w) y = Mul(s, c) }",
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}, float[2] b = {1,2}, float[2] s = {5,7}>"
        " { c = Gemm<transB=1, beta=2.0>(x, w, b) y = Div(c, s) }",
    ],
    leaves=[
        "g (float[1,1,3,2] x) => (float[1,2,3,2] y) <float[2,1,1,1] w = {2,3}, float[2] s = {5,7}> { c = Conv(x, w) y = Mul(c, s) }",
        "g (float[1,1,3,2] x) => (float[1,2,3,2] y, float[1,2,3,2] c) <float[2,1,1,1] w = {2,3}, float[2,1,1] s = {5,7}> { c = Conv(x, w) y = Mul(c, s) }",
    ],
)
def fold_scale(op: Build, m: Match) -> Result:
    """(x * w + b) s -> x * (w s) + b s, and the same for / s"""
    factor = constant_by_channel(m)
    if isinstance(factor, Skip):
        return factor
    if m.root.op_type == "Div":
        with np.errstate(divide="ignore"):
            factor = 1.0 / factor
    return affine(op, m.node("linear"), m.array("w"), m.array("b") if m.b is not None else None, factor, np.zeros_like(factor))


def plus(op: Pen, x: object, w: Const, c: Const, b: Const | None = None) -> object:
    return op.Add(op.any(*CONV)(x, w, b, _attrs=ANY, _name="linear"), c)


def minus(op: Pen, x: object, w: Const, c: Const, b: Const | None = None) -> object:
    return op.Sub(op.any(*CONV)(x, w, b, _attrs=ANY, _name="linear"), c)


def minus_from(op: Pen, x: object, w: Const, c: Const, b: Const | None = None) -> object:
    return op.Sub(c, op.any(*CONV)(x, w, b, _attrs=ANY, _name="linear"))


@rule(
    plus,
    minus,
    minus_from,
    drift=ROUNDING,
    opset=7,
    examples=[
        "g (float[N,1,3,2] x) => (float[N,2,3,2] y) <float[2,1,1,1] w = {2,3}, float[1,2,1,1] s = {5,7}> { c = Conv(x, w) y = Add(s, c) }",
        "g (float[N,1,3,2] x) => (float[N,2,3,2] y) <float[2,1,1,1] w = {2,3}, float s = {5}> { c = Conv(x, w) y = Sub(s, c) }",
    ],
    leaves=["g (float[1,1,3,2] x) => (float[1,2,3,2] y) <float[2,1,1,1] w = {2,3}, float[2] s = {5,7}> { c = Conv(x, w) y = Add(c, s) }"],
)
def fold_shift(op: Build, m: Match) -> Result:
    """(x * w + b) + t -> x * w + (b + t), and the same for - t and t -"""
    shift = constant_by_channel(m)
    if isinstance(shift, Skip):
        return shift
    negated = m.root.op_type == "Sub" and m.root.inputs[0] is m.c
    if m.root.op_type == "Sub" and not negated:
        shift = -shift
    scale = np.full(shift.shape, -1.0 if negated else 1.0)
    return affine(op, m.node("linear"), m.array("w"), m.array("b") if m.b is not None else None, scale, shift)


def constant_by_channel(m: Match) -> np.ndarray | Skip:
    """The constant ``c`` by output channel of the matched linear operator."""
    node, weight = m.node("linear"), m.array("w")
    channels, rank = output_channels(node, weight), output_rank(node, weight)
    if channels is None or rank is None:
        return skip("the weight has shape %s and the result an unknown rank", weight.shape)
    if not np.issubdtype(weight.dtype, np.floating) and weight.dtype.kind != "V":
        return skip("its weight is %s", weight.dtype)
    found = per_channel(m.array("c"), rank, channel_axis(node), channels)
    return skip("the constant has shape %s, not one value for each of %s channels", m.array("c").shape, channels) if found is None else found
