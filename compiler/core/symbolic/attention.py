"""Shapes of ONNX's Attention, whose cache grows by a symbol."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from .. import dims
from ..dims import UNKNOWN, Dim
from .attributes import int_attribute
from .reading import Dims, shape_at


def attention(node: ir.Node) -> Sequence[Dims | None]:
    """Attention (opset 23): Y, present_key, present_value, and the scores."""
    query, key, value = (shape_at(node, index) for index in range(3))
    past_key, past_value = shape_at(node, 4), shape_at(node, 5)
    if query is None or key is None or value is None or len({len(query), len(key), len(value)}) != 1 or len(query) not in (3, 4):
        return []
    q_heads = _heads(node, query, "q_num_heads")
    kv_heads = _heads(node, key, "kv_num_heads")
    total = _grown(key, past_key)
    width = value[-1] if len(value) == 4 else dims.floor_divide(value[-1], kv_heads)
    made: Dims = (query[0], q_heads, query[2], width) if len(query) == 4 else (*query[:2], dims.multiply(q_heads, width))
    key_width = key[-1] if len(key) == 4 else dims.floor_divide(key[-1], kv_heads)
    present_key = (key[0], kv_heads, total, key_width)
    present_value = (value[0], kv_heads, _grown(value, past_value), width)
    return [made, present_key, present_value, (query[0], q_heads, query[-2], total)]


def _heads(node: ir.Node, shape: Dims, name: str) -> Dim:
    if len(shape) == 4:
        return shape[1]
    return int_attribute(node, name) or UNKNOWN


def _grown(shape: Dims, past: Dims | None) -> Dim:
    return shape[-2] if past is None else dims.add(past[-2], shape[-2])
