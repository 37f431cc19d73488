"""Rotary position embedding (Su et al. 2021, RoFormer) raised to the standard operator.

Measured on ONNX Runtime's CPU: 2.2 to 3.5 times faster than the nodes it replaces.
"""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .attention_core import forget_unused
from .rotary_parts import part_of
from .rotary_tables import Frame, frames, table

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
HALVES = "int64[1] z = {0}, int64[1] h = {2}, int64[1] e = {9223372036854775807}, int64[1] ax = {3}, int64[1] one = {1}"
ROTATE = "x1 = Slice(x, z, h, ax, one) x2 = Slice(x, h, e, ax, one) n = Neg(x2) r = Concat<axis=-1>(n, x1)"
ANGLES = "f = Concat<axis=-1>(a, a) cd = Cos(f) sd = Sin(f) c = Unsqueeze(cd, one) s = Unsqueeze(sd, one)"
SUM = "p = Mul(x, c) q = Mul(r, s) y = Add(p, q)"
PAIRS = "int64[1] z = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] e = {9223372036854775807}, int64[1] ax = {3}, int64[1] last = {-1}"
EVERY_OTHER = "x1 = Slice(x, z, e, ax, two) x2 = Slice(x, one, e, ax, two)"
NEW = '<ir_version: 10, opset_import: ["" : 23]>\n'


