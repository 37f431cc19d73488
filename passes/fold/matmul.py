"""Constant arithmetic after a MatMul, which has no bias of its own: (x @ w + b) s + t becomes x @ (w s) + (b s + t)."""

from __future__ import annotations

import numpy as np

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .affine import constant_by_channel
from .channels import narrowed, output_rank, per_channel, scaled


def matmul_times(op: Pen, x: object, w: Const, c: Const) -> object:
    return op.any("Mul", "Div")(op.MatMul(x, w, _name="linear"), c)


def matmul_times_left(op: Pen, x: object, w: Const, c: Const) -> object:
    return op.Mul(c, op.MatMul(x, w, _name="linear"))


@rule(
    matmul_times,
    matmul_times_left,
    drift=ROUNDING,
    examples=["g (float[N,3,2] x) => (float[N,3,2] y) <float[2,2] w = {1,2,3,4}, float[2] s = {5,7}> { c = MatMul(x, w) y = Mul(c, s) }"],
    leaves=["g (float[1,2,2] x) => (float[1,2,2] y) <float[2,2] w = {1,2,3,4}, float[2,1] s = {5,7}> { c = MatMul(x, w) y = Mul(c, s) }"],
)
def fold_matmul_scale(op: Build, m: Match) -> Result:
    """(x @ w) s -> x @ (w s), and the same for / s"""
    factor = constant_by_channel(m)
    if isinstance(factor, Skip):
        return factor
    new = _rescaled(m, factor)
    return new if isinstance(new, Skip) else op.MatMul(m.x, op.const(new, "weight"))


def biased_matmul_times(op: Pen, x: object, w: Const, b: Const, c: Const) -> object:
    return op.any("Mul", "Div")(op.Add(op.MatMul(x, w, _name="linear"), b), c)


@rule(
    biased_matmul_times,
    drift=ROUNDING,
    examples=[
        "g (float[N,3,2] x) => (float[N,3,2] y) <float[2,2] w = {1,2,3,4}, float[2] b = {1,2}, float s = {5}> { c = MatMul(x, w) d = Add(b, c) y = Div(d, s) }"
    ],
)
def fold_biased_matmul_scale(op: Build, m: Match) -> Result:
    """(x @ w + b) s -> x @ (w s) + b s, and the same for / s"""
    factor = constant_by_channel(m)
    if isinstance(factor, Skip):
        return factor
    bias = per_channel(m.array("b"), output_rank(m.node("linear"), m.array("w")) or 0, -1, factor.size)
    new = _rescaled(m, factor)
    if bias is None or isinstance(new, Skip):
        return new if isinstance(new, Skip) else skip("the bias is not one value per channel")
    shift = narrowed(bias * (1.0 / factor if m.root.op_type == "Div" else factor), m.array("w").dtype, "bias")
    return shift if isinstance(shift, Skip) else op.Add(op.MatMul(m.x, op.const(new, "weight")), op.const(shift, "bias"))


def _rescaled(m: Match, factor: np.ndarray) -> np.ndarray | Skip:
    with np.errstate(divide="ignore"):
        return narrowed(scaled(m.node("linear"), m.array("w"), 1.0 / factor if m.root.op_type == "Div" else factor), m.array("w").dtype, "weight")


def biased_matmul_plus(op: Pen, x: object, w: Const, b: Const, c: Const) -> object:
    return op.any("Add", "Sub")(op.Add(op.MatMul(x, w, _name="linear"), b), c)


def biased_matmul_plus_left(op: Pen, x: object, w: Const, b: Const, c: Const) -> object:
    return op.Add(c, op.Add(op.MatMul(x, w, _name="linear"), b))


