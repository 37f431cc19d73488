"""The standard Attention as ONNX Runtime's own kernels on a GPU, which have flash attention for half precision.

On the CPU the standard operator is the faster one (`attention`), so these rules ask for a kernel that only a GPU has.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, same
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ..raising.attention_heads import plain_attention

MICROSOFT = "com.microsoft"
KERNEL, GROUPED = f"{MICROSOFT}::MultiHeadAttention", f"{MICROSOFT}::GroupQueryAttention"
ON_A_GPU = f"{MICROSOFT}::PackedMultiHeadAttention"
"""A kernel that tells ONNX Runtime on a GPU from ONNX Runtime on a CPU."""
NEW = '<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>\n'
SELF = "float[2,3,8] q, float[2,3,8] k, float[2,3,8] v"
CROSS = "float[2,3,8] q, float[2,5,8] k, float[2,5,8] v"
HEADS = "q_num_heads=2, kv_num_heads=2"
SHARED = "float[2,3,32] q, float[2,3,16] k, float[2,3,16] v"


@rule(
    "Attention",
    drift=ROUNDING,
    opset=23,
    kernels=(KERNEL, ON_A_GPU),
    measured=True,
    examples=[
        f"{NEW}g ({CROSS}) => (float[2,3,8] y) {{ y = Attention<scale=0.5, {HEADS}>(q, k, v) }}",
        f"{NEW}g ({CROSS}) => (float[2,3,8] y) {{ y = Attention<{HEADS}>(q, k, v) }}",
        f"{NEW}g ({CROSS}, float[2,1,3,5] mask) => (float[2,3,8] y) {{ y = Attention<scale=0.5, {HEADS}>(q, k, v, mask) }}",
        f"{NEW}g ({CROSS}, float[3,5] mask) => (float[2,3,8] y) {{ y = Attention<{HEADS}>(q, k, v, mask) }}",
        f"{NEW}g ({SELF}) => (float[2,3,8] y) {{ y = Attention<is_causal=1, {HEADS}>(q, k, v) }}",
        f"{NEW}g (float[2,3,8] q, float[2,5,8] k, float[2,5,12] v) => (float[2,3,12] y) {{ y = Attention<{HEADS}>(q, k, v) }}",
    ],
    leaves=[
        f"{NEW}g ({CROSS}) => (float[2,3,8] y) {{ y = Attention<softcap=2.0, {HEADS}>(q, k, v) }}",
        f"{NEW}g ({CROSS}) => (float[2,3,8] y) {{ y = Attention<is_causal=1, {HEADS}>(q, k, v) }}",
        f"{NEW}g ({CROSS}, bool[3,5] mask) => (float[2,3,8] y) {{ y = Attention<{HEADS}>(q, k, v, mask) }}",
        f"{NEW}g ({CROSS}, float[3,1] mask) => (float[2,3,8] y) {{ y = Attention<{HEADS}>(q, k, v, mask) }}",
        f"{NEW}g ({SELF}, float[3,3] mask) => (float[2,3,8] y) {{ y = Attention<is_causal=1, {HEADS}>(q, k, v, mask) }}",
        f"{NEW}g ({SHARED}) => (float[2,3,32] y) {{ y = Attention<q_num_heads=4, kv_num_heads=2>(q, k, v) }}",
        f"{NEW}g (float[2,2,3,4] q, float[2,2,5,4] k, float[2,2,5,4] v) => (float[2,2,3,4] y) {{ y = Attention(q, k, v) }}",
        f"{NEW}g (float16[2,3,8] q, float16[2,5,8] k, float16[2,5,8] v) => (float16[2,3,8] y) {{ y = Attention<{HEADS}>(q, k, v) }}",
        f"{NEW}g ({CROSS}, float[2,2,4,4] pk, float[2,2,4,4] pv) => (float[2,3,8] y, float[2,2,9,4] kk, float[2,2,9,4] vv)"
        f" {{ y, kk, vv = Attention<{HEADS}>(q, k, v, , pk, pv) }}",
    ],
)
def lower_attention(op: Build, m: Match) -> Result:
    """Attention(q, k, v, mask) -> MultiHeadAttention(q, k, v, , , mask), heads side by side"""
    found = _taken(m, KERNEL)
    if found is None or isinstance(found, Skip):
        return found
    heads, shared = found
    q, k, v, mask = (*m.root.inputs[:4], None)[:4]
    if heads != shared:
        return skip("%s heads of Q read %s of K and V", heads, shared)
    causal = bool(attribute(m.root, "is_causal", 0))
    if causal and (mask is not None or not same(_tokens(q), _tokens(k))):
        return skip("it is causal, and has a mask or another number of keys than of queries")
    whole = _mask(op, mask, q, k, heads) if mask is not None else None
    if isinstance(whole, Skip):
        return whole
    attributes: dict[str, object] = {"num_heads": heads, "scale": attribute(m.root, "scale")}
    if causal:
        attributes["unidirectional"] = 1
    return op.MultiHeadAttention(q, k, v, None, None, whole, _domain=MICROSOFT, **attributes)


@rule(
    "Attention",
    drift=ROUNDING,
    opset=23,
    kernels=(GROUPED, ON_A_GPU),
    measured=True,
    examples=[
        f"{NEW}g ({SHARED}) => (float[2,3,32] y) {{ y = Attention<is_causal=1, q_num_heads=4, kv_num_heads=2>(q, k, v) }}",
        f"{NEW}g ({SHARED}) => (float[2,3,32] y) {{ y = Attention<is_causal=1, scale=0.5, q_num_heads=4, kv_num_heads=2>(q, k, v) }}",
    ],
    leaves=[
        f"{NEW}g ({SHARED}) => (float[2,3,32] y) {{ y = Attention<q_num_heads=4, kv_num_heads=2>(q, k, v) }}",
        f"{NEW}g ({SELF}) => (float[2,3,8] y) {{ y = Attention<is_causal=1, {HEADS}>(q, k, v) }}",
        f"{NEW}g ({SHARED}, float[3,3] mask) => (float[2,3,32] y) {{ y = Attention<is_causal=1, q_num_heads=4, kv_num_heads=2>(q, k, v, mask) }}",
        f"{NEW}g (float[2,3,32] q, float[2,3,16] k, float[2,3,8] v) => (float[2,3,16] y)"
        " { y = Attention<is_causal=1, q_num_heads=4, kv_num_heads=2>(q, k, v) }",
        f"{NEW}g (float[2,3,32] q, float[2,4,16] k, float[2,4,16] v) => (float[2,3,32] y)"
        " { y = Attention<is_causal=1, q_num_heads=4, kv_num_heads=2>(q, k, v) }",
    ],
)
def lower_grouped_attention(op: Build, m: Match) -> Result:
    """causal Attention(q, k, v), n heads of Q to one of K and V -> GroupQueryAttention(q, k, v, , , tokens - 1, tokens)"""
    found = _taken(m, GROUPED)
    if found is None or isinstance(found, Skip):
        return found
    heads, shared = found
    q, k, v = m.root.inputs[:3]
    masked = len(m.root.inputs) > 3 and m.root.inputs[3] is not None
    if heads == shared or masked or not attribute(m.root, "is_causal", 0):
        return skip("it is not causal, is masked, or has as many heads of Q as of K and V")
    if not same(_tokens(q), _tokens(k)) or not same(_width(k), _width(v)):
        return skip("it has other numbers of queries than of keys, or other sizes of K than of V")
    count = op.Cast(op.Shape(k, start=1, end=2), to=ir.DataType.INT32.value)
    last = op.Sub(count, op.const(np.array([1], np.int32), "one"))
    lasts = op.Expand(last, op.Shape(q, start=0, end=1))
    total = op.Squeeze(count, op.const([0], "first"))
    attributes: dict[str, object] = {"num_heads": heads, "kv_num_heads": shared, "scale": attribute(m.root, "scale")}
    return op.GroupQueryAttention(q, k, v, None, None, lasts, total, _domain=MICROSOFT, **attributes)


def _taken(m: Match, kernel: str) -> tuple[int, int] | Skip | None:
    """The heads of Q, and those of K and V, of an Attention on [batch, tokens, heads * size] that has nothing the kernels do not know."""
    node = plain_attention(m.root, 3)
    if node is None:
        return None
    q = node.inputs[0]
    if any(value is None or value.shape is None or len(value.shape) != 3 for value in node.inputs[:3]):
        return skip("the shapes of K and V are not known")
    if q is None or not m.target.takes(kernel, q.dtype) or any(value is None or value.dtype != q.dtype for value in node.inputs[1:3]):
        return skip("the kernel does not take %s", q.dtype if q is not None else None)
    if attribute(node, "softcap", 0.0) or attribute(node, "softmax_precision", ir.DataType.FLOAT.value) != ir.DataType.FLOAT.value:
        return skip("the kernel has no soft cap, and a softmax in float")
    heads, shared = attribute(node, "q_num_heads"), attribute(node, "kv_num_heads")
    return (heads, shared) if isinstance(heads, int) and isinstance(shared, int) else None


def _mask(op: Build, mask: ir.Value, q: ir.Value | None, k: ir.Value | None, heads: int) -> ir.Value | Skip:
    """What is added to the scores, as [batch or 1, heads or 1, queries, keys]."""
    shape: list[Dim] = list(mask.shape) if mask.shape is not None else []
    if q is None or q.shape is None or mask.dtype != q.dtype or len(shape) not in (2, 3, 4):
        return skip("the mask is %s %s", mask.dtype, mask.shape)
    whole: list[Dim] = [*[1] * (4 - len(shape)), *shape]
    if not (same(whole[2], _tokens(q)) and same(whole[3], _tokens(k)) and whole[1] in (1, heads)):
        return skip("the mask has the shape %s", mask.shape)
    if whole[0] != 1 and not same(whole[0], q.shape[0]):
        return skip("the mask has the shape %s", mask.shape)
    return mask if len(shape) == 4 else op.Unsqueeze(mask, op.const(list(range(4 - len(shape))), "axes"))  # type: ignore[return-value]


def _tokens(value: ir.Value | None) -> Dim:
    """How many there are; one of `_taken` has a shape."""
    return value.shape[1]  # type: ignore[index, union-attr]


def _width(value: ir.Value | None) -> Dim:
    return value.shape[2]  # type: ignore[index, union-attr]
