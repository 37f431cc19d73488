"""Softmax and its kin before opset 13 worked on a matrix: the axes before ``axis`` against those from it on."""

from __future__ import annotations

import onnx_ir as ir

from .step import Pen, Refusal, literal, put, raises, rank, set_inputs


@raises("Softmax LogSoftmax Hardmax", 13, typed=True)
def flatten_around(node: ir.Node, op: Pen) -> None:
    """Softmax(x, axis) -> Reshape(Softmax(Flatten(x, axis), -1), Shape(x)), unless ``axis`` is the only one that counts."""
    axis = literal(node, "axis", 1)
    data = node.inputs[0]
    if not isinstance(axis, int) or data is None:
        raise Refusal(f"its axis is {axis}")
    if _reaches_one_axis(data, axis):
        put(node, axis=-1 if axis == (rank(data) or 0) - 1 else axis)
        return
    matrix = op.node("Flatten", (data,), {"axis": axis}).outputs[0]
    inner = op.node(node.op_type, (matrix,), {"axis": -1}).outputs[0]
    shape = op.node("Shape", (data,), {}).outputs[0]
    node.op_type = "Reshape"
    put(node, allowzero=1)
    set_inputs(node, inner, shape)


def _reaches_one_axis(data: ir.Value, axis: int) -> bool:
    """Whether every axis behind ``axis`` has exactly one element."""
    if axis == -1:
        return True
    if data.shape is None:
        return False
    start = axis if axis >= 0 else axis + len(data.shape)
    return all(dim == 1 for dim in data.shape[start + 1 :])
