"""Attention whose Q, K and V are projections of one tensor: ONNX Runtime's packed Attention multiplies by all three weights at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op, producer, used_outside
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule

MICROSOFT = "com.microsoft"
WEIGHTS = "float[2,4] a = {1,2,3,4,5,6,7,8}, float[2,4] b = {2,2,3,4,1,6,7,8}, float[2,4] c = {3,2,3,0,5,6,7,8}, float[4] d = {1,2,0,1}"


@dataclass(frozen=True)
class Projection:
    """x W + b; no bias is zeros."""

    source: ir.Value
    weight: np.ndarray
    bias: np.ndarray
    nodes: tuple[ir.Node, ...]


@rule(
    "com.microsoft::MultiHeadAttention",
    drift=ROUNDING,
    kernels=("com.microsoft::Attention",),
    examples=[
        f"g (float[N,S,2] x, float[N,1,S,S] mask) => (float[N,S,4] y) <{WEIGHTS}>"
        " { q0 = MatMul(x, a) q = Add(q0, d) k0 = MatMul(x, b) k = Add(k0, d) v0 = MatMul(x, c) v = Add(d, v0)"
        " y = com.microsoft.MultiHeadAttention<num_heads=2, scale=0.3>(q, k, v, , , mask) }",
        f"g (float[N,S,2] x) => (float[N,S,4] y) <{WEIGHTS}>"
        " { q0 = MatMul(x, a) q = Add(q0, d) k = MatMul(x, b) v0 = MatMul(x, c) v = Add(d, v0)"
        " y = com.microsoft.MultiHeadAttention<num_heads=2, scale=0.3>(q, k, v) }",
        f"g (float[N,S,2] x) => (float[N,S,4] y) <{WEIGHTS}>"
        " { q = MatMul(x, a) k = MatMul(x, b) v = MatMul(x, c) y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v) }",
    ],
    leaves=[
        f"g (float[N,S,2] x, float[N,S,2] z) => (float[N,S,4] y) <{WEIGHTS}>"
        " { q0 = MatMul(x, a) q = Add(q0, d) k0 = MatMul(z, b) k = Add(k0, d) v0 = MatMul(z, c) v = Add(d, v0)"
        " y = com.microsoft.MultiHeadAttention<num_heads=2, scale=0.3>(q, k, v) }",
        f"g (float[N,S,2] x) => (float[N,S,4] y, float[N,S,4] k) <{WEIGHTS}>"
        " { q = MatMul(x, a) k = MatMul(x, b) v = MatMul(x, c) y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v) }",
        f"g (float[N,S,2] x, bool[N,S] pad) => (float[N,S,4] y) <{WEIGHTS}>"
        " { i = Cast<to=6>(pad) q = MatMul(x, a) k = MatMul(x, b) v = MatMul(x, c)"
        " y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v, , i) }",
        "g (float[N,4] x) => (float[1,N,4] y) <float[4,4] a = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}, int64[1] z = {0}>"
        " { q0 = MatMul(x, a) q = Unsqueeze(q0, z) y = com.microsoft.MultiHeadAttention<num_heads=2>(q, q, q) }",
    ],
)
def pack_attention(op: Build, m: Match) -> Result:
    """MultiHeadAttention(x Wq + bq, x Wk + bk, x Wv + bv, mask) -> Attention(x, [Wq Wk Wv], [bq bk bv], mask)"""
    inputs = [*m.root.inputs, *[None] * 6]
    if any(item is not None for item in (*inputs[3:5], *inputs[6:])):
        return skip("it has a bias, a padding mask or a cache of its own")
    attributes = {name: attribute(m.root, name) for name in ("num_heads", "scale") if name in m.root.attributes}
    packed = pack(op, m, inputs[:3], inputs[5], attributes)
    return skip("Q, K and V are not projections of one tensor that nothing else reads") if packed is None else packed


def pack(op: Build, m: Match, operands: Sequence[ir.Value | None], mask: ir.Value | None, attributes: dict[str, object]) -> ir.Value | None:
    """The packed kernel on what Q, K and V are projections of, claiming these; None when they are not, or are needed elsewhere too."""
    found = [_projection(value) for value in operands]
    projections = [item for item in found if item is not None]
    if len(projections) != 3 or len({item.source for item in projections}) != 1:
        return None
    source, sizes = projections[0].source, [item.weight.shape[1] for item in projections]
    if source.shape is None or len(source.shape) != 3 or sizes[0] != sizes[1]:
        return None
    nodes = [node for item in projections for node in item.nodes]
    if any(used_outside(value, [*m.nodes, *nodes, *op.nodes]) for node in nodes for value in node.outputs):
        return None
    _measure_at(op, source, operands)
    for node in nodes:
        m.take(node)
    if sizes[2] != sizes[0]:
        attributes = {**attributes, "qkv_hidden_sizes": sizes}
    weight = op.const(np.concatenate([item.weight for item in projections], axis=1), "qkv")
    bias = op.const(np.concatenate([item.bias for item in projections]), "qkv_bias")
    return op.Attention(source, weight, bias, None, None, mask, _domain=MICROSOFT, **attributes)  # type: ignore[return-value]


def _measure_at(op: Build, source: ir.Value, operands: Sequence[ir.Value | None]) -> None:
    """Let what was drawn to measure batch and tokens measure what is projected, which has the same and stays."""
    for node in op.nodes:
        if is_op(node, "Shape") and node.inputs[0] in operands:
            start, end = attribute(node, "start", 0), attribute(node, "end")
            if isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= 2:
                node.replace_input_with(0, source)


def _projection(value: ir.Value | None) -> Projection | None:
    """What projects to ``value``."""
    added = producer(value, "Add")
    bias = next((found for item in added.inputs if (found := array(item)) is not None), None) if added is not None else None
    if added is not None:
        if bias is None:
            return None
        value = next((item for item in added.inputs if array(item) is None), None)
    node = producer(value, "MatMul")
    weight = array(node.inputs[1]) if node is not None else None
    if node is None or node.inputs[0] is None or weight is None or weight.ndim != 2:
        return None
    bias = np.zeros(weight.shape[1], weight.dtype) if bias is None else bias
    fits = bias.shape == (weight.shape[1],) and weight.dtype == np.float32
    return Projection(node.inputs[0], weight, bias, (node,) if added is None else (added, node)) if fits else None
