"""Activations, spelled out, so that what they compute with is seen by fast mathematics and by the schedules."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import attribute
from . import Expansion, Pen

SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}
Made = tuple[ir.Value | None, ...] | None


def gelu(op: Pen, node: ir.Node) -> Made:
    """x/2 (1 + erf(x / sqrt 2)), or x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    x = node.inputs[0]
    if attribute(node, "approximate", "none") == "tanh":
        inner = op.Mul(op.Add(x, op.Mul(op.Mul(op.Mul(x, x), x), 0.044715)), math.sqrt(2 / math.pi))
        return (op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(inner), 1.0)),)
    return (op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Mul(x, math.sqrt(0.5))), 1.0)),)


def mish(op: Pen, node: ir.Node) -> Made:
    """x tanh(softplus(x))."""
    x = node.inputs[0]
    return (op.Mul(x, op.Tanh(op.Softplus(x))),)


def softplus(op: Pen, node: ir.Node) -> Made:
    """max(x, 0) + log(1 + exp(-|x|)), which overflows nowhere."""
    x = node.inputs[0]
    return (op.Add(op.Relu(x), op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), 1.0))),)


def elu(op: Pen, node: ir.Node) -> Made:
    """x, or alpha (exp(x) - 1) below 0. NaN is not below it: TVM's own takes the larger of x and 0, which drops NaN."""
    x = node.inputs[0]
    return (op.Where(op.Less(x, 0.0), op.Mul(op.Sub(op.Exp(x), 1.0), float(attribute(node, "alpha", 1.0))), x),)  # type: ignore[arg-type]


def selu(op: Pen, node: ir.Node) -> Made:
    """gamma times x, or times alpha (exp(x) - 1) below 0."""
    x = node.inputs[0]
    alpha, gamma = (float(attribute(node, name, default)) for name, default in SELU.items())  # type: ignore[arg-type]
    return (op.Mul(op.Where(op.Less(x, 0.0), op.Mul(op.Sub(op.Exp(x), 1.0), alpha), x), gamma),)


def thresholded(op: Pen, node: ir.Node) -> Made:
    """x above alpha, else 0; TVM multiplies with 0 instead."""
    x = node.inputs[0]
    if x is None or x.dtype is None:
        return None
    return (op.Where(op.Greater(x, float(attribute(node, "alpha", 1.0))), x, op.const(np.zeros((), x.dtype.numpy()))),)  # type: ignore[arg-type]


def sloped(op: Pen, node: ir.Node) -> Made:
    """PRelu: x, or slope x below 0; where x is 0 the slope may be infinite."""
    x, slope = node.inputs[:2]
    return (op.Where(op.Less(x, op.const(np.zeros((), x.dtype.numpy()))), op.Mul(slope, x), x),) if x is not None and x.dtype is not None else None


def sign(op: Pen, node: ir.Node) -> Made:
    """-1, 1, or x itself: 0 or NaN."""
    x = node.inputs[0]
    if x is None or x.dtype is None or not x.dtype.is_floating_point():
        return None
    return (op.Where(op.Less(x, 0.0), -1.0, op.Where(op.Greater(x, 0.0), 1.0, x)),)


EXPANSIONS: dict[str, Expansion] = {
    "Elu": elu,
    "Gelu": gelu,
    "Mish": mish,
    "PRelu": sloped,
    "Selu": selu,
    "Sign": sign,
    "Softplus": softplus,
    "ThresholdedRelu": thresholded,
}
