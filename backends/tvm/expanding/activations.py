"""Activations, spelled out, so that what they compute with is seen by fast mathematics and by the schedules."""

from __future__ import annotations

import math

import onnx_ir as ir

from ....compiler.core.graph import attribute
from . import Expansion, Pen

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


EXPANSIONS: dict[str, Expansion] = {"Gelu": gelu, "Mish": mish, "Softplus": softplus}
