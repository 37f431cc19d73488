"""Which operators compute the same bits everywhere."""

from __future__ import annotations

import onnx_ir as ir

_MOVES = frozenset({
    "CastLike", "Compress", "Concat", "ConstantOfShape", "DepthToSpace", "Expand", "EyeLike", "Flatten", "Gather", "GatherElements", "GatherND", "Identity",
    "OneHot", "Pad", "Range", "Reshape", "ReverseSequence", "ScatterElements", "ScatterND", "Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze",
    "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
})  # fmt: skip
"""Operators that put numbers elsewhere, or fill in numbers that they are given."""
_ROUNDS_ONCE = frozenset({
    "Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Ceil", "Div", "Equal", "Floor", "Greater",
    "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Mul", "Neg", "Not", "Or", "Round", "Sign", "Sqrt", "Sub", "Xor",
})  # fmt: skip
"""Operators whose result is the exact one, rounded once."""
_COUNTS = frozenset({"ArgMax", "ArgMin", "Clip", "CumSum", "Max", "Min", "Mod", "NonZero", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Sum"})
"""Exact on integers; on floats the order of the additions, or what becomes of NaN, is left to the kernel."""
_IEEE = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})


def is_exact(node: ir.Node) -> bool:
    """Whether every machine computes the same bits for the node."""
    if node.op_type in _MOVES:
        return node.op_type != "Range" or _are_integers(node)
    if node.op_type in _ROUNDS_ONCE:
        return _are_integers(node) or all(value is None or value.dtype in _IEEE or _is_integer(value) for value in (*node.inputs, *node.outputs))
    return node.op_type in _COUNTS and _are_integers(node)


def _are_integers(node: ir.Node) -> bool:
    return all(value is None or _is_integer(value) for value in (*node.inputs, *node.outputs))


def _is_integer(value: ir.Value) -> bool:
    return value.dtype is not None and (value.dtype.is_integer() or value.dtype == ir.DataType.BOOL)
