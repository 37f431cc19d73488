"""Deep-Fusion (DeepSpeed Inference, SC 2022, section III): operators that work tile by tile, each tile of one needing one tile of the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import onnx_ir as ir

from ..dims import same
from ..graph import attribute, constant
from ..shapes import dims_of
from ..symbolic.reading import input_at, ints_at
from ..target import STANDARD_DOMAINS
from .mapping import Mapping
from .operators import ELEMENTWISE, MICROSOFT_ELEMENTWISE, is_parameter, operator_mapping
from .variants import reduced_axes


def tiled_axes(node: ir.Node, index: int) -> int:
    """How many leading axes of the results are those of the input at ``index``, with no dependency across them: 2 for [batch, tokens, ...] in a
    LayerNormalization over the last axis. 0 where nothing of the kind is known.
    """
    if is_parameter(node, index) or operator_mapping(node) is Mapping.OPAQUE:
        return 0
    read, made = dims_of(input_at(node, index)), dims_of(node.outputs[0])
    if read is None or made is None:
        return 0
    if node.domain in STANDARD_DOMAINS:
        rule = _leading if node.op_type in ELEMENTWISE else _RULES.get(node.op_type)
    else:
        rule = _leading if node.op_type in MICROSOFT_ELEMENTWISE else _MICROSOFT.get(node.op_type)
    found = rule(node, index) if rule is not None else 0
    return max(0, min(found, _common(node, index)))


def has_tiles(value: ir.Value, axes: int) -> bool:
    """Whether the leading axes cut a value into more than one tile, or may do so."""
    dims = dims_of(value)
    return dims is not None and any(dim != 1 for dim in dims[:axes])


def tile_bytes(values: Iterable[ir.Value], axes: int) -> int:
    """What one tile of each value takes together, as far as their sizes are known."""
    total = 0
    for value in values:
        inner = (dims_of(value) or ())[axes:]
        if value.dtype is not None and all(isinstance(dim, int) for dim in inner):
            total += math.ceil(math.prod(dim for dim in inner if isinstance(dim, int)) * value.dtype.itemsize)
    return total


def _common(node: ir.Node, index: int) -> int:
    """How many leading dimensions the input and the result have in common."""
    read, made = dims_of(node.inputs[index]) or (), dims_of(node.outputs[0]) or ()
    return sum(1 for _ in itertools.takewhile(lambda pair: same(*pair), zip(read, made, strict=False)))


def _leading(node: ir.Node, index: int) -> int:
    """Elementwise: every axis up to one that is broadcast; axes are counted from the front, so both must have as many."""
    return _common(node, index) if _rank(node, index) == len(dims_of(node.outputs[0]) or ()) else 0


def _before_axis(node: ir.Node, index: int) -> int:
    axis = int(attribute(node, "axis", -1))  # type: ignore[call-overload]
    return (axis if axis >= 0 else axis + _rank(node, 0)) if index == 0 else 0


def _before_reduced(node: ir.Node, index: int) -> int:
    axes = reduced_axes(node)
    return min(axes, default=_rank(node, 0)) if axes is not None and index == 0 else 0


def _before_summed(node: ir.Node, index: int) -> int:
    axis = ints_at(node, 1) or (int(found) for found in [_number(node, 1)] if found is not None)
    first = next(iter(axis), None)
    return 0 if first is None or index != 0 else first if first >= 0 else first + _rank(node, 0)


def _number(node: ir.Node, index: int) -> int | None:
    tensor = constant(input_at(node, index))
    return int(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None


def _joined(node: ir.Node, index: int) -> int:
    axis = int(attribute(node, "axis", 0))  # type: ignore[call-overload]
    return axis if axis >= 0 else axis + _rank(node, index)


def _cut(node: ir.Node, index: int) -> int:
    axes = ints_at(node, 3) if input_at(node, 3) is not None else tuple(range(_rank(node, 0)))
    return 0 if axes is None or index != 0 else min((axis % max(_rank(node, 0), 1) for axis in axes), default=_rank(node, 0))


def _permuted(node: ir.Node, index: int) -> int:
    perm = attribute(node, "perm")
    order = list(perm) if perm is not None else list(range(_rank(node, 0)))[::-1]  # type: ignore[call-overload]
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], enumerate(order)))


def _matmul(node: ir.Node, index: int) -> int:
    """Rows of the left operand, with the batch in front of them; of the right one only the batch."""
    rank = len(dims_of(node.outputs[0]) or ())
    flipped = attribute(node, "transA", 0) == 1 or attribute(node, "transBatchA", 0) == 1 or attribute(node, "transBatchB", 0) == 1
    if index > 1 or _rank(node, index) != rank or flipped:
        return 0
    return rank - 1 if index == 0 else rank - 2


def _gemm(node: ir.Node, index: int) -> int:
    if index == 2:
        return _leading(node, index)
    return 1 if index == 0 and attribute(node, "transA", 0) == 0 else 0


def _rows(node: ir.Node, index: int) -> int:
    return _rank(node, index) - 1 if index == 0 else 0


def _skip(node: ir.Node, index: int) -> int:
    return _rank(node, index) - 1 if index < 2 else 0


def _attention(node: ir.Node, index: int) -> int:
    """Queries are rows of each head; keys and values belong to all queries."""
    heads_apart = _rank(node, 0) == 4
    return (3 if heads_apart else 1, 2 if heads_apart else 1, 2 if heads_apart else 1)[index] if index < 3 else 0


def _multi_head(node: ir.Node, index: int) -> int:
    return (2, 1, 1)[index] if index < 3 else 0


def _rotary(node: ir.Node, index: int) -> int:
    return _rank(node, 0) - 1 if index == 0 else 0


def _first(count: int) -> Callable[[ir.Node, int], int]:
    return lambda node, index: count if index == 0 else 0


def _rank(node: ir.Node, index: int) -> int:
    return len(dims_of(input_at(node, index)) or ())


_Rule = Callable[[ir.Node, int], int]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "RMSNormalization", "LpNormalization"), _before_axis),
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK"), _before_axis),
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
        _before_reduced,
    ),
    **dict.fromkeys(("CumSum", "CumProd"), _before_summed),
    **dict.fromkeys(("Concat", "Split", "Gather"), _joined),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"), lambda node, index: _common(node, index) if index == 0 else 0),
    **dict.fromkeys(("InstanceNormalization", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _first(2)),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _matmul),
    "BatchNormalization": lambda node, index: _leading(node, index) if index == 0 else 0,
    "GroupNormalization": _first(1),
    "SimplifiedLayerNormalization": _rows,
    "Slice": _cut,
    "Transpose": _permuted,
    "Gemm": _gemm,
    "Attention": _attention,
    "RotaryEmbedding": _rotary,
}
_MICROSOFT: dict[str, _Rule] = {
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _rows),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip),
    "FusedMatMul": _matmul,
    "FusedGemm": _gemm,
    "MultiHeadAttention": _multi_head,
}
