"""Types and shapes of ONNX Runtime's own operators (com.microsoft), which ONNX does not define."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from .. import dims
from ..dims import UNKNOWN, Dim
from . import spatial
from .attributes import axis_of, int_attribute, ints_attribute
from .reading import Dims, dims_of, input_at, shape_at
from .standard import Outcome

OutcomeRule = Callable[[ir.Node], Sequence[Outcome]]
NOTHING: Outcome = (None, None)
_LEGACY = frozenset({"SimplifiedLayerNormalization", "LayerNormalization"})


def outcomes(node: ir.Node) -> Sequence[Outcome] | None:
    """Type and dimensions of each output; None for an operator not known here."""
    if node.domain != "com.microsoft" and not (node.domain in ("", "ai.onnx") and node.op_type in _LEGACY):
        return None
    rule = _RULES.get(node.op_type)
    if rule is None:
        return None
    found = [*rule(node), *[NOTHING] * len(node.outputs)]
    return found[: len(node.outputs)]


def _kind(node: ir.Node, index: int = 0) -> ir.TypeProtocol | None:
    value = input_at(node, index)
    return None if value is None else value.type


def _like(node: ir.Node, index: int = 0) -> Outcome:
    return _kind(node, index), shape_at(node, index)


def _first(node: ir.Node) -> Sequence[Outcome]:
    """One output like the first input."""
    return [_like(node)]


def _broadcast(first: int, second: int) -> OutcomeRule:
    return lambda node: [(_kind(node, first), dims.broadcast(shape_at(node, first), shape_at(node, second)))]


def _skip_layer_norm(node: ir.Node) -> Sequence[Outcome]:
    """Output, mean, inverse deviation, and the sum before normalising."""
    shape = dims.broadcast(shape_at(node, 0), shape_at(node, 1))
    reduced = None if shape is None else (*shape[:-1], 1)
    single = ir.TensorType(ir.DataType.FLOAT)
    return [(_kind(node), shape), (single, reduced), (single, reduced), (_kind(node), shape)]


def _layer_norm(node: ir.Node) -> Sequence[Outcome]:
    shape = shape_at(node, 0)
    axis = None if shape is None else axis_of(int_attribute(node, "axis", -1), len(shape))
    reduced = None if shape is None or axis is None else (*shape[:axis], *(1,) * (len(shape) - axis))
    kind = _kind(node, 1) or _kind(node)
    single = ir.TensorType(ir.DataType.FLOAT)
    return [(kind, shape), (single, reduced), (single, reduced)]


def _embed_layer_norm(node: ir.Node) -> Sequence[Outcome]:
    ids, table = shape_at(node, 0), shape_at(node, 2)
    shape = None if ids is None or table is None else (*ids, table[-1])
    batch = None if ids is None else (ids[0],)
    return [(_kind(node, 2), shape), (ir.TensorType(ir.DataType.INT32), batch), (_kind(node, 2), shape)]


def _product(a: Dims | None, b: Dims | None) -> Dims | None:
    """The shape of a matrix product of at least two-dimensional operands."""
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return None
    batch = dims.broadcast(a[:-2], b[:-2])
    return None if batch is None else (*batch, a[-2], b[-1])


def _fused_matmul(node: ir.Node) -> Sequence[Outcome]:
    a, b = (
        _turned(shape_at(node, index), bool(int_attribute(node, f"transBatch{name}")), bool(int_attribute(node, f"trans{name}")))
        for index, name in enumerate("AB")
    )
    if a is not None and b is not None and (len(a) == 1 or len(b) == 1):
        return [(_kind(node), (*a[:-1], *b[:-2], *b[-1:]) if len(b) > 1 else a[:-1])]
    return [(_kind(node), _product(a, b))]


def _turned(shape: Dims | None, batch: bool, matrix: bool) -> Dims | None:
    if shape is None or len(shape) < 2:
        return shape
    if batch:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if matrix else shape


def _fused_gemm(node: ir.Node) -> Sequence[Outcome]:
    a = _turned(shape_at(node, 0), False, bool(int_attribute(node, "transA")))
    b = _turned(shape_at(node, 1), False, bool(int_attribute(node, "transB")))
    return [(_kind(node), _product(a, b))]


def _matmul_like(kind_at: int | None, second: int, dtype: ir.DataType | None = None) -> OutcomeRule:
    def rule(node: ir.Node) -> Sequence[Outcome]:
        kind = ir.TensorType(dtype) if dtype is not None else _kind(node, kind_at or 0)
        return [(kind, _product(shape_at(node, 0), shape_at(node, second)))]

    return rule


def _matmul_nbits(node: ir.Node) -> Sequence[Outcome]:
    shape = shape_at(node, 0)
    return [(_kind(node), None if shape is None else (*shape[:-1], int_attribute(node, "N")))]


def _convolution(kind_at: int, weight_at: int, channels_last: bool = False) -> OutcomeRule:
    rule = spatial.convolution(0, weight_at, channels_last)
    return lambda node: [(_kind(node, kind_at), rule(node)[0])]


def _qlinear_conv(node: ir.Node) -> Sequence[Outcome]:
    channels_last = bool(int_attribute(node, "channels_last"))
    return _convolution(7, 3, channels_last)(node)


def _pool(node: ir.Node) -> Sequence[Outcome]:
    return [(_kind(node), spatial.pool()(node)[0])]


def _global_pool(node: ir.Node) -> Sequence[Outcome]:
    return [(_kind(node), spatial.global_pool()(node)[0])]


def _qlinear_concat(node: ir.Node) -> Sequence[Outcome]:
    shapes = [dims_of(value) for value in node.inputs[2::3]]
    if not shapes or any(shape is None or len(shape) != len(shapes[0] or ()) for shape in shapes):
        return [(_kind(node, 1), None)]
    known = [shape for shape in shapes if shape is not None]
    axis = axis_of(int_attribute(node, "axis"), len(known[0]))
    if axis is None:
        return [(_kind(node, 1), None)]
    total: Dim = 0
    for shape in known:
        total = dims.add(total, shape[axis])
    return [(_kind(node, 1), (*known[0][:axis], total, *known[0][axis + 1 :]))]


def _qgemm(node: ir.Node) -> Sequence[Outcome]:
    a = _turned(shape_at(node, 0), False, bool(int_attribute(node, "transA")))
    b = _turned(shape_at(node, 3), False, bool(int_attribute(node, "transB")))
    kind = _kind(node, 8) if input_at(node, 8) is not None else ir.TensorType(ir.DataType.FLOAT)
    return [(kind, _product(a, b))]


def _quantize(node: ir.Node) -> Sequence[Outcome]:
    kind = _kind(node, 2) if input_at(node, 2) is not None else ir.TensorType(ir.DataType.UINT8)
    return [(kind, shape_at(node, 0))]


def _dequantize(node: ir.Node) -> Sequence[Outcome]:
    return [(_kind(node, 1), shape_at(node, 0))]


def _attention(node: ir.Node) -> Sequence[Outcome]:
    """Attention with its own projection of [batch, sequence, hidden]; the cache is [2, batch, heads, total, size]."""
    data, bias = shape_at(node, 0), shape_at(node, 2)
    if data is None or len(data) != 3:
        return [(_kind(node), None)]
    sizes = ints_attribute(node, "qkv_hidden_sizes")
    width: Dim = sizes[2] if sizes else UNKNOWN if not bias else dims.floor_divide(bias[0], 3)
    heads = int_attribute(node, "num_heads")
    past = shape_at(node, 4)
    if int_attribute(node, "past_present_share_buffer"):
        cache: Dims | None = past
    else:
        total = data[1] if past is None else dims.add(past[3], data[1])
        cache = (2, data[0], heads, total, dims.floor_divide(width, heads))
    return [(_kind(node), (data[0], data[1], width)), (_kind(node), cache)]


def _multi_head_attention(node: ir.Node) -> Sequence[Outcome]:
    """MultiHeadAttention over separate or packed query, key and value; the cache is not followed."""
    query, value = shape_at(node, 0), shape_at(node, 2)
    cache: Outcome = (_kind(node), (UNKNOWN,) * 4)
    if query is None:
        return [(_kind(node), None), cache, cache]
    if len(query) == 5:
        return [(_kind(node), (query[0], query[1], dims.multiply(query[2], query[4]))), cache, cache]
    width = query[-1] if value is None else value[-1] if len(value) == 3 else dims.multiply(value[1], value[3])
    return [(_kind(node), (query[0], query[1], width)), cache, cache]


def _group_query_attention(node: ir.Node) -> Sequence[Outcome]:
    query, key = shape_at(node, 0), shape_at(node, 1)
    cache: Outcome = (_kind(node), (UNKNOWN,) * 4)
    if query is None or len(query) != 3:
        return [(_kind(node), None), cache, cache]
    heads, shared = int_attribute(node, "num_heads"), int_attribute(node, "kv_num_heads")
    width = query[2] if key is not None else dims.floor_divide(dims.multiply(query[2], heads), heads + 2 * shared)
    return [(_kind(node), (query[0], query[1], width)), cache, cache]


def _float(rule: OutcomeRule) -> OutcomeRule:
    """The rule's shapes as float32."""
    return lambda node: [(ir.TensorType(ir.DataType.FLOAT), shape) for _, shape in rule(node)]


