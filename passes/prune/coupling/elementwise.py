"""Operators that work element by element, with broadcasting, and those that keep every axis."""

from __future__ import annotations

import onnx_ir as ir

from ....compiler.core.graph import attribute
from .follower import Axes, Axis, Follower, Rule, single

__all__ = ["RULES", "broadcast"]

BROADCAST = (
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast",
    "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or",
    "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum",
    "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor", "Bernoulli", "Dropout",
)  # fmt: skip


def follow_broadcast(node: ir.Node, follower: Follower) -> None:
    """Every axis of the result is that of each input, counted from the last."""
    axes = broadcast(follower, [follower.axes_of(value) for value in node.inputs if value is not None])
    for value in node.outputs:
        follower.give(value, axes)


def broadcast(follower: Follower, operands: list[Axes]) -> Axes:
    """The axes of what broadcasting makes of several, tied."""
    rank = max(map(len, operands), default=0)
    axes: list[Axis] = [single(1) for _ in range(rank)]
    for operand in operands:
        for place, axis in enumerate(operand, rank - len(operand)):
            axes[place] = follower.tie(axes[place], axis)
    return axes


def follow_quantised(node: ir.Node, follower: Follower) -> None:
    """y = (x - zero_point) * scale: scale and zero point go along one axis."""
    axes = follower.axes_of(node.inputs[0])
    along = int(attribute(node, "axis", 1))  # type: ignore[call-overload]
    if attribute(node, "block_size", 0) or not -len(axes) <= along < max(len(axes), 1):
        follower.hold_node(node)
        return
    for value in node.inputs[1:]:
        for axis in follower.axes_of(value):
            follower.tie(axes[along], axis)
    follower.give(node.outputs[0], axes)


def follow_softmax(node: ir.Node, follower: Follower) -> None:
    """What is normalised to a sum of one stays whole."""
    axes = follower.axes_of(node.inputs[0])
    along = int(attribute(node, "axis", -1))  # type: ignore[call-overload]
    if not -len(axes) <= along < len(axes):
        follower.hold_node(node)
        return
    follower.hold(axes[along])
    follower.give(node.outputs[0], axes)


def follow_shape_only(node: ir.Node, follower: Follower) -> None:
    """What asks for nothing but the size of its input is right for every size."""
    for value in node.outputs:
        follower.give(value, follower.held_axes(value))


RULES: dict[str, Rule] = {
    **dict.fromkeys(BROADCAST, follow_broadcast),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), follow_quantised),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), follow_softmax),
    **dict.fromkeys(("Shape", "Size"), follow_shape_only),
}
