"""Broadcasting before opset 7: the second operand was lined up with the first at ``axis``, or at the end."""

from __future__ import annotations

import onnx_ir as ir

from .step import Pen, Refusal, drop, known_rank, literal, raises, rank, set_inputs

ELEMENTWISE = "Add Sub Mul Div Pow And Or Xor Equal Greater Less"


@raises(ELEMENTWISE, 7, typed=True)
def line_up_operands(node: ir.Node, op: Pen) -> None:
    """B[i..j] against A[..., i..j, ...] -> B[i..j, 1, ..., 1], which numpy's rule lines up alike."""
    broadcast = literal(node, "broadcast", 0)
    axis = literal(node, "axis")
    first, second = node.inputs
    if not broadcast or not isinstance(axis, int) or second is None:
        return
    depth = known_rank(second, "the second operand")
    if axis < 0:
        raise Refusal(f"axis = {axis} counts from the end, which was not defined then")
    behind = known_rank(first, "the first operand") - axis - depth
    if behind < 0:
        raise Refusal(f"a second operand of rank {depth} does not fit at axis {axis} of the first")
    if depth and behind:
        _append_axes(node, op, behind)


@raises("PRelu", 7, typed=True)
def slope_per_channel(node: ir.Node, op: Pen) -> None:
    """Up to opset 6 a slope of shape [C] belonged to axis 1."""
    depth = known_rank(node.inputs[0], "the input")
    slope = node.inputs[1]
    if known_rank(slope, "the slope") != 1 or depth <= 2 or slope is None or slope.shape == ir.Shape([1]):
        return
    _append_axes(node, op, depth - 2)


@raises("Gemm", 7)
def broadcast_always(node: ir.Node, op: Pen) -> None:
    """Gemm broadcasts C without being asked since opset 7."""
    drop(node, "broadcast")


def _append_axes(node: ir.Node, op: Pen, count: int) -> None:
    first, second = node.inputs
    depth = rank(second) or 0
    axes = op.const(list(range(depth, depth + count)), hint="axes")
    set_inputs(node, first, op.node("Unsqueeze", (second, axes), {}).outputs[0])
