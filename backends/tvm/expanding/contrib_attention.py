"""Attention of ONNX Runtime in standard operators: softmax(scale q k' + bias) v, head by head.

Source: docs/ContribOperators.md of ONNX Runtime, MultiHeadAttention and Attention, as far as our fusions write them: no cache, no padding mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import attribute
from ....compiler.core.shapes import static_shape

LOWEST = -10000.0
"""What ONNX Runtime puts where nobody may look, unless the node says otherwise."""


def multi_head_attention(op: Build, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """Queries, keys and values [batch, tokens, heads x size], projected already; a bias is added to them first."""
    operands: list[ir.Value | None] = [*node.inputs, *[None] * 6]
    query, key, value, bias, padding, attention_bias = operands[:6]
    caches = operands[6:]
    if padding is not None or any(cache is not None for cache in caches) or len(node.outputs) > 1 or query is None or key is None or value is None:
        return None
    widths = [_width(one) for one in (query, key, value)]
    if any(width is None for width in widths):
        return None
    sizes = cast("list[int]", widths)
    given = [query, key, value]
    if bias is not None:
        starts = np.cumsum([0, *sizes])
        parts = [_one(op.Slice(bias, op.const([int(start)]), op.const([int(end)]))) for start, end in zip(starts, starts[1:], strict=False)]
        given = [_one(op.Add(one, part)) for one, part in zip(given, parts, strict=True)]
    return _attended(op, node, given, sizes, attention_bias)


def packed_attention(op: Build, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """Tokens [batch, tokens, width], projected to queries, keys and values by one matrix."""
    given: list[ir.Value | None] = [*node.inputs, *[None] * 6]
    source, weight, bias, mask, past, attention_bias = given[:6]
    more = given[6:]
    if mask is not None or past is not None or any(one is not None for one in more) or len(node.outputs) > 1 or attribute(node, "do_rotary", 0):
        return None
    shape = static_shape(weight)
    if shape is None or len(shape) != 2 or source is None:
        return None
    declared = cast("Sequence[int] | None", attribute(node, "qkv_hidden_sizes"))
    sizes = list(declared) if declared else [shape[1] // 3] * 3
    joined = _one(op.MatMul(source, weight))
    if bias is not None:
        joined = _one(op.Add(joined, bias))
    parts = op.Split(joined, op.const(sizes), axis=-1, _outputs=3)
    assert isinstance(parts, tuple)
    return _attended(op, node, parts, sizes, attention_bias)


def _attended(op: Build, node: ir.Node, parts: Sequence[ir.Value], sizes: Sequence[int], bias: ir.Value | None) -> tuple[ir.Value | None, ...] | None:
    heads = cast(int, attribute(node, "num_heads", 0))
    if not heads or any(size % heads for size in sizes):
        return None
    scale = float(cast(float, attribute(node, "scale", 0.0))) or 1.0 / math.sqrt(sizes[0] // heads)
    dtype = (parts[0].dtype or node.inputs[0].dtype or ir.DataType.FLOAT).numpy()  # type: ignore[union-attr]
    query, key, value = (_by_head(op, part, heads, size // heads, perm) for part, size, perm in zip(parts, sizes, _PERMS, strict=True))
    scores = _one(op.Mul(_one(op.MatMul(query, key)), np.array(scale, dtype)))
    if bias is not None:
        scores = _one(op.Add(scores, bias))
    if attribute(node, "unidirectional", 0):
        tokens = static_shape(node.inputs[0])
        if tokens is None or node.op_type != "Attention":
            return None
        lowest = float(cast(float, attribute(node, "mask_filter_value", LOWEST)))
        scores = _one(op.Add(scores, np.triu(np.full((tokens[1], tokens[1]), lowest, dtype), 1)))
    mixed = _one(op.Transpose(_one(op.MatMul(_one(op.Softmax(scores, axis=-1)), value)), perm=[0, 2, 1, 3]))
    return (_one(op.Reshape(mixed, op.const([0, 0, sizes[2]]))),)


_PERMS = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
"""Where batch, tokens, heads and size go for queries, keys and values."""


def _by_head(op: Build, part: ir.Value, heads: int, size: int, perm: Sequence[int]) -> ir.Value:
    return _one(op.Transpose(_one(op.Reshape(part, op.const([0, 0, heads, size]))), perm=list(perm)))


def _width(value: ir.Value) -> int | None:
    """The last of three dimensions, where it is a number."""
    if value.shape is None or len(value.shape) != 3:
        return None
    last = value.shape[2]
    return last if isinstance(last, int) else None


def _one(made: ir.Value | tuple[ir.Value, ...]) -> ir.Value:
    assert isinstance(made, ir.Value)
    return made