@rule(
    biased_matmul_plus,
    biased_matmul_plus_left,
    drift=ROUNDING,
    examples=[
        "g (float[N,3,2] x) => (float[N,3,2] y) <float[2,2] w = {1,2,3,4}, float[2] b = {1,2}, float[2] t = {5,6}>"
        " { c = MatMul(x, w) d = Add(b, c) y = Sub(d, t) }",
        "g (float[N,3,2] x) => (float[N,3,2] y) <float[2,2] w = {1,2,3,4}, float[2] b = {1,2}, float t = {5}> { c = MatMul(x, w) d = Add(b, c) y = Add(t, d) }",
    ],
    leaves=[
        "g (float[1,2,2] x) => (float[1,2,2] y) <float[2,2] w = {1,2,3,4}, float[2] b = {1,2}, float[2,1] t = {5,6}>"
        " { c = MatMul(x, w) d = Add(b, c) y = Add(t, d) }"
    ],
)
def fold_matmul_shift(op: Build, m: Match) -> Result:
    """(x @ w + b) + t -> x @ w + (b + t), and the same for - t"""
    shift = constant_by_channel(m)
    if isinstance(shift, Skip):
        return shift
    bias = per_channel(m.array("b"), output_rank(m.node("linear"), m.array("w")) or 0, -1, shift.size)
    if bias is None:
        return skip("the bias is not one value per channel")
    total = narrowed(bias - shift if m.root.op_type == "Sub" else bias + shift, m.array("w").dtype, "bias")
    return total if isinstance(total, Skip) else op.Add(op.MatMul(m.x, m.w), op.const(total, "bias"))


def normalised_matmul(op: Pen, x: object, w: Const, scale: Const, shift: Const, mean: Const, var: Const) -> object:
    return op.BatchNormalization(op.MatMul(x, w, _name="linear"), scale, shift, mean, var, epsilon=ANY, momentum=ANY)


def normalised_biased_matmul(op: Pen, x: object, w: Const, b: Const, scale: Const, shift: Const, mean: Const, var: Const) -> object:
    linear = op.Add(op.MatMul(x, w, _name="linear"), b)
    return op.BatchNormalization(linear, scale, shift, mean, var, epsilon=ANY, momentum=ANY)


MATMUL_NORM = "float[2] s = {1,2}, float[2] t = {0,1}, float[2] u = {1,-1}, float[2] v = {4,0.25}"


@rule(
    normalised_matmul,
    normalised_biased_matmul,
    drift=ROUNDING,
    opset=7,
    examples=[
        f"g (float[N,3] x) => (float[N,2] y) <float[3,2] w = {{1,2,3,4,5,6}}, {MATMUL_NORM}> {{ c = MatMul(x, w) y = BatchNormalization(c, s, t, u, v) }}",
        f"g (float[N,3] x) => (float[N,2] y) <float[3,2] w = {{1,2,3,4,5,6}}, float[2] b = {{7,8}}, {MATMUL_NORM}>"
        " { c = MatMul(x, w) d = Add(b, c) y = BatchNormalization<epsilon=0.01>(d, s, t, u, v) }",
    ],
    leaves=[
        f"g (float[N,2,3] x) => (float[N,2,2] y) <float[3,2] w = {{1,2,3,4,5,6}}, {MATMUL_NORM}> {{ c = MatMul(x, w) y = BatchNormalization(c, s, t, u, v) }}",
    ],
)
def fold_matmul_batch_norm(op: Build, m: Match) -> Result:
    """BatchNormalization(x @ w + b) -> x @ (w k) + ((b - mean) k + shift) with k = scale / sqrt(var + epsilon), for matrices"""
    weight, rank = m.array("w"), output_rank(m.node("linear"), m.array("w"))
    if rank != 2 or weight.ndim != 2:
        return skip("the channels of a tensor of rank %s are not its last dim", rank)
    scale, shift, mean, var = (m.array(name).astype(np.float64) for name in ("scale", "shift", "mean", "var"))
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = scale / np.sqrt(var + float(attribute(m.root, "epsilon", 1e-5)))  # type: ignore[arg-type]
    before = per_channel(m.array("b"), 2, 1, factor.size) if m.has("b") else np.zeros_like(factor)
    if before is None:
        return skip("the bias is not one value per channel")
    new_weight = narrowed(scaled(m.node("linear"), weight, factor), weight.dtype, "weight")
    new_bias = narrowed((before - mean) * factor + shift, weight.dtype, "bias")
    if isinstance(new_weight, Skip) or isinstance(new_bias, Skip):
        return new_weight if isinstance(new_weight, Skip) else new_bias
    return op.Add(op.MatMul(m.x, op.const(new_weight, "weight")), op.const(new_bias, "bias"))