@rule(
    "Add",
    drift=ROUNDING,
    opset=13,
    lifts=23,
    examples=[
        f"g (float[N,3,S,4] x, float[1,S,2] a) => (float[N,3,S,4] y) <{HALVES}> {{ {ROTATE} {ANGLES} {SUM} }}",
        f"g (float[N,3,S,4] x, float[N,S,2] a) => (float[N,3,S,4] y) <{HALVES}, float k = {{2}}>"
        f" {{ {ROTATE} {ANGLES.replace('cd = Cos(f)', 'cr = Cos(f) cd = Mul(cr, k)')} p = Mul(c, x) q = Mul(s, r) y = Add(q, p) }}",
        f"g (float[N,3,S,4] x, float[S,2] a) => (float[N,3,S,4] y) <{HALVES}, int64[2] sizes = {{2,2}}>"
        " { x1, x2 = Split<axis=3>(x, sizes) n = Neg(x2) r = Concat<axis=3>(n, x1) f = Concat<axis=1>(a, a) c = Cos(f) s = Sin(f)"
        f" {SUM} }}",
        f"g (float[N,S,3,4] x, float[N,S,2] a) => (float[N,S,3,4] y) <{HALVES}, int64[1] hd = {{2}}>"
        f" {{ {ROTATE} {ANGLES.replace('one)', 'hd)')} {SUM} }}",
        f"g (float[N,3,2,4] x, int64[N,2] ids) => (float[N,3,2,4] y) <{HALVES}, float[5,4] tc = {{1,2,1,2,3,4,3,4,5,6,5,6,7,8,7,8,9,0,9,0}},"
        " float[5,4] ts = {0,1,0,1,3,4,3,4,5,2,5,2,7,8,7,8,1,0,1,0}>"
        f" {{ {ROTATE} cd = Gather(tc, ids) sd = Gather(ts, ids) c = Unsqueeze(cd, one) s = Unsqueeze(sd, one) {SUM} }}",
        f"g (float[N,3,S,4] x, float[N,1,S,2] a) => (float[N,3,S,4] y) <{HALVES}> {{ {ROTATE} f = Concat<axis=3>(a, a) c = Cos(f) s = Sin(f) {SUM} }}",
        f"g (float[N,3,S,4] x, float[N,S,2] a) => (float[N,3,S,4] y) <{PAIRS}, int64[5] e2 = {{1,1,1,2,1}}, int64[4] w = {{0,0,0,4}}, int64[3] w3 = {{0,0,4}},"
        f" int64[4] two2 = {{1,1,1,2}}> {{ {EVERY_OTHER} n = Neg(x2) nu = Unsqueeze(n, last) xu = Unsqueeze(x1, last) st = Concat<axis=-1>(nu, xu)"
        " r = Reshape(st, w) au = Unsqueeze(a, last) ae = Expand(au, two2) f = Reshape(ae, w3) cd = Cos(f) sd = Sin(f) c = Unsqueeze(cd, one)"
        f" s = Unsqueeze(sd, one) {SUM} }}",
    ],
    leaves=[
        f"g (float[N,3,S,4] x, float[1,S,2] a, float[1,S,2] b) => (float[N,3,S,4] y) <{HALVES}>"
        f" {{ {ROTATE} {ANGLES.replace('(a, a)', '(a, b)')} {SUM} }}",
        f"g (float[N,3,S,4] x, float[1,S,2] a) => (float[N,3,S,4] y) <{HALVES}> {{ {ROTATE.replace('(n, x1)', '(x1, n)')} {ANGLES} {SUM} }}",
        f"g (float[N,3,S,4] x, float[1,S,2] a) => (float[N,3,S,4] y) <{HALVES}> {{ {ROTATE.replace('Neg(x2)', 'Abs(x2)')} {ANGLES} {SUM} }}",
        f"g (float[N,3,4,4] x, float[1,1,2] a) => (float[N,3,4,4] y) <{HALVES}> {{ {ROTATE} {ANGLES} {SUM} }}",
        f"g (float[N,3,S,4] x, float[3,S,2] a) => (float[N,3,S,4] y) <{HALVES}> {{ {ROTATE} f = Concat<axis=-1>(a, a) c = Cos(f) s = Sin(f) {SUM} }}",
        f"g (double[N,3,S,4] x, double[1,S,2] a) => (double[N,3,S,4] y) <{HALVES}> {{ {ROTATE} {ANGLES} {SUM} }}",
        f"g (float[N,3,S,4] x, float[1,S,2] a) => (float[N,3,S,4] y) <{HALVES.replace('h = {2}', 'h = {1}')}, int64[1] g2 = {{3}}>"
        f" {{ x0 = Slice(x, h, e, ax, one) x1 = Slice(x, z, h, ax, one) n = Neg(x0) r = Concat<axis=-1>(n, x1) {ANGLES} {SUM} }}",
        f"g (float[N,3,S,4] x, float[N,3,S,4] w, float[1,S,2] a) => (float[N,3,S,4] y) <{HALVES}>"
        f" {{ {ROTATE} {ANGLES} p = Mul(w, c) q = Mul(r, s) y = Add(p, q) }}",
    ],
)
def raise_rotary(op: Build, m: Match) -> Result:
    """x cos + rotate(x) sin -> RotaryEmbedding(x, cos, sin), where rotate(x) is -x2 beside x1, by halves or by neighbours"""
    products = [producer(value, "Mul") for value in m.root.inputs]
    if None in products:
        return None
    for first, second in (products, products[::-1]):
        for turned, sine in _orders(second):  # type: ignore[arg-type]
            rotation = _rotation(m, turned)
            if rotation is None:
                continue
            x, interleaved, inner = rotation
            cosine = next((other for value, other in _orders(first) if value is x), None)  # type: ignore[arg-type]
            if cosine is None or sine is None or x.dtype not in FLOATS:
                return skip("'%s' is rotated, but not what the cosine multiplies", x.name)
            for node in (first, second, *inner):
                m.take(node)  # type: ignore[arg-type]
            return embedded(op, x, cosine, sine, interleaved)
    return None


def embedded(op: Build, x: ir.Value, cosine: ir.Value, sine: ir.Value, interleaved: bool) -> Result:
    """The operator, for the first layout of x that the angles fit."""
    reason: Skip | None = None
    for frame in frames(x):
        tables = [table(op, value, x, frame, interleaved) for value in (cosine, sine)]
        reason = reason or next((found for found in tables if isinstance(found, Skip)), None)
        if not any(isinstance(found, Skip) for found in tables):
            return forget_unused(op, embedding(op, x, frame, *tables, interleaved=int(interleaved) or None))  # type: ignore[arg-type]
    return reason or skip("'%s' has the shape %s", x.name, x.shape)


def embedding(op: Build, x: ir.Value, frame: Frame, cosine: ir.Value, sine: ir.Value, **attributes: object) -> ir.Value:
    """RotaryEmbedding of x; with the tokens before the heads it goes through [batch, tokens, heads * size]."""
    if frame.heads_first:
        return op.RotaryEmbedding(x, cosine, sine, **attributes)  # type: ignore[return-value]
    assert isinstance(frame.heads, int)
    flat = op.Reshape(x, op.const([0, 0, frame.heads * frame.size], "joined"))
    made = op.RotaryEmbedding(flat, cosine, sine, num_heads=frame.heads, **attributes)
    return op.Reshape(made, op.const([0, 0, frame.heads, frame.size], "split"))  # type: ignore[return-value]


