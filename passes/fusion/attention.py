"""Scaled dot-product attention (Vaswani et al. 2017), found by following the algebra from the merging of its heads back to Q, K and V."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same, same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op, producer, scalar
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule

MICROSOFT = "com.microsoft"
BODY = (
    "q4 = Reshape(q, s) qt = Transpose<perm=[0,2,1,3]>(q4) k4 = Reshape(k,"
    " s) kt = Transpose<perm=[0,2,3,1]>(k4) v4 = Reshape(v, s) vt = Transpose<perm=[0,2,1,3]>(v4)"
)
TAIL = "p = Softmax(sc) o = MatMul(p, vt) ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, r)"
CONSTANTS = "int64[4] s = {0,0,2,4}, int64[3] r = {0,0,8}, float c = {0.5}"
INPUTS = "float[N,S,8] q, float[N,S,8] k, float[N,S,8] v"


def merged_heads(op: Pen, scores: object, v: object, shape: object, v_shape: object) -> object:
    values = op.Transpose(op.Reshape(v, v_shape, allowzero=ANY, _name="v_heads"), perm=[0, 2, 1, 3])
    attended = op.MatMul(op.Softmax(scores, axis=-1), values)
    return op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), shape, allowzero=ANY)


def merged_heads_last_axis(op: Pen, scores: object, v: object, shape: object, v_shape: object) -> object:
    values = op.Transpose(op.Reshape(v, v_shape, allowzero=ANY, _name="v_heads"), perm=[0, 2, 1, 3])
    attended = op.MatMul(op.Softmax(scores, axis=3), values)
    return op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), shape, allowzero=ANY)


@dataclass
class Scores:
    """What lies between the softmax and Q, K: the operands, the scale they are multiplied by and the mask that is added."""

    q: ir.Value
    k: ir.Value
    scale: float
    mask: ir.Value | None


@rule(
    merged_heads,
    merged_heads_last_axis,
    drift=ROUNDING,
    opset=13,
    kernels=("com.microsoft::MultiHeadAttention",),
    examples=[
        f"g ({INPUTS}) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Mul(m, c) {TAIL} }}",
        f"g ({INPUTS}, float[N,1,S,S] mask) => (float[N,S,8] y) <{CONSTANTS}>"
        f" {{ {BODY} qs = Mul(qt, c) ks = Mul(c, kt) m = MatMul(qs, ks) sc = Add(mask, m) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Div(m, c) {TAIL} }}",
    ],
    leaves=[
        f"g ({INPUTS}, float[N,1,1,S] mask) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Add(mask, m) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y, float[N,2,S,S] p) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Mul(m, c) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y) <int64[4] s = {{0,0,2,4}}, int64[3] r = {{0,0,8}}, float[4] c = {{1,2,3,4}}>"
        f" {{ {BODY} qs = Mul(qt, c) m = MatMul(qs, kt) sc = Relu(m) {TAIL} }}",
    ],
)
def fuse_attention(op: Build, m: Match) -> Result:
    """merge(softmax(a split(q) split(k)' + mask) split(v)) -> MultiHeadAttention(q, k, v, mask, scale=a)"""
    if m.v.dtype != ir.DataType.FLOAT:
        return skip("the kernel takes float, not %s", m.v.dtype)
    found = _scores(m)
    if isinstance(found, Skip):
        return found
    if not np.isfinite(found.scale) or found.scale == 0:
        return skip("the scale is %s, which the kernel takes for 1 / sqrt(size)", found.scale)
    heads = _heads(m, found)
    if isinstance(heads, Skip):
        return heads
    q, k, count = heads
    return op.MultiHeadAttention(q, k, m.v, None, None, found.mask, num_heads=count, scale=found.scale, _domain=MICROSOFT)


def _scores(m: Match) -> Scores | Skip:
    """Peel the mask and the scales off the scores, claiming each node on the way."""
    value, mask, scale = m.scores, None, 1.0
    node = producer(value, "Add")
    if node is not None:
        product = next((item for item in node.inputs if _is_product(item)), None)
        if product is None:
            return skip("neither operand of %s is a product of Q and K", node.name)
        mask = next(item for item in node.inputs if item is not product)
        value = product
        m.take(node)
    if mask is not None and not _mask_fits(mask, value):
        return skip("the mask has shape %s, the scores %s", mask.shape, value.shape)
    value, factor = _unscaled(m, value)
    scale *= factor
    node = producer(value, "MatMul")
    if node is None:
        return skip("'%s' is not a MatMul of Q and K", value.name)
    m.take(node)
    q, q_factor = _unscaled(m, node.inputs[0])
    k, k_factor = _unscaled(m, node.inputs[1])
    return Scores(q, k, scale * q_factor * k_factor, mask)


def _is_product(value: ir.Value | None) -> bool:
    node = producer(value, "MatMul", "Mul", "Div")
    while node is not None and is_op(node, "Mul", "Div"):
        node = next((made for made in (producer(item, "MatMul", "Mul", "Div") for item in node.inputs) if made is not None), None)
    return node is not None


def _mask_fits(mask: ir.Value, scores: ir.Value) -> bool:
    """The kernel takes [N or 1, heads or 1, S, T] and broadcasts the first two only."""
    if mask.shape is None or scores.shape is None or len(mask.shape) != 4 or len(scores.shape) != 4:
        return False
    outer = all(have == 1 or same(have, want) for have, want in zip(list(mask.shape)[:2], list(scores.shape)[:2], strict=True))
    return outer and same_shape(list(mask.shape)[2:], list(scores.shape)[2:])


def _unscaled(m: Match, value: ir.Value | None) -> tuple[ir.Value, float]:
    """``value`` without the constant factors on top of it, and their product."""
    factor = 1.0
    assert value is not None
    while (node := producer(value, "Mul", "Div")) is not None:
        numbers = [scalar(item) for item in node.inputs]
        if node.op_type == "Mul" and numbers[0] is not None:
            factor, inner = factor * float(numbers[0]), node.inputs[1]
        elif numbers[1] is not None and (node.op_type == "Mul" or numbers[1] != 0):
            factor = factor * float(numbers[1]) if node.op_type == "Mul" else factor / float(numbers[1])
            inner = node.inputs[0]
        else:
            break
        if inner is None or inner.shape is None or node.outputs[0].shape is None or len(inner.shape) != len(node.outputs[0].shape):
            break
        m.take(node)
        value = inner
    return value, factor


def _heads(m: Match, found: Scores) -> tuple[ir.Value, ir.Value, int] | Skip:
    """Q and K before their heads were split, and how many heads there are."""
    q = _split(m, found.q, [0, 2, 1, 3])
    k = _split(m, found.k, [0, 2, 3, 1])
    if isinstance(q, Skip) or isinstance(k, Skip):
        return q if isinstance(q, Skip) else k  # type: ignore[return-value]
    v_heads = m.node("v_heads").outputs[0]
    sizes = [_head_sizes(source, split) for source, split in (q, k, (m.v, v_heads))]
    if any(size is None for size in sizes):
        return skip("the heads are not split from [batch, tokens, heads * size]")
    counts = {size[0] for size in sizes if size is not None}
    if len(counts) != 1 or sizes[0] != sizes[1]:
        return skip("Q, K and V have %s heads", sorted(counts))
    output = m.root.outputs[0].shape
    if output is None or m.v.shape is None or len(output) != 3 or output[2] != m.v.shape[2]:
        return skip("the heads are merged to %s", output)
    return q[0], k[0], counts.pop()


def _split(m: Match, value: ir.Value, perm: list[int]) -> tuple[ir.Value, ir.Value] | Skip:
    """The value before and after the Reshape that splits its heads."""
    moved = producer(value, "Transpose")
    if moved is None or list(attribute(moved, "perm") or []) != perm:  # type: ignore[call-overload]
        return skip("'%s' is not transposed by %s", value.name, perm)
    reshaped = producer(moved.inputs[0], "Reshape")
    if reshaped is None or reshaped.inputs[0] is None:
        return skip("'%s' is not split into heads by a Reshape", value.name)
    m.take(moved)
    m.take(reshaped)
    return reshaped.inputs[0], reshaped.outputs[0]


def _head_sizes(source: ir.Value, split: ir.Value) -> tuple[int, int] | None:
    """(heads, size of a head) when [batch, tokens, heads * size] becomes [batch, tokens, heads, size]."""
    if source.shape is None or split.shape is None or len(source.shape) != 3 or len(split.shape) != 4:
        return None
    if not same_shape(list(source.shape)[:2], list(split.shape)[:2]):
        return None
    heads, size = split.shape[2], split.shape[3]
    return (heads, size) if isinstance(heads, int) and isinstance(size, int) else None


def projected(
    op: Pen, x: object, wq: Const, bq: Const, wk: Const, bk: Const, wv: Const, bv: Const, key_mask: object = None, pad: object = None, bias: object = None
) -> object:
    q, k, v = op.Add(op.MatMul(x, wq), bq), op.Add(op.MatMul(x, wk), bk), op.Add(op.MatMul(x, wv), bv)
    return op.MultiHeadAttention(q, k, v, key_mask, pad, bias, _attrs=ANY, _domain=MICROSOFT)


@rule(
    projected,
    drift=ROUNDING,
    kernels=("com.microsoft::Attention",),
    examples=[
        "g (float[N,S,2] x, float[N,1,S,S] mask) => (float[N,S,4] y) <float[2,4] a = {1,2,3,4,5,6,7,8},"
        " float[2,4] b = {2,2,3,4,1,6,7,8}, float[2,4] c = {3,2,3,0,5,6,7,8},"
        " float[4] d = {1,2,0,1}> { q0 = MatMul(x, a) q = Add(q0, d) k0 = MatMul(x, b) k = Add(k0, d) v0 = MatMul(x, c) v = Add(d, v0)"
        " y = com.microsoft.MultiHeadAttention<num_heads=2, scale=0.3>(q, k, v, , , mask) }"
    ],
    leaves=[
        "g (float[N,S,2] x, float[N,S,2] z) => (float[N,S,4] y) <float[2,4] a = {1,2,3,4,5,6,7,8},"
        " float[2,4] b = {2,2,3,4,1,6,7,8}, float[2,4] c = {3,2,3,0,5,6,7,8},"
        " float[4] d = {1,2,0,1}> { q0 = MatMul(x, a) q = Add(q0, d) k0 = MatMul(z, b) k = Add(k0, d) v0 = MatMul(z, c) v = Add(d, v0)"
        " y = com.microsoft.MultiHeadAttention<num_heads=2, scale=0.3>(q, k, v) }"
    ],
)
def pack_attention(op: Build, m: Match) -> Result:
    """MultiHeadAttention(x Wq + bq, x Wk + bk, x Wv + bv) -> Attention(x, [Wq Wk Wv], [bq bk bv])"""
    if m.key_mask is not None or m.pad is not None:
        return skip("it has a bias or a padding mask of its own")
    weights, biases = ([array(getattr(m, kind + name)) for name in "qkv"] for kind in "wb")
    sizes = [item.shape[1] for item in weights if item is not None and item.ndim == 2]
    if len(sizes) != 3 or any(bias is None or bias.shape != (size,) for bias, size in zip(biases, sizes, strict=True)):
        return skip("the projections are not of the form x W + b")
    if m.x.shape is None or len(m.x.shape) != 3:
        return skip("'%s' has shape %s", m.x.name, m.x.shape)
    attributes = {name: attribute(m.root, name) for name in ("num_heads", "scale") if name in m.root.attributes}
    if sizes[2] != sizes[0]:
        attributes["qkv_hidden_sizes"] = sizes
    weight, bias = op.const(np.concatenate(weights, axis=1), "qkv"), op.const(np.concatenate(biases), "qkv_bias")  # type: ignore[arg-type]
    return op.Attention(m.x, weight, bias, None, None, m.bias, _domain=MICROSOFT, **attributes)