_RULES: Mapping[str, OutcomeRule] = {
    **dict.fromkeys(
        ("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "BiasSoftmax", "RotaryEmbedding", "Inverse", "Trilu", "GroupNorm", "DequantizeWithOrder"), _first
    ),
    "BiasAdd": _first,
    "BiasDropout": _first,
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), _first),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_layer_norm),
    **dict.fromkeys(("SimplifiedLayerNormalization", "LayerNormalization"), _layer_norm),
    "EmbedLayerNormalization": _embed_layer_norm,
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "FusedMatMulActivation": _fused_matmul,
    "FusedGemm": _fused_gemm,
    "FusedConv": _convolution(0, 1),
    "NhwcFusedConv": _convolution(0, 1, True),
    "NhwcConv": _convolution(0, 1, True),
    "NhwcMaxPool": lambda node: [(_kind(node), _nhwc_pool(node))],
    "QLinearConv": _qlinear_conv,
    "QLinearAdd": _broadcast(0, 3),
    "QLinearMul": _broadcast(0, 3),
    "QLinearAveragePool": _pool,
    "QLinearGlobalAveragePool": _global_pool,
    "QLinearConcat": _qlinear_concat,
    "QGemm": _qgemm,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "MatMulNBits": _matmul_nbits,
    "MatMulInteger16": _matmul_like(None, 1, ir.DataType.INT32),
    "DynamicQuantizeMatMul": _matmul_like(None, 1, ir.DataType.FLOAT),
    "MatMulIntegerToFloat": _float(_matmul_like(0, 1)),
    "Attention": _attention,
    "MultiHeadAttention": _multi_head_attention,
    "GroupQueryAttention": _group_query_attention,
}


def _nhwc_pool(node: ir.Node) -> Dims | None:
    data = shape_at(node, 0)
    if data is None or len(data) < 3:
        return None
    sizes = spatial.windows(node, data[1:-1], ints_attribute(node, "kernel_shape"), ceil=bool(int_attribute(node, "ceil_mode")))
    return (data[0], *sizes, data[-1])
