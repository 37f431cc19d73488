"""Upsample, which became Resize, and the ways Resize found its pixels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import constant
from .step import Pen, Refusal, attr, given, literal, put, raises, set_inputs


@raises("Upsample", 7)
def scales_of_all_axes(node: ir.Node, op: Pen) -> None:
    """Upsample-1 scaled images only and called linear interpolation bilinear."""
    height, width = literal(node, "height_scale"), literal(node, "width_scale")
    if not isinstance(height, float) or not isinstance(width, float):
        raise Refusal("it has no height_scale or no width_scale")
    mode = literal(node, "mode", "nearest")
    put(node, mode="linear" if mode == "bilinear" else mode, scales=[1.0, 1.0, height, width])


@raises("Upsample", 9)
def scales_to_input(node: ir.Node, op: Pen) -> None:
    """``scales`` became an input."""
    scales = attr(node, "scales")
    if scales is None or scales.is_ref():
        raise Refusal("its scales are missing, or a parameter of the function")
    set_inputs(node, node.inputs[0], op.const(np.array(scales.as_floats(), dtype=np.float32), hint="scales"))


@raises("Upsample", 10)
def rename_upsample(node: ir.Node, op: Pen) -> int:
    """Upsample -> Resize, which takes the pixel at floor(x / scale) and interpolates from the top left corner."""
    node.op_type = "Resize"
    _from_the_corner(node, "floor")
    set_inputs(node, node.inputs[0], None, given(node, 1))
    return 11


@raises("Resize", 11)
def say_which_pixel(node: ir.Node, op: Pen) -> None:
    """Resize-10 counted from the top left corner; the nearest pixel lay at floor(x / scale) upwards and at ceil(x / scale) downwards.

    Where one node did both, along different axes or by scales known only at run time, two nodes do it now.
    """
    data, scales = node.inputs[0], given(node, 1)
    mode = node.attributes.get_string("mode", "nearest")
    held = constant(scales)
    factors = None if held is None else held.numpy()
    if mode != "nearest" or (factors is not None and (factors >= 1).all()):
        _from_the_corner(node, "floor")
        set_inputs(node, data, None, scales)
        return
    if factors is not None and (factors <= 1).all():
        _from_the_corner(node, "ceil")
        set_inputs(node, data, None, scales)
        return
    one = op.const(np.ones((), dtype=np.float32), hint="one")
    up = op.const(np.maximum(factors, 1), hint="up") if factors is not None else op.node("Max", (scales, one), {}).outputs[0]
    down = op.const(np.minimum(factors, 1), hint="down") if factors is not None else op.node("Min", (scales, one), {}).outputs[0]
    larger = op.node("Resize", (data, None, up), {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"})
    _from_the_corner(node, "ceil")
    set_inputs(node, larger.outputs[0], None, down)


def _from_the_corner(node: ir.Node, nearest: str) -> None:
    put(node, coordinate_transformation_mode="asymmetric")
    if node.attributes.get_string("mode", "nearest") == "nearest":
        put(node, nearest_mode=nearest)


@raises("Resize", 13)
def leave_out_what_is_empty(node: ir.Node, op: Pen) -> None:
    """Up to opset 12 what was not wanted was given as an empty tensor; since then it is left out."""
    data, roi, scales, sizes = (given(node, index) for index in range(4))
    crops = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    set_inputs(node, data, roi if crops else None, None if _is_empty(scales) else scales, None if _is_empty(sizes) else sizes)


def _is_empty(value: ir.Value | None) -> bool:
    held = constant(value)
    return held is not None and held.size == 0
