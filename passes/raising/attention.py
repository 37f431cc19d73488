"""Attention raised to the standard operator, from any spelling (`attention_core` follows its algebra)."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, positive_given
from ...compiler.core.drift import ROUNDING
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import never_zero
from .attention_core import Core, Operands, Sizes, find_core, forget_unused, operands, size_of
from .attention_guard import guard_is_idle
from .attention_mask import Mask, softened

QKV = "float[2,3,4,2] q, float[2,3,5,2] k, float[2,3,5,6] v"
KT = "t = Transpose<perm=[0,1,3,2]>(k)"
OUT = "=> (float[2,3,4,6] y)"


SMALL = "int8[2,3,4,2] qi, int8[2,3,5,2] ki, int8[2,3,5,6] vi"
"""What is cast from a byte has a bound."""
CAST = "q = Cast<to=1>(qi) k = Cast<to=1>(ki) v = Cast<to=1>(vi)"


@rule(
    "MatMul",
    drift=ROUNDING,
    opset=13,
    lifts=23,
    examples=[
        f"g ({QKV}) {OUT} <float c = {{0.5}}> {{ {KT} m = MatMul(q, t) s = Mul(m, c) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} {{ {KT} m = MatMul(q, t) p = Softmax<axis=3>(m) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} <float c = {{2}}> {{ {KT} m = MatMul(q, t) s = Div(m, c) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} <float[1] c = {{0.5}}, float d = {{4}}> {{ a = Mul(c, q) b = Div(k, d) t = Transpose<perm=[0,1,3,2]>(b) m = MatMul(a, t)"
        " p = Softmax(m) y = MatMul(p, v) }",
        f"g (float[2,3,4,2] q, float[2,5,3,2] k, float[2,3,5,6] v) {OUT}"
        " { t = Transpose<perm=[0,2,3,1]>(k) m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }",
        f"g (float[2,3,4,2] q, float[2,3,2,5] t, float[2,3,5,6] v) {OUT} {{ m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }}",
        f"g (float[2,3,4,2] q, float[2,5,3,2] k, float[2,3,5,6] v) {OUT} {{ a = Transpose<perm=[0,2,1,3]>(k) t = Transpose<perm=[0,1,3,2]>(a)"
        " m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }",
        "g (float[2,4,3] q, float[2,5,3] k, float[2,5,6] v) => (float[2,4,6] y) <float c = {0.5}>"
        " { t = Transpose<perm=[0,2,1]>(k) m = MatMul(q, t) s = Mul(m, c) p = Softmax(s) y = MatMul(p, v) }",
        "g (float[2,3,4,2] q, float[2,1,5,2] k, float[2,1,5,6] v) => (float[2,3,4,6] y)"
        f" {{ {KT} m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }}",
        f"g ({QKV}, bool[1,1,1,5] seen) {OUT} <float z = {{0}}, float low = {{-10000}}>"
        f" {{ {KT} m = MatMul(q, t) a = Where(seen, z, low) s = Add(a, m) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} <float[4,5] mask = {{1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0}}, float c = {{0.5}}>"
        f" {{ {KT} m = MatMul(q, t) a = Add(m, mask) s = Mul(a, c) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} <float[4,5] mask = {{0,-inf,-inf,-inf,-inf,0,0,-inf,-inf,-inf,0,0,0,-inf,-inf,0,0,0,0,-inf}}>"
        f" {{ {KT} m = MatMul(q, t) s = Add(m, mask) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({SMALL}, bool[2,1,4,5] seen) {OUT} <float z = {{0}}, float low = {{-3.4028235e38}}>"
        f" {{ {CAST} {KT} m = MatMul(q, t) a = Where(seen, z, low) s = Add(m, a) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({SMALL}, bool[2,1,1,5] seen) {OUT} <float low = {{-1e9}}>"
        f" {{ {CAST} {KT} m = MatMul(q, t) s = Where(seen, m, low) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({SMALL}, bool[2,1,1,5] hidden) {OUT} <float z = {{0}}, float[1] low = {{-inf}}>"
        f" {{ {CAST} {KT} m = MatMul(q, t) s = Where(hidden, low, m) p = Softmax(s) n = IsNaN(p) w = Where(n, z, p) y = MatMul(w, v) }}",
        f"g ({SMALL}, bool[2,1,4,5] seen) {OUT} <float z = {{0}}, float low = {{-inf}}>"
        f" {{ {CAST} {KT} m = MatMul(q, t) a = Where(seen, z, low) s = Add(m, a) p = Softmax(s) n = IsNaN(p) w = Where(n, z, p) y = MatMul(w, v) }}",
        f"g ({QKV}) {OUT} <float[4,5] low = {{{','.join(['-inf'] * 20)}}}, int64 one = {{1}}, int64[1] zero = {{0}}>"
        f" {{ {KT} m = MatMul(q, t) b = Trilu(low, one) a = Unsqueeze(b, zero) s = Add(m, a) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({SMALL}, bool[4,5] seen) {OUT} <float z = {{0}}, float low = {{-3.4028235e38}}, int64[1] zero = {{0}}>"
        f" {{ {CAST} {KT} m = MatMul(q, t) b = Where(seen, z, low) a = Unsqueeze(b, zero) s = Add(m, a) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} <float c = {{3}}> {{ {KT} m = MatMul(q, t) d = Div(m, c) h = Tanh(d) s = Mul(c, h) p = Softmax(s) y = MatMul(p, v) }}",
        "g (float16[2,3,4,2] q, float16[2,3,5,2] k, float16[2,3,5,6] v) => (float16[2,3,4,6] y)"
        f" {{ {KT} m = MatMul(q, t) f = Cast<to=1>(m) s = Softmax(f) p = Cast<to=10>(s) y = MatMul(p, v) }}",
    ],
    leaves=[
        f"g ({SMALL}) {OUT} <float z = {{0}}, float[4,5] mask = {{-3.4028235e38,-inf,-inf,-inf,-3.4028235e38,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}}>"
        f" {{ {CAST} {KT} m = MatMul(q, t) s = Add(m, mask) p = Softmax(s) n = IsNaN(p) w = Where(n, z, p) y = MatMul(w, v) }}",
        f"g (float[N,3,4,2] q, float[N,3,5,2] k, float[N,3,5,6] v) => (float[N,3,4,6] y) {{ {KT} m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }}",
        f"g ({QKV}) => (float[2,3,4,6] y, float[2,3,4,5] p) {{ {KT} m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }}",
        f"g ({QKV}, float[2,1,4,5] mask) {OUT} {{ {KT} m = MatMul(q, t) s = Add(m, mask) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} <float c = {{-0.5}}> {{ {KT} m = MatMul(q, t) s = Mul(m, c) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} {{ {KT} m = MatMul(q, t) s = Relu(m) p = Softmax(s) y = MatMul(p, v) }}",
        f"g (float[2,3,5,2] q, float[2,3,5,2] k, float[2,3,5,6] v) => (float[2,3,5,6] y) {{ {KT} m = MatMul(q, t) p = Softmax<axis=2>(m) y = MatMul(p, v) }}",
        f"g (double[2,3,4,2] q, double[2,3,5,2] k, double[2,3,5,6] v) => (double[2,3,4,6] y) {{ {KT} m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }}",
        f"g (float[1,3,4,2] q, float[2,3,5,2] k, float[2,3,5,6] v) {OUT} {{ {KT} m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }}",
        f"g ({QKV}, bool[1,1,1,5] seen) {OUT} <float low = {{-inf}}> {{ {KT} m = MatMul(q, t) s = Where(seen, m, low) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({SMALL}, bool[2,1,1,5] seen) {OUT} <float low = {{-inf}}>"
        f" {{ {CAST} {KT} m = MatMul(q, t) s = Where(seen, m, low) p = Softmax(s) y = MatMul(p, v) }}",
        f"g ({SMALL}, bool[2,1,1,5] seen) {OUT} <float low = {{-1}}>"
        f" {{ {CAST} {KT} m = MatMul(q, t) s = Where(seen, m, low) p = Softmax(s) y = MatMul(p, v) }}",
        f"g (float[3,1,2] q, float[2,3,5,2] k, float[2,3,5,6] v) => (float[2,3,1,6] y) {{ {KT} m = MatMul(q, t) p = Softmax(m) y = MatMul(p, v) }}",
        f"g ({QKV}) {OUT} <float z = {{0}}> {{ {KT} m = MatMul(q, t) p = Softmax(m) n = IsNaN(p) w = Where(n, z, p) y = MatMul(w, v) }}",
        "g (float[1,3,1,2] q, float[1,3,5,2] k, float[1,3,5,6] v, float[1,1,4,5] mask) => (float[1,3,4,6] y) <float c = {0}>"
        f" {{ {KT} m = MatMul(q, t) z = Mul(mask, c) h = Tanh(z) s = Add(m, h) p = Softmax(s) y = MatMul(p, v) }}",
    ],
)
def raise_attention(op: Build, m: Match) -> Result:
    """softmax(a q k' + mask) v -> Attention(q, k, v, mask, scale=a)"""
    found = find_core(m, m.root)
    if found is None or isinstance(found, Skip):
        return found
    parts = operands(op, found)
    if isinstance(parts, Skip):
        return parts
    if not nonempty(m.root, parts.sizes):
        return skip("a dimension of %s may be 0, which the kernel refuses", parts.sizes.all)
    mask = softened(op, m, found, parts)
    if isinstance(mask, Skip):
        return mask
    if not guard_is_idle(m, found):
        return skip("the scores are not proven finite, and a guard against NaN stands behind the softmax")
    return forget_unused(op, _standard(op, found, parts, mask))


def _standard(op: Build, core: Core, parts: Operands, mask: Mask) -> ir.Value:
    attributes: dict[str, object] = {"scale": core.scale, "softcap": core.cap}
    if len(parts.q.shape or ()) == 4:
        made = op.Attention(parts.q, parts.k, parts.v, mask.value, **attributes)
        return _merged(op, made, parts) if parts.flat else made  # type: ignore[arg-type, return-value]
    if mask.value is not None and len(mask.shape) == 3:
        mask = Mask(op.Unsqueeze(mask.value, op.const([1])))  # type: ignore[arg-type]
    return op.Attention(parts.q, parts.k, parts.v, mask.value, q_num_heads=1, kv_num_heads=1, **attributes)  # type: ignore[return-value]


def _merged(op: Build, made: ir.Value, parts: Operands) -> ir.Value:
    """[batch, heads, queries, size] as [batch * heads, queries, size]."""
    ends = [size_of(op, parts.q, 2), size_of(op, parts.v, 3)]
    return op.Reshape(made, op.Concat(op.const([-1]), *ends, axis=0))  # type: ignore[return-value]


def nonempty(root: ir.Node, size: Sizes) -> bool:
    """Whether no dimension can be 0 where the node runs."""
    positive = never_zero(root)

    def is_positive(dim: Dim) -> bool:
        return positive_given(dim, positive)

    return all(map(is_positive, size.all))
