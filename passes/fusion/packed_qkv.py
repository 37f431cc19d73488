"""Attention whose Q, K and V are projections of one tensor: ONNX Runtime's packed Attention multiplies by all three weights at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op, producer, used_outside
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of

MICROSOFT = "com.microsoft"
KERNEL = f"{MICROSOFT}::Attention"
JOINED = "float[2,6] w = {1,2,3,4,5,6,7,8,1,0,2,4}, float[6] e = {1,2,0,1,3,4}, int64[1] six = {6}"
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
        f"g (float[N,S,2] x) => (float[N,S,2] y) <{JOINED}>"
        " { p0 = MatMul(x, w) p = Add(e, p0) q, k, v = Split<axis=-1, num_outputs=3>(p) y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v) }",
        f"g (float[N,S,2] x, float[1,1,S,S] mask) => (float[N,S,2] y) <{JOINED}, int64[2] f = {{-1,2}}, int64[3] b = {{0,0,6}}>"
        " { d = Shape<end=2>(x) u = Concat<axis=0>(d, six) f0 = Reshape(x, f) g0 = Gemm(f0, w, e) p = Reshape<allowzero=1>(g0, u)"
        " v, q, k = Split<axis=2, num_outputs=3>(p) y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v, , , mask) }",
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
        f"g (float[N,S,2] x) => (float[N,S,2] y, float[N,S,2] k) <{JOINED}>"
        " { p = MatMul(x, w) q, k, v = Split<axis=-1, num_outputs=3>(p) y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v) }",
        f"g (float[N,3,2] x) => (float[N,1,6] y) <{JOINED}>"
        " { p = MatMul(x, w) q, k, v = Split<axis=1, num_outputs=3>(p) y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v) }",
        f"g (float[2,3,2] x) => (float[3,2,2] y) <{JOINED}, int64[2] f = {{-1,2}}, int64[3] b = {{3,2,6}}>"
        " { f0 = Reshape(x, f) g0 = Gemm(f0, w, e) p = Reshape(g0, b)"
        " q, k, v = Split<axis=2, num_outputs=3>(p) y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v) }",
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
    if source.shape is None or len(source.shape) != 3 or sizes[0] != sizes[1] or not m.target.takes(KERNEL, source.dtype):
        return None
    nodes = list(dict.fromkeys(node for item in projections for node in item.nodes))
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
    """What projects to ``value``, all of it or one part of a Split of its channels."""
    split = producer(value, "Split")
    if split is None:
        return _linear(value)
    whole = _linear(split.inputs[0])
    widths = [shape[-1] if (shape := dims_of(part)) else None for part in split.outputs]
    known = [width for width in widths if isinstance(width, int)]
    if whole is None or value is None or len(known) < len(widths) or int(attribute(split, "axis", 0)) not in (-1, len(dims_of(value) or ()) - 1):  # type: ignore[call-overload]
        return None
    start = sum(known[: value.index() or 0])
    part = slice(start, start + known[value.index() or 0])
    return Projection(whole.source, whole.weight[:, part], whole.bias[part], (split, *whole.nodes))


def _linear(value: ir.Value | None) -> Projection | None:
    """MatMul and Add, or a Gemm between Reshapes that take the tokens together and apart again."""
    made = dims_of(value)
    added = producer(value, "Add")
    bias = next((found for item in added.inputs if (found := array(item)) is not None), None) if added is not None else None
    if added is not None:
        if bias is None:
            return None
        value = next((item for item in added.inputs if array(item) is None), None)
    node = producer(value, "MatMul")
    if node is None:
        return _between_reshapes(value, made) if added is None else None
    return _projected(node.inputs[0], array(node.inputs[1]), bias, (node,) if added is None else (added, node))


def _between_reshapes(value: ir.Value | None, made: tuple[Dim, ...] | None) -> Projection | None:
    """Reshape(Gemm(Reshape(x))) that projects each token of x."""
    apart = producer(value, "Reshape")
    gemm = producer(apart.inputs[0], "Gemm") if apart is not None else None
    together = producer(gemm.inputs[0], "Reshape") if gemm is not None else None
    if apart is None or gemm is None or together is None or made is None:
        return None
    source, weight = together.inputs[0], array(gemm.inputs[1])
    if weight is None or not _is_plain(gemm) or not same_shape(made, (*(dims_of(source) or ())[:-1], weight.shape[attribute(gemm, "transB", 0) != 1])):
        return None
    weight = weight.T if attribute(gemm, "transB", 0) else weight
    bias = array(gemm.inputs[2]) if len(gemm.inputs) > 2 and gemm.inputs[2] is not None else np.zeros(weight.shape[1], weight.dtype)
    if bias is None or not same_shape((dims_of(source) or ())[-1:], weight.shape[:1]):
        return None
    return _projected(source, weight, bias, (apart, gemm, together))


def _is_plain(gemm: ir.Node) -> bool:
    return all(attribute(gemm, name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attribute(gemm, "transA", 0)


def _projected(source: ir.Value | None, weight: np.ndarray | None, bias: np.ndarray | None, nodes: tuple[ir.Node, ...]) -> Projection | None:
    if source is None or weight is None or weight.ndim != 2:
        return None
    bias = np.zeros(weight.shape[1], weight.dtype) if bias is None else bias
    kind = source.dtype.numpy() if source.dtype is not None else None
    return Projection(source, weight, bias, nodes) if bias.shape == (weight.shape[1],) and weight.dtype == bias.dtype == kind else None
