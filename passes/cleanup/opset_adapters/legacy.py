"""Attributes that the first opsets had and no later one."""

from __future__ import annotations

import onnx_ir as ir

from .step import Pen, Refusal, drop, literal, put, raises

IN_PLACE = (
    "Abs Add BatchNormalization Ceil Clip Div Dropout Elu Exp Floor HardSigmoid InstanceNormalization LeakyRelu Log Max Mean Min Mul Neg PRelu "
    "Reciprocal Relu Sigmoid Sqrt Sub Sum Tanh"
)


@raises(IN_PLACE, 6)
def forget_consumed_inputs(node: ir.Node, op: Pen) -> None:
    """``consumed_inputs`` told a runtime which inputs to overwrite."""
    drop(node, "consumed_inputs")


@raises("Selu", 6)
def write_out_selu(node: ir.Node, op: Pen) -> None:
    """Up to opset 5 the constants of Selu had four decimals."""
    drop(node, "consumed_inputs")
    if "alpha" not in node.attributes:
        put(node, alpha=1.6732)
    if "gamma" not in node.attributes:
        put(node, gamma=1.0507)


@raises("Concat", 4)
def write_out_axis(node: ir.Node, op: Pen) -> None:
    """Up to opset 3 Concat joined along axis 1 unless told otherwise."""
    if "axis" not in node.attributes:
        put(node, axis=1)


@raises("Cast", 6)
def number_the_type(node: ir.Node, op: Pen) -> None:
    """Up to opset 5 Cast named its type: "FLOAT" for 1."""
    name = literal(node, "to")
    if not isinstance(name, str) or name.upper() not in ir.DataType.__members__:
        raise Refusal(f"there is no type '{name}'")
    put(node, to=int(ir.DataType[name.upper()]))


@raises("GlobalLpPool LpPool", 2)
def whole_norm(node: ir.Node, op: Pen) -> None:
    """In opset 1 the order of the norm was a float."""
    power = literal(node, "p", 2.0)
    if not isinstance(power, (int, float)) or power != int(power):
        raise Refusal(f"p = {power} is not a whole number")
    if node.op_type == "LpPool" and "kernel_shape" not in node.attributes:
        raise Refusal("it has no kernel_shape")
    put(node, p=int(power))


@raises("GRU", 3)
def spell_forward(node: ir.Node, op: Pen) -> None:
    """GRU-1 spelt its default direction "foward"."""
    found = node.attributes.get("direction")
    if found is not None and not found.is_ref() and found.value == "foward":
        drop(node, "direction")


@raises("RNN GRU LSTM", 7)
def forget_output_sequence(node: ir.Node, op: Pen) -> None:
    """Whether the sequence output was wanted is told since opset 7 by its being named."""
    drop(node, "output_sequence")


@raises("Scatter", 11)
def rename_scatter(node: ir.Node, op: Pen) -> None:
    """Scatter is called ScatterElements since opset 11."""
    node.op_type = "ScatterElements"


@raises("GridSample", 20)
def rename_modes(node: ir.Node, op: Pen) -> None:
    """GridSample calls its modes linear and cubic since opset 20, for any number of dimensions."""
    mode = literal(node, "mode", "bilinear")
    put(node, mode={"bilinear": "linear", "bicubic": "cubic"}.get(str(mode), mode))


@raises("RoiAlign", 16)
def keep_corners(node: ir.Node, op: Pen) -> None:
    """Up to opset 15 RoiAlign did not shift its boxes by half a pixel."""
    put(node, coordinate_transformation_mode="output_half_pixel")
