"""Rotary embeddings written as products of complex numbers, with each angle once."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, is_op, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import never_zero
from ..fold.reshape import constant_target
from .rotary import EVERY_OTHER, FLOATS, HALVES, PAIRS, embedded
from .rotary_parts import part_of

COMPLEX = "a = Mul(x1, c) b = Mul(x2, s) re = Sub(a, b) d = Mul(x1, s) f = Mul(x2, c) im = Add(d, f)"


@rule(
    "Concat",
    "Reshape",
    drift=ROUNDING,
    opset=13,
    lifts=23,
    examples=[
        f"g (float[N,3,S,4] x, float[N,1,S,2] c, float[N,1,S,2] s) => (float[N,3,S,4] y) <{HALVES}>"
        f" {{ x1 = Slice(x, z, h, ax, one) x2 = Slice(x, h, e, ax, one) {COMPLEX} y = Concat<axis=-1>(re, im) }}",
        f"g (float[N,S,3,4] x, float[9,1,2] cos, float[9,1,2] sin) => (float[N,S,12] y) <{PAIRS}, int64[3] w = {{0,0,12}}>"
        " { l = Shape<start=1, end=2>(x) c = Slice(cos, z, l, z) s = Slice(sin, z, l, z)"
        f" {EVERY_OTHER} {COMPLEX} ru = Unsqueeze(re, last) iu = Unsqueeze(im, last) st = Concat<axis=-1>(ru, iu) y = Reshape(st, w) }}",
        f"g (float[N,3,S,4] x, float[S,2] c, float[S,2] s) => (float[N,3,S,4] y) <{PAIRS}, int64[5] p = {{0,0,0,2,2}}, int64[4] w = {{0,0,0,4}},"
        " int64 i0 = {0}, int64 i1 = {1}> { xp = Reshape(x, p) x1 = Gather<axis=-1>(xp, i0) x2 = Gather<axis=4>(xp, i1)"
        f" {COMPLEX} ru = Unsqueeze(re, last) iu = Unsqueeze(im, last) st = Concat<axis=4>(ru, iu) y = Reshape(st, w) }}",
    ],
    leaves=[
        f"g (float[N,3,S,4] x, float[N,1,S,2] c, float[N,1,S,2] s) => (float[N,3,S,4] y) <{HALVES}>"
        f" {{ x1 = Slice(x, z, h, ax, one) x2 = Slice(x, h, e, ax, one) {COMPLEX} y = Concat<axis=-1>(im, re) }}",
        f"g (float[N,3,S,4] x, float[N,1,S,2] c, float[N,1,S,2] s) => (float[N,3,S,4] y) <{HALVES}>"
        f" {{ x2 = Slice(x, z, h, ax, one) x1 = Slice(x, h, e, ax, one) {COMPLEX} y = Concat<axis=-1>(re, im) }}",
        f"g (float[N,3,S,4] x, float[N,1,S,2] c, float[N,1,S,2] s) => (float[N,3,S,4] y) <{HALVES}> {{ x1 = Slice(x, z, h, ax, one)"
        f" x2 = Slice(x, h, e, ax, one) {COMPLEX.replace('Mul(x2, c)', 'Mul(x2, s)').replace('d = Mul(x1, s)', 'd = Mul(x1, c)')}"
        " y = Concat<axis=-1>(re, im) }",
    ],
)
def raise_complex_rotary(op: Build, m: Match) -> Result:
    """x1 cos - x2 sin beside x1 sin + x2 cos -> RotaryEmbedding(x, cos, sin), for the halves of x, or its neighbours multiplied as complex numbers"""
    joined = m.root if is_op(m.root, "Concat") else producer(m.root.inputs[0], "Concat")
    made = joined.outputs[0].shape if joined is not None else None
    if joined is None or made is None or len(joined.inputs) != 2 or attribute(joined, "axis") not in (-1, len(made) - 1):
        return None
    parts = list(joined.inputs)
    if joined is not m.root:
        lifted = [producer(item, "Unsqueeze") for item in joined.inputs]
        if any(item is None for item in lifted) or made[-1] != 2:
            return None
        parts = [m.take(item).inputs[0] for item in lifted if item is not None]
        m.take(joined)
    turned = _complex(m, parts[0], parts[1])
    if turned is None:
        return None
    x, cosine, sine, interleaved = turned
    if x.dtype not in FLOATS or interleaved != (joined is not m.root):
        return skip("'%s' is %s", x.name, x.dtype)
    found = embedded(op, x, cosine, sine, interleaved)
    if found is None or isinstance(found, (Skip, tuple)) or joined is m.root or same_shape(x.shape, m.root.outputs[0].shape):
        return found
    wanted = m.root.outputs[0].shape
    target = constant_target(tuple(x.shape or ()), tuple(wanted or ()), never_zero(m.root))
    return skip("the result has the shape %s", wanted) if target is None else op.Reshape(found, op.const(target, "joined"))


def _complex(m: Match, real: ir.Value | None, imaginary: ir.Value | None) -> tuple[ir.Value, ir.Value, ir.Value, bool] | None:
    """x, the cosine and the sine of a complex product, and whether neighbours are its factors; claims its nodes."""
    less, more = producer(real, "Sub"), producer(imaginary, "Add")
    if less is None or more is None or real is None:
        return None
    products = [producer(item, "Mul") for item in (*less.inputs, *more.inputs)]
    if any(item is None for item in products):
        return None
    first, second, *rest = ([item for item in node.inputs if item is not None] for node in products if node is not None)
    for x1, cosine in (first, first[::-1]):
        for x2, sine in (second, second[::-1]):
            half, other = part_of(x1), part_of(x2)
            wanted = {frozenset({x1, sine}), frozenset({x2, cosine})}
            if half is None or other is None or half[0] is not other[0] or {frozenset(pair) for pair in rest} != wanted:
                continue
            width = len(half[1]) * 2
            ranges = {False: (range(width // 2), range(width // 2, width)), True: (range(0, width, 2), range(1, width, 2))}
            kind = next((kind for kind, pair in ranges.items() if pair == (half[1], other[1])), None)
            if kind is None or (half[0].shape or [None])[-1] != width or not same_shape(x1.shape, real.shape):
                return None
            for node in (less, more, *products):
                m.take(node)  # type: ignore[arg-type]
            return half[0], cosine, sine, kind
    return None
