"""Attention lowered to ONNX Runtime's MultiHeadAttention, where the standard operator is not proven to agree.

Its CPU kernel takes empty tensors and does what a softmax does with rows in which every key is hidden; the one of the standard Attention is faster,
but does neither (`raising.attention`). Measured: as fast as the decomposed form with a mask, up to a tenth faster without; with the projections packed
into it another tenth.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into, same
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import is_op, producer, used_outside
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ..raising.attention_core import Core, Operands, find_core, forget_unused, operands
from ..raising.attention_guard import guard_is_idle
from ..raising.attention_heads import TO_HEADS, before_merge, merged_as, tokens_first
from ..raising.attention_mask import Mask, as_given
from .packed_qkv import WEIGHTS, pack

MICROSOFT = "com.microsoft"
KERNEL = f"{MICROSOFT}::MultiHeadAttention"
BODY = (
    "q4 = Reshape(q, s) qt = Transpose<perm=[0,2,1,3]>(q4) k4 = Reshape(k,"
    " s) kt = Transpose<perm=[0,2,3,1]>(k4) v4 = Reshape(v, s) vt = Transpose<perm=[0,2,1,3]>(v4)"
)
TAIL = "p = Softmax(sc) o = MatMul(p, vt) ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, r)"
CONSTANTS = "int64[4] s = {0,0,2,4}, int64[3] r = {0,0,8}, float c = {0.5}"
INPUTS = "float[N,S,8] q, float[N,S,8] k, float[N,S,8] v"


@dataclass(frozen=True)
class Fused:
    """A kernel in place of an attention, and whether only measuring tells if it is faster."""

    value: ir.Value
    measured: bool


@rule(
    "Reshape",
    drift=ROUNDING,
    opset=13,
    kernels=("com.microsoft::MultiHeadAttention", "com.microsoft::Attention"),
    examples=[
        f"g (float[N,S,2] x) => (float[N,S,4] y) <{WEIGHTS}, int64[4] s = {{0,0,2,2}}, int64[3] r = {{0,0,4}}>"
        f" {{ q = MatMul(x, a) k1 = MatMul(x, b) k = Add(k1, d) v = MatMul(x, c) {BODY} sc = MatMul(qt, kt) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Mul(m, c) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Div(m, c) {TAIL} }}",
        "g (float[N,2,S,4] qt, float[N,2,T,4] k, float[N,2,T,4] vt) => (float[N,S,8] y) <int64[3] r = {0,0,8}>"
        f" {{ sc = com.microsoft.FusedMatMul<alpha=0.5, transB=1>(qt, k) {TAIL} }}",
        "g (float[N,1,8] x, float[N,2,T,4] k, float[N,2,T,4] v) => (float[N,1,8] y) <int64[4] s = {0,2,1,4}, int64[3] r = {0,1,8}>"
        " { q = Reshape(x, s) kt = Transpose<perm=[0,1,3,2]>(k) sc = MatMul(q, kt) p = Softmax(sc) o = MatMul(p, v) y = Reshape(o, r) }",
        "g (float[N,2,S,4] q, float[N,2,T,4] k, float[N,2,T,4] vt) => (float[N,S,8] y) <int64[3] r = {0,0,8}>"
        f" {{ kt = Transpose<perm=[0,1,3,2]>(k) sc = MatMul(q, kt) {TAIL} }}",
    ],
    leaves=[
        "g (float[N,2,4,4] qt, float[N,2,4,4] kt, float[N,2,4,4] vt) => (float[N,4,8] y) <int64[3] r = {0,0,8}>"
        f" {{ sc = com.microsoft.FusedMatMul<transA=1>(qt, kt) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y, float[N,2,S,S] p) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Mul(m, c) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y) <int64[4] s = {{0,0,2,4}}, int64[3] r = {{0,0,8}}, float[4] c = {{1,2,3,4}}>"
        f" {{ {BODY} qs = Mul(qt, c) m = MatMul(qs, kt) sc = Relu(m) {TAIL} }}",
        "g (float16[N,S,8] q, float16[N,S,8] k, float16[N,S,8] v) => (float16[N,S,8] y) <int64[4] s = {0,0,2,4}, int64[3] r = {0,0,8}>"
        f" {{ {BODY} sc = MatMul(qt, kt) {TAIL} }}",
        "g (float[N,2,S,4] q, float[N,1,T,4] k, float[N,1,T,4] vt) => (float[N,S,8] y) <int64[3] r = {0,0,8}>"
        f" {{ kt = Transpose<perm=[0,1,3,2]>(k) sc = MatMul(q, kt) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) d = Tanh(m) sc = Mul(d, c) {TAIL} }}",
        f"g ({INPUTS}, float[N,1,S,S] mask) => (float[N,S,8] y) <{CONSTANTS}>"
        f" {{ {BODY} qs = Mul(qt, c) ks = Mul(c, kt) m = MatMul(qs, ks) sc = Add(mask, m) {TAIL} }}",
    ],
)
def fuse_attention(op: Build, m: Match) -> Result:
    """merge(softmax(a q k') v) -> MultiHeadAttention(q, k, v, scale=a), or Attention(x, [Wq Wk Wv], mask) where q, k, v are projections of x"""
    found = _fused(op, m)
    if isinstance(found, Fused) and found.measured:
        return skip("with a mask and operands that cannot be packed it may be slower: fuse-masked-attention measures it")
    return found.value if isinstance(found, Fused) else found


@rule(
    "Reshape",
    drift=ROUNDING,
    opset=13,
    kernels=("com.microsoft::MultiHeadAttention", "com.microsoft::Attention"),
    measured=True,
    examples=[
        f"g ({INPUTS}, float[N,1,S,S] mask) => (float[N,S,8] y) <{CONSTANTS}>"
        f" {{ {BODY} qs = Mul(qt, c) ks = Mul(c, kt) m = MatMul(qs, ks) sc = Add(mask, m) {TAIL} }}",
        f"g ({INPUTS}, float[N,1,S,S] mask) => (float[N,S,8] y) <{CONSTANTS}>"
        f" {{ {BODY} m = com.microsoft.FusedMatMul<alpha=0.5>(qt, kt) sc = Add(mask, m) {TAIL} }}",
        f"g ({INPUTS}, float[N,1,1,S] mask) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Add(mask, m) {TAIL} }}",
        f"g ({INPUTS}, int8[S] mask) => (float[N,S,8] y) <{CONSTANTS}, float w = {{0.1}}> {{ {BODY} m = MatMul(qt, kt) f = Cast<to=1>(mask) b = Mul(f, w)"
        f" a = Add(b, m) sc = Mul(a, c) {TAIL} }}",
        f"g ({INPUTS}, float[2,S,S] mask) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} sc0 = MatMul(qt, kt) sc = Add(sc0, mask) {TAIL} }}",
        f"g ({INPUTS}, bool[S,S] seen, int8[2,S,S] bi) => (float[N,S,8] y) <{CONSTANTS}, float z = {{0}}, float low = {{-3.4028235e38}}, float w = {{0.1}}>"
        f" {{ {BODY} m = MatMul(qt, kt) f = Cast<to=1>(bi) b = Mul(f, w) mask = Where(seen, z, low) a = Add(mask, m) sc = Add(a, b) {TAIL} }}",
        "g (float[N,S,8] q, int8[N,S,8] ki, float[N,S,8] v, bool[N,1,1,S] seen) => (float[N,S,8] y) <int64[4] s = {0,0,2,4}, int64[3] r = {0,0,8},"
        f" float low = {{-1e9}}> {{ h = Cast<to=2>(ki) k = Cast<to=1>(h) {BODY.replace('Reshape(q, s)', 'Reshape(k, s)')} m = MatMul(qt, kt)"
        f" sc = Where(seen, m, low) {TAIL} }}",
        "g (float[N,2,5,4] q, float[N,2,5,4] k, float[N,2,5,4] v, float[N,1,5,5] mask) => (float[N,5,8] y) <int64[3] f = {-1,5,4}, int64[3] fs = {-1,5,5},"
        " int64[4] u = {-1,2,5,5}, int64[4] w = {-1,2,5,4}, int64[3] r = {0,0,8}> { q3 = Reshape(q, f) k3 = Reshape(k, f) v3 = Reshape(v, f)"
        " kt = Transpose<perm=[0,2,1]>(k3) m3 = MatMul(q3, kt) m4 = Reshape(m3, u) a = Add(m4, mask) sc = Reshape(a, fs) p = Softmax(sc) o3 = MatMul(p, v3)"
        " o = Reshape(o3, w) ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, r) }",
    ],
    leaves=[
        "g (int8[N,2,S,4] qi, int8[N,2,T,4] ki, int8[N,2,T,4] vi, bool[S,T] b, bool[1,T] d) => (float[N,S,8] y) <float z = {0}, float low = {-3.4028235e38},"
        " int64[3] r = {0,0,8}> { q = Cast<to=1>(qi) k = Cast<to=1>(ki) vt = Cast<to=1>(vi) kt = Transpose<perm=[0,1,3,2]>(k) m = MatMul(q, kt)"
        " wb = Where(b, z, low) wd = Where(d, z, low) e = Add(m, wb) sc = Add(e, wd) p1 = Softmax(sc) n = IsNaN(p1) p = Where(n, z, p1) o = MatMul(p, vt)"
        " ot = Transpose<perm=[0,2,1,3]>(o) y = Reshape(ot, r) }",
        f"g ({INPUTS}, bool[S,S] seen) => (float[N,S,8] y) <{CONSTANTS}, float z = {{0}}, float low = {{-10000}}>"
        f" {{ {BODY} m = MatMul(qt, kt) w = Where(seen, z, low) a = Add(m, w) sc = Mul(a, c) {TAIL} }}",
        f"g ({INPUTS}, float[2,S,S] mask, float[N,1,S,S] more) => (float[N,S,8] y) <{CONSTANTS}>"
        f" {{ {BODY} m = MatMul(qt, kt) a = Add(mask, m) sc = Add(a, more) {TAIL} }}",
        f"g ({INPUTS}, float[S] mask) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) a = Add(mask, m) sc = Mul(a, c) {TAIL} }}",
        f"g ({INPUTS}, bool[N,1,1,S] seen) => (float[N,S,8] y) <{CONSTANTS}, float low = {{-1e9}}>"
        f" {{ {BODY} m = MatMul(qt, kt) sc = Where(seen, m, low) {TAIL} }}",
        f"g ({INPUTS}) => (float[N,S,8] y) <{CONSTANTS}> {{ {BODY} m = MatMul(qt, kt) sc = Mul(m, c) {TAIL} }}",
    ],
)
def fuse_masked_attention(op: Build, m: Match) -> Result:
    """merge(softmax(a q k' + mask) v) -> MultiHeadAttention(q, k, v, mask, scale=a)"""
    found = _fused(op, m)
    if isinstance(found, Fused) and not found.measured:
        return None
    return found.value if isinstance(found, Fused) else found


def _fused(op: Build, m: Match) -> Fused | Skip | None:
    """The kernel for the attention whose heads the root merges."""
    merge = before_merge(m, m.root)
    if merge is None:
        return None
    weighted = _unviewed(m, merge.value)
    found = find_core(m, weighted) if weighted is not None else None
    if found is None or isinstance(found, Skip):
        return found
    if found.cap is not None or not m.target.takes(KERNEL, found.q.dtype):
        return skip("the kernel takes no soft cap, and not every type: %s", found.q.dtype)
    parts = operands(op, found)
    if isinstance(parts, Skip):
        return parts
    if parts.flat != (weighted is not merge.value.producer()):
        return skip("batch and heads are merged and split again differently")
    made = _lowered(op, m, found, parts)
    if isinstance(made, Skip):
        return made
    shaped = merged_as(op, m.root, merge, made.value)
    return shaped if isinstance(shaped, Skip) else Fused(forget_unused(op, shaped), made.measured)


def _unviewed(m: Match, value: ir.Value | None) -> ir.Node | None:
    """The product with V, also behind a Reshape that splits its batch into batch and heads."""
    node = producer(value)
    if not is_op(node, "Reshape"):
        return node
    m.take(node)  # type: ignore[arg-type]
    return producer(node.inputs[0])  # type: ignore[union-attr]


def _lowered(op: Build, m: Match, core: Core, parts: Operands) -> Fused | Skip:
    size = parts.sizes
    if not (isinstance(size.heads, int) and isinstance(size.size, int) and isinstance(size.value_size, int) and same(size.heads, size.kv_heads)):
        return skip("the kernel needs to know the heads, and as many of Q as of K and V: %s", size.all)
    if len(parts.q.shape or ()) != 4 or size.heads * size.size * size.value_size == 0:
        return skip("Q has the shape %s", parts.q.shape)
    mask = as_given(op, m, core, parts)
    if isinstance(mask, Skip):
        return mask
    if core.guarded and (mask.infinite or not guard_is_idle(m, core)):
        return skip("the scores are not proven finite, and a guard against NaN stands behind the softmax")
    whole = by_batch_and_head(op, mask, parts)
    if isinstance(whole, Skip):
        return whole
    q = tokens_first(op, parts.q) or _moved(op, parts.q, size.heads * size.size)
    k, v = tokens_first(op, parts.k), tokens_first(op, parts.v)
    if k is None or v is None:
        if not same(size.size, size.value_size):
            return skip("heads of K have the size %s, those of V %s", size.size, size.value_size)
        k, v = parts.k, parts.v
    forget_unused(op, q, k, v, whole)  # A node that was only tried would count as one more reader of what moves the operands.
    claim_moves(m, {q, k, v}, core.q, core.kt, core.v)
    attributes: dict[str, object] = {"num_heads": size.heads, "scale": core.scale}
    packed = pack(op, m, (q, k, v), whole, attributes)
    if packed is not None:
        return Fused(packed, measured=False)
    made = op.MultiHeadAttention(q, k, v, None, None, whole, _domain=MICROSOFT, **attributes)
    return Fused(made, measured=whole is not None)  # type: ignore[arg-type]


def claim_moves(m: Match, kept: set[ir.Value], *values: ir.Value) -> None:
    """Count what only moves or scales the operands, down to what is ``kept``, as part of the match where nothing else reads it: it goes."""
    stack = list(values)
    while stack:
        value = stack.pop()
        node = producer(value, "Transpose", "Reshape", "Mul", "Div")
        if node is not None and value not in kept and not used_outside(value, m.nodes):
            m.take(node)
            stack.extend(item for item in node.inputs if item is not None)


def _moved(op: Build, q: ir.Value, width: int) -> ir.Value:
    return op.Reshape(op.Transpose(q, perm=TO_HEADS), op.const([0, 0, width], "joined"))  # type: ignore[return-value]


def by_batch_and_head(op: Build, mask: Mask, parts: Operands) -> ir.Value | Skip | None:
    """The mask as [batch or 1, heads or 1, queries, keys]."""
    if mask.value is None:
        return None
    if not broadcasts_into(mask.shape, parts.sizes.scores):
        return skip("the mask has the shape %s, the scores %s", mask.shape, parts.sizes.scores)
    if len(mask.shape) == 4:
        return mask.value
    return op.Unsqueeze(mask.value, op.const(list(range(4 - len(mask.shape))), "axes"))  # type: ignore[return-value]
