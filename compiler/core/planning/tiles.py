"""Deep-Fusion (DeepSpeed Inference, SC 2022, section III): operators that work tile by tile, each tile of one needing one tile of the other.

Tiles are cut along axes without a dependency across them: tokens where rows are normalised or multiplied, channels of a depthwise convolution or a pool,
places of an image under a 1 x 1 convolution.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import onnx_ir as ir

from ..dims import same
from ..graph import attribute, constant
from ..shapes import dims_of, static_shape
from ..symbolic.reading import input_at, ints_at
from ..target import STANDARD_DOMAINS
from .mapping import Mapping
from .operators import ELEMENTWISE, MICROSOFT_ELEMENTWISE, is_parameter, operator_mapping
from .variants import reduced_axes

Axes = frozenset[int]

NONE: Axes = frozenset()
ROWS = -1
"""Stands for all axes but the last: a row stays a row when those are counted otherwise ([batch, tokens, width] as [batch * tokens, width])."""
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
ASSUMED = 512
"""What an unknown size counts as where the size of a tile is asked for."""


def tiled_axes(node: ir.Node, index: int) -> Axes:
    """The axes of the results along which a tile needs the same tile of the input at ``index`` and nothing else: 0 and 1 for [batch, tokens, ...] in a
    LayerNormalization over the last axis. None where nothing of the kind is known.
    """
    if is_parameter(node, index) or operator_mapping(node) is Mapping.OPAQUE:
        return NONE
    read, made = dims_of(input_at(node, index)), dims_of(node.outputs[0])
    if read is None or made is None:
        return NONE
    if node.domain in STANDARD_DOMAINS:
        rule = _every if node.op_type in ELEMENTWISE else _RULES.get(node.op_type)
    else:
        rule = _every if node.op_type in MICROSOFT_ELEMENTWISE else _MICROSOFT.get(node.op_type)
    found = rule(node, index) & _common(node, index) if rule is not None else NONE
    return found | {ROWS} if _keeps_rows(node, index, found) else found


def has_tiles(value: ir.Value, axes: Axes) -> bool:
    """Whether the axes cut a value into more than one tile, or may do so. A batch alone is none: what works on it has all of a sample at once."""
    dims = dims_of(value)
    if dims is None:
        return False
    cut = dims[:-1] if ROWS in axes else [dim for axis, dim in enumerate(dims) if axis in axes and (axis > 0 or len(dims) < 3)]
    return any(dim != 1 for dim in cut)


def tile_bytes(values: Iterable[ir.Value], axes: Axes) -> int:
    """What one tile of each value takes together; an unknown size counts as `ASSUMED`."""
    total = 0
    for value in values:
        dims = [dim if isinstance(dim, int) else ASSUMED for dim in dims_of(value) or ()]
        inner = dims[-1:] if ROWS in axes else [dim for axis, dim in enumerate(dims) if axis not in axes]
        total += math.ceil(math.prod(inner) * (value.dtype.itemsize if value.dtype is not None else 4))
    return total


def is_depthwise(node: ir.Node) -> bool:
    """Whether a convolution makes each channel of one channel."""
    weight = static_shape(input_at(node, 1))
    return node.op_type in ("Conv", "FusedConv") and weight is not None and weight[1] == 1 and attribute(node, "group", 1) == weight[0] != 1


def _common(node: ir.Node, index: int) -> Axes:
    """The axes that are as long in the result as in the input; where the number of axes changes, only those in front of the first difference."""
    read, made = dims_of(node.inputs[index]) or (), dims_of(node.outputs[0]) or ()
    if len(read) == len(made):
        return frozenset(axis for axis, pair in enumerate(zip(read, made, strict=True)) if same(*pair))
    return frozenset(range(sum(1 for _ in itertools.takewhile(lambda pair: same(*pair), zip(read, made, strict=False)))))


def _keeps_rows(node: ir.Node, index: int, found: Axes) -> bool:
    """Whether each row along the last axis is made of the row in the same place."""
    read, made = dims_of(node.inputs[index]) or (), dims_of(node.outputs[0]) or ()
    if len(read) < 2 or len(made) < 2:
        return False
    if node.op_type in VIEWS and node.domain in STANDARD_DOMAINS:
        return index == 0 and same(read[-1], made[-1])
    return len(read) == len(made) and found >= frozenset(range(len(made) - 1))


def _every(node: ir.Node, index: int) -> Axes:
    """Elementwise: all axes; axes are counted from the front, so both must have as many."""
    rank = _rank(node, index)
    return frozenset(range(rank)) if rank == len(dims_of(node.outputs[0]) or ()) else NONE


def _in_front(count: int) -> Axes:
    return frozenset(range(max(count, 0)))


def _but(node: ir.Node, *axes: int) -> Axes:
    """All axes of the first input but these."""
    rank = _rank(node, 0)
    return frozenset(range(rank)) - {axis % max(rank, 1) for axis in axes}


def _axis(node: ir.Node, default: int) -> int:
    axis = int(attribute(node, "axis", default))  # type: ignore[call-overload]
    return axis if axis >= 0 else axis + _rank(node, 0)


def _before_axis(node: ir.Node, index: int) -> Axes:
    return _in_front(_axis(node, -1)) if index == 0 else NONE


def _beside_axis(node: ir.Node, index: int) -> Axes:
    """All axes but one; where that goes away, or all behind it belonged to it, only those before it."""
    if index != 0:
        return NONE
    kept = attribute(node, "keepdims", 1) == 1 and (node.op_type not in ("Softmax", "LogSoftmax", "Hardmax") or _rank(node, 0) - 1 == _axis(node, -1))
    return _but(node, _axis(node, -1)) if kept else _in_front(_axis(node, -1))


def _beside_reduced(node: ir.Node, index: int) -> Axes:
    axes = reduced_axes(node)
    if axes is None or index != 0:
        return NONE
    return _but(node, *axes) if attribute(node, "keepdims", 1) == 1 else _in_front(min(axes, default=_rank(node, 0)))


def _beside_summed(node: ir.Node, index: int) -> Axes:
    tensor = constant(input_at(node, 1))
    return NONE if tensor is None or index != 0 else _but(node, int(tensor.numpy().reshape(-1)[0]))


def _beside_joined(node: ir.Node, index: int) -> Axes:
    return _but(node, _axis(node, 0))


def _before_picked(node: ir.Node, index: int) -> Axes:
    return _in_front(_axis(node, 0)) if index == 0 else NONE


def _beside_cut(node: ir.Node, index: int) -> Axes:
    axes = ints_at(node, 3) if input_at(node, 3) is not None else tuple(range(_rank(node, 0)))
    return NONE if axes is None or index != 0 else _but(node, *axes)


def _unpadded(node: ir.Node, index: int) -> Axes:
    pads, rank = ints_at(node, 1), _rank(node, 0)
    if pads is None or len(pads) != 2 * rank or index != 0:
        return NONE
    return frozenset(axis for axis in range(rank) if pads[axis] == pads[axis + rank] == 0)


def _kept(node: ir.Node, index: int) -> Axes:
    """Axes that a permutation leaves in place."""
    perm = attribute(node, "perm")
    order = list(perm) if perm is not None else list(range(_rank(node, 0)))[::-1]  # type: ignore[call-overload]
    return frozenset(axis for axis, source in enumerate(order) if axis == source)


def _same_order(node: ir.Node, index: int) -> Axes:
    """Axes in front of the first that changes its length."""
    read, made = dims_of(node.inputs[index]) or (), dims_of(node.outputs[0]) or ()
    return _in_front(sum(1 for _ in itertools.takewhile(lambda pair: same(*pair), zip(read, made, strict=False)))) if index == 0 else NONE


def _matmul(node: ir.Node, index: int) -> Axes:
    """Rows of the left operand and columns of the right one, with the batch in front of them."""
    rank = len(dims_of(node.outputs[0]) or ())
    flipped = any(attribute(node, name, 0) == 1 for name in ("transA", "transB", "transBatchA", "transBatchB"))
    if index > 1 or _rank(node, index) != rank or rank < 2 or (flipped and (index == 1 or attribute(node, "transB", 0) == 0)):
        return NONE
    return _in_front(rank - 1) if index == 0 else _in_front(rank - 2) | {rank - 1}


def _gemm(node: ir.Node, index: int) -> Axes:
    if index == 2:
        return _every(node, index)
    flipped = attribute(node, "transA" if index == 0 else "transB", 0) == 1
    return NONE if flipped else frozenset({index})


def _conv(node: ir.Node, index: int) -> Axes:
    """Channels where each is made of one; places where nothing but the place itself is read."""
    weight = static_shape(input_at(node, 1))
    if weight is None or index != 0:
        return frozenset({0}) if index == 0 else NONE
    places = range(2, len(weight))
    plain = all(step == 1 for step in _numbers(node, "strides")) and not any(_numbers(node, "pads"))
    pointwise = plain and all(weight[axis] == 1 for axis in places) and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return frozenset({0, *((1,) if is_depthwise(node) else ()), *(places if pointwise else ())})


def _numbers(node: ir.Node, name: str) -> tuple[int, ...]:
    attr = node.attributes.get(name)
    return () if attr is None or attr.is_ref() else tuple(attr.as_ints())


def _rows(node: ir.Node, index: int) -> Axes:
    return _in_front(_rank(node, index) - 1) if index == 0 else NONE


def _skip(node: ir.Node, index: int) -> Axes:
    return _in_front(_rank(node, index) - 1) if index < 2 else NONE


def _attention(node: ir.Node, index: int) -> Axes:
    """Queries are rows of each head; keys and values belong to all queries."""
    heads_apart = _rank(node, 0) == 4
    return _in_front(((3, 2, 2) if heads_apart else (2, 1, 1))[index]) if index < 3 else NONE


def _multi_head(node: ir.Node, index: int) -> Axes:
    return _in_front((2, 1, 1)[index]) if index < 3 else NONE


def _first(count: int) -> Callable[[ir.Node, int], Axes]:
    return lambda node, index: _in_front(count) if index == 0 else NONE


def _rank(node: ir.Node, index: int) -> int:
    return len(dims_of(input_at(node, index)) or ())


_Rule = Callable[[ir.Node, int], Axes]
_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "InstanceNormalization", "LpPool", "MaxPool", "Resize", "Upsample")
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _before_axis),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "ArgMax", "ArgMin", "TopK"), _beside_axis),
    **dict.fromkeys(_REDUCTIONS, _beside_reduced),
    **dict.fromkeys(("CumSum", "CumProd"), _beside_summed),
    **dict.fromkeys(("Concat", "Split"), _beside_joined),
    **dict.fromkeys(VIEWS, _same_order),
    **dict.fromkeys(_POOLS, _first(2)),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _matmul),
    **dict.fromkeys(("ConvTranspose", "DepthToSpace", "GroupNormalization", "SpaceToDepth"), _first(1)),
    "BatchNormalization": lambda node, index: _every(node, index) if index == 0 else NONE,
    "Expand": lambda node, index: _every(node, index) if index == 0 else NONE,
    "Gather": _before_picked,
    "SimplifiedLayerNormalization": _rows,
    "Slice": _beside_cut,
    "Pad": _unpadded,
    "Transpose": _kept,
    "Gemm": _gemm,
    "Conv": _conv,
    "Attention": _attention,
    "RotaryEmbedding": _rows,
}
_MICROSOFT: dict[str, _Rule] = {
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _rows),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip),
    "FusedMatMul": _matmul,
    "FusedGemm": _gemm,
    "FusedConv": _conv,
    "MultiHeadAttention": _multi_head,
}
