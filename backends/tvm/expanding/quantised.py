"""Operators on quantised numbers, by what they mean."""

from __future__ import annotations

import onnx_ir as ir

from . import Expansion, Pen

Made = tuple[ir.Value | None, ...] | None


def qlinear_matmul(op: Pen, node: ir.Node) -> Made:
    """The product of the numbers meant, quantised."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.inputs
    return (op.QuantizeLinear(op.MatMul(op.DequantizeLinear(a, a_scale, a_zero), op.DequantizeLinear(b, b_scale, b_zero)), y_scale, y_zero),)


def qlinear_conv(op: Pen, node: ir.Node) -> Made:
    """The convolution of the numbers meant, quantised; weights have a scale for each output channel or one for all."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.inputs[:8]
    bias = node.inputs[8] if len(node.inputs) > 8 else None
    attributes = dict(node.attributes)
    if bias is not None:
        bias = op.Mul(op.Cast(bias, to=ir.DataType.FLOAT.value), op.Mul(x_scale, w_scale))
    made = op.node("Conv", (op.DequantizeLinear(x, x_scale, x_zero), op.DequantizeLinear(w, w_scale, w_zero, axis=0), bias), attributes).outputs[0]
    return (op.QuantizeLinear(made, y_scale, y_zero),)


def conv_integer(op: Pen, node: ir.Node) -> Made:
    """The convolution of whole numbers; double holds all of them."""
    x, w, x_zero, w_zero = (*node.inputs, None, None)[:4]
    wide = [_wide(op, x, x_zero, None), _wide(op, w, w_zero, w)]
    made = op.node("Conv", tuple(wide), dict(node.attributes)).outputs[0]
    return (op.Cast(made, to=ir.DataType.INT32.value),)


def _wide(op: Pen, value: ir.Value | None, zero: ir.Value | None, channels_of: ir.Value | None) -> ir.Value:
    numbers = op.Cast(value, to=ir.DataType.DOUBLE.value)
    if zero is None:
        return numbers
    offset = op.Cast(zero, to=ir.DataType.DOUBLE.value)
    if channels_of is not None and channels_of.shape is not None and zero.shape is not None and len(zero.shape) == 1:
        offset = op.Reshape(offset, op.const([-1, *[1] * (len(channels_of.shape) - 1)]))
    return op.Sub(numbers, offset)


EXPANSIONS: dict[str, Expansion] = {"QLinearMatMul": qlinear_matmul, "QLinearConv": qlinear_conv, "ConvInteger": conv_integer}
