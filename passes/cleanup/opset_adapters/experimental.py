"""Operators that were experiments: never in a released opset, or there in another form before it; ONNX Runtime still runs them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .step import EXPERIMENTAL, Pen, Refusal, literal, put, raises, set_inputs

END = np.iinfo(np.int64).max


@raises("Affine", EXPERIMENTAL)
def spell_affine(node: ir.Node, op: Pen) -> None:
    """Affine(x) -> alpha x + beta"""
    data = _data(node)
    alpha, beta = _number(node, "alpha", 1.0), _number(node, "beta", 0.0)
    _become(node, "Add", op.node("Mul", (data, op.scalar(alpha, data, "alpha")), {}).outputs[0], op.scalar(beta, data, "beta"))


@raises("Scale", EXPERIMENTAL)
def spell_scale(node: ir.Node, op: Pen) -> None:
    """Scale(x) -> scale x"""
    data = _data(node)
    _become(node, "Mul", data, op.scalar(_number(node, "scale", 1.0), data, "scale"))


@raises("ImageScaler", EXPERIMENTAL, typed=True)
def spell_image_scaler(node: ir.Node, op: Pen) -> None:
    """ImageScaler(x) -> scale x + bias, a bias for each channel of [N, C, H, W]"""
    data = _data(node)
    bias, scale = literal(node, "bias"), _number(node, "scale", 1.0)
    if data.dtype != ir.DataType.FLOAT or not isinstance(bias, (tuple, list)):
        raise Refusal(f"its data is {data.dtype}, not a float, or it has no bias")
    scaled = op.node("Mul", (data, op.scalar(scale, data, "scale")), {}).outputs[0]
    _become(node, "Add", scaled, op.const(np.array(bias, dtype=np.float32).reshape(-1, 1, 1), hint="bias"))


@raises("ScaledTanh ParametricSoftplus", EXPERIMENTAL)
def spell_scaled_activation(node: ir.Node, op: Pen) -> None:
    """alpha f(beta x) for f of Tanh, Softplus"""
    data = _data(node)
    alpha, beta = _number(node, "alpha"), _number(node, "beta")
    inner = "Tanh" if node.op_type == "ScaledTanh" else "Softplus"
    activated = op.node(inner, (op.node("Mul", (data, op.scalar(beta, data, "beta")), {}).outputs[0],), {}).outputs[0]
    _become(node, "Mul", activated, op.scalar(alpha, data, "alpha"))


@raises("Crop", EXPERIMENTAL)
def spell_crop(node: ir.Node, op: Pen) -> None:
    """Crop([N, C, H, W], border = left, top, right, bottom, or scale = height, width from the left top) -> Slice"""
    border, scale = literal(node, "border"), literal(node, "scale")
    if not isinstance(border, (tuple, list)) or len(border) != 4:
        raise Refusal(f"its border is {border}, not four numbers")
    left, top, right, bottom = border
    ends = [-side if side else END for side in (bottom, right)]
    if isinstance(scale, (tuple, list)) and scale:
        ends = [top + scale[0], left + scale[1]]
    _become(node, "Slice", _data(node), op.const([top, left], hint="starts"), op.const(ends, hint="ends"), op.const([2, 3], hint="axes"))


@raises("DynamicSlice", EXPERIMENTAL)
def rename_dynamic_slice(node: ir.Node, op: Pen) -> None:
    """DynamicSlice is Slice with inputs."""
    node.op_type = "Slice"


@raises("ThresholdedRelu", EXPERIMENTAL)
def keep_threshold(node: ir.Node, op: Pen) -> None:
    """Released as it was."""


@raises("MeanVarianceNormalization", EXPERIMENTAL)
def name_axes(node: ir.Node, op: Pen) -> None:
    """``across_channels`` chose among the axes of [N, C, H, W]; ``normalize_variance = 0`` left only the mean out."""
    axes = [0, 1, 2, 3] if literal(node, "across_channels", 0) else [0, 2, 3]
    if literal(node, "normalize_variance", 1):
        put(node, axes=axes)
        return
    data = _data(node)
    _become(node, "Sub", data, op.node("ReduceMean", (data, op.const(axes, hint="axes")), {}).outputs[0])


def _become(node: ir.Node, op_type: str, *inputs: ir.Value | None) -> None:
    node.op_type = op_type
    node.attributes.clear()
    set_inputs(node, *inputs)


def _data(node: ir.Node) -> ir.Value:
    if not node.inputs or node.inputs[0] is None:
        raise Refusal("it has no input")
    return node.inputs[0]


def _number(node: ir.Node, name: str, default: float | None = None) -> float:
    found = literal(node, name, default)
    if not isinstance(found, (int, float)):
        raise Refusal(f"it has no '{name}'")
    return float(found)
