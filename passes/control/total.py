"""Nodes that can be run where they were not going to be: without a trace, and unable to fail."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...compiler.core.dims import broadcasts_into, same_shape
from ...compiler.core.graph import array, attribute, constant, is_op, subgraphs_of
from ...compiler.core.shapes import static_shape
from ...compiler.core.target import STANDARD_DOMAINS

RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"})
UNARY = frozenset(
    {
        "Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Sin", "Cos", "Tan", "Floor", "Ceil", "Round", "Sign", "Not",
        "IsNaN", "IsInf", "Identity", "Softplus", "Softsign", "Gelu", "LeakyRelu", "Elu", "Selu", "HardSwish", "HardSigmoid", "Mish", "ThresholdedRelu",
        "Shape", "Size", "Softmax", "LogSoftmax", "Transpose", "Constant", "BitwiseNot",
    }
)  # fmt: skip
BROADCASTING = frozenset(
    {
        "Add", "Sub", "Mul", "Min", "Max", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Where",
        "Div", "Pow", "PRelu", "Sum", "Mean", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
    }
)  # fmt: skip
OF_FLOATS_ONLY = frozenset({"Div", "Pow"})
"""Dividing an integer by zero ends the process."""


def is_pure(node: ir.Node) -> bool:
    """Whether running the node once does what running it many times would: a standard operator without chance and without graphs inside."""
    return node.domain in STANDARD_DOMAINS and node.op_type not in RANDOM and not subgraphs_of(node) and bool(node.outputs)


def cannot_fail(node: ir.Node) -> bool:
    """Whether the node is sure to run through whatever its inputs hold."""
    if not is_pure(node) or any(value is not None and value.dtype in (None, ir.DataType.STRING) for value in node.inputs):
        return False
    if node.op_type in UNARY:
        return True
    if node.op_type in BROADCASTING:
        return _broadcasts(node.inputs) and not (node.op_type in OF_FLOATS_ONLY and not _is_float(node.inputs))
    if is_op(node, "Cast"):
        return attribute(node, "to") != ir.DataType.STRING.value
    if is_op(node, "Clip"):
        return all(value is None or (value.shape is not None and len(value.shape) == 0) for value in node.inputs[1:])
    if is_op(node, "Unsqueeze", "Reshape"):
        return constant(node.inputs[1]) is not None and all(static_shape(value) is not None for value in (node.inputs[0], node.outputs[0]))
    if is_op(node, "Concat"):
        return all(_fits_beside(node, value) for value in node.inputs)
    return is_op(node, "Slice") and all(value is None or array(value, 64) is not None for value in node.inputs[1:])


def _is_float(values: Sequence[ir.Value | None]) -> bool:
    return all(value is not None and value.dtype is not None and value.dtype.is_floating_point() for value in values)


def _broadcasts(values: Sequence[ir.Value | None]) -> bool:
    """Whether there is one operand into whose shape all others are proven to broadcast."""
    shapes = [value.shape for value in values if value is not None]
    return any(all(other is shape or broadcasts_into(other, shape) for other in shapes) for shape in shapes)


def _fits_beside(node: ir.Node, value: ir.Value | None) -> bool:
    first = node.inputs[0]
    if value is None or first is None or value.shape is None or first.shape is None:
        return False
    axis = int(attribute(node, "axis"))  # type: ignore[call-overload]
    return len(value.shape) == len(first.shape) and same_shape(_without(value.shape, axis), _without(first.shape, axis))


def _without(shape: ir.Shape, axis: int) -> list[int | ir.SymbolicDim]:
    rest = list(shape)
    del rest[axis]
    return rest
