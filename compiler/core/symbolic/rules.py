"""Shape rules of our own: where ONNX's inference loses a symbol, and for operators it does not define."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from .. import dims
from ..dims import Dim
from ..graph import is_op
from . import attention, contrib, layout, spatial
from .reading import Dims
from .standard import Outcome

ShapeRule = Callable[[ir.Node], Sequence[Dims | None]]


def refine(node: ir.Node, standard: Sequence[Outcome] | None) -> Sequence[Outcome] | None:
    """ONNX's answer with what our own rule for the operator adds to it; None when neither knows the operator.

    Raises ModelError when the node's inputs contradict each other.
    """
    if standard is None:
        return contrib.outcomes(node)
    rule = _RULES.get(node.op_type)
    if is_op(node, *_WRONG):
        standard = [(kind, None) for kind, _ in standard]
    if is_op(node, *_TAKES_SYMBOLS_FOR_ZERO) and any(value is not None and value.shape is not None and value.shape.is_dynamic() for value in node.inputs):
        standard = [(kind, None) for kind, _ in standard]
    if rule is None or not is_op(node, node.op_type) or all(_complete(shape) for _, shape in standard):
        return standard
    found = [*rule(node), *[None] * len(standard)]
    return [(kind, _merged(shape, ours)) for (kind, shape), ours in zip(standard, found, strict=False)]


def _complete(shape: Dims | None) -> bool:
    return shape is not None and all(map(dims.is_known, shape))


def _merged(standard: Dims | None, ours: Dims | None) -> Dims | None:
    if standard is None or ours is None or len(ours) != len(standard):
        return ours if standard is None else standard
    return tuple(map(_better, standard, ours))


def _better(standard: Dim, ours: Dim) -> Dim:
    if isinstance(standard, int):
        return standard
    return ours if dims.is_known(ours) else standard


_TAKES_SYMBOLS_FOR_ZERO = ("Attention",)
"""Operators whose inference in ONNX calculates with 0 where a dimension is a symbol."""
_WRONG = ("STFT",)
"""Operators whose inference in ONNX gives sizes that are not those at run time."""
_BROADCASTING = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "Where", "And", "Or", "Xor", "Equal", "Greater", "Less",
    "GreaterOrEqual", "LessOrEqual", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
)  # fmt: skip
_RULES: Mapping[str, ShapeRule] = {
    **dict.fromkeys(_BROADCASTING, layout.broadcasting),
    "MatMul": layout.matmul,
    "Reshape": layout.reshape,
    "Flatten": layout.flatten,
    "Expand": layout.expand,
    "ConstantOfShape": layout.constant_of_shape,
    "Slice": layout.slice_,
    "Concat": layout.concat,
    "Split": layout.split,
    "Tile": layout.tile,
    "Pad": layout.pad,
    "Range": layout.range_,
    "Shape": layout.shape,
    "OneHot": layout.one_hot,
    "TopK": layout.top_k,
    "Resize": layout.resize,
    "Upsample": layout.resize,
    "DepthToSpace": layout.depth_to_space,
    "SpaceToDepth": layout.space_to_depth,
    "Dropout": layout.same_as_first,
    "GroupNormalization": layout.same_as_first,
    "Conv": spatial.convolution(0, 1),
    "ConvInteger": spatial.convolution(0, 1),
    "QLinearConv": spatial.convolution(0, 3),
    "DeformConv": spatial.convolution(0, 1),
    "ConvTranspose": spatial.transposed_convolution,
    "MaxPool": spatial.pool(),
    "AveragePool": spatial.pool(),
    "LpPool": spatial.pool(),
    "Attention": attention.attention,
}