def _orders(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    left, right = node.inputs
    return [(left, right), (right, left)] if left is not None and right is not None else []


def _rotation(m: Match, value: ir.Value) -> tuple[ir.Value, bool, list[ir.Node]] | None:
    """The x of which ``value`` is the rotation, whether neighbours are rotated against each other, and the nodes between."""
    view = producer(value, "Reshape")
    joined = producer(view.inputs[0] if view is not None else value, "Concat")
    if joined is None or len(joined.inputs) != 2 or joined.outputs[0].shape is None:
        return None
    if attribute(joined, "axis") not in (-1, len(joined.outputs[0].shape) - 1):
        return None
    inner = [joined] if view is None else [view, joined]
    second, first = joined.inputs
    if view is not None:
        lifted = [producer(item, "Unsqueeze") for item in joined.inputs]
        if any(item is None for item in lifted):
            return None
        inner += [item for item in lifted if item is not None]
        second, first = (item.inputs[0] for item in lifted if item is not None)
    negated = producer(second, "Neg")
    if negated is None:
        return None
    half, other = part_of(first), part_of(negated.inputs[0])
    if half is None or other is None or half[0] is not other[0]:
        return None
    x, width = half[0], half[0].shape[-1]  # type: ignore[index]
    if not isinstance(width, int) or width % 2 or value.shape is None or value.shape[-1] != width:
        return None
    wanted = (range(0, width, 2), range(1, width, 2)) if view is not None else (range(width // 2), range(width // 2, width))
    return (x, view is not None, [*inner, negated]) if (half[1], other[1]) == wanted else None


@rule(
    "Concat",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"{NEW}g (float[N,3,S,6] x, float[N,S,2] c, float[N,S,2] s) => (float[N,3,S,6] y) <int64[2] sizes = {{4,2}}>"
        " { a, b = Split<axis=3>(x, sizes) r = RotaryEmbedding(a, c, s) y = Concat<axis=-1>(r, b) }",
        f"{NEW}g (float[N,3,S,6] x, float[N,S,2] c, float[N,S,2] s) => (float[N,3,S,6] y) <{HALVES.replace('h = {2}', 'h = {4}')}>"
        " { a = Slice(x, z, h, ax) b = Slice(x, h, e, ax) r = RotaryEmbedding<interleaved=1>(a, c, s) y = Concat<axis=3>(r, b) }",
    ],
    leaves=[
        f"{NEW}g (float[N,3,S,6] x, float[N,S,1] c, float[N,S,1] s) => (float[N,3,S,6] y) <int64[2] sizes = {{4,2}}>"
        " { a, b = Split<axis=3>(x, sizes) r = RotaryEmbedding(b, c, s) y = Concat<axis=-1>(a, r) }",
        f"{NEW}g (float[N,3,S,6] x, float[N,S,2] c, float[N,S,2] s) => (float[N,6,S,4] y) <int64[2] sizes = {{4,2}}>"
        " { a, b = Split<axis=3>(x, sizes) r = RotaryEmbedding(a, c, s) y = Concat<axis=1>(r, a) }",
    ],
)
def raise_partial_rotary(op: Build, m: Match) -> Result:
    """RotaryEmbedding(x[:r]) beside x[r:] -> RotaryEmbedding(x, rotary_embedding_dim=r)"""
    made = m.root.outputs[0].shape
    if len(m.root.inputs) != 2 or made is None or attribute(m.root, "axis") not in (-1, len(made) - 1):
        return None
    rotated = producer(m.root.inputs[0], "RotaryEmbedding")
    turned = part_of(rotated.inputs[0]) if rotated is not None else None
    rest = part_of(m.root.inputs[1])
    if rotated is None or turned is None or rest is None or turned[0] is not rest[0]:
        return None
    x, width = turned[0], made[-1]
    if (turned[1], rest[1]) != (range(len(turned[1])), range(len(turned[1]), width if isinstance(width, int) else -1)):
        return skip("the parts are not the first %s elements and the rest", len(turned[1]))
    if attribute(rotated, "rotary_embedding_dim", 0) or attribute(rotated, "num_heads", 0):
        return skip("it already takes a part of each head")
    m.take(rotated)
    return op.like(rotated, x, *rotated.inputs[1:], rotary_embedding_dim=len(turned[1]))
