"""Transposes of the last two dims that go through three dims and back; torch writes the key of an attention that way."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import EXACT
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule


def flattened(op: Pen, x: object, flat: object, back: object) -> object:
    return op.Reshape(op.Transpose(op.Reshape(x, flat, allowzero=ANY, _name="flat"), perm=[0, 2, 1]), back, allowzero=ANY)


@rule(
    flattened,
    drift=EXACT,
    opset=5,
    examples=[
        "g (float[2,3,4,5] x) => (float[2,3,5,4] y) <int64[3] f = {-1,4,5}, int64[4] b = {2,3,5,4}>"
        " { p = Reshape(x, f) q = Transpose<perm=[0,2,1]>(p) y = Reshape(q, b) }",
        "g (float[N,3,4,5] x) => (float[N,3,5,4] y) <int64[3] f = {-1,4,5}, int64[4] b = {-1,3,5,4}>"
        " { p = Reshape(x, f) q = Transpose<perm=[0,2,1]>(p) y = Reshape(q, b) }",
    ],
    leaves=[
        "g (float[2,3,4,5] x) => (float[2,3,4,5] y) <int64[3] f = {-1,4,5}, int64[4] b = {2,3,4,5}>"
        " { p = Reshape(x, f) q = Transpose<perm=[0,2,1]>(p) y = Reshape(q, b) }",
        "g (float[2,3,4,5] x) => (float[2,3,5,4] y) <int64[3] f = {-1,5,4}, int64[4] b = {2,3,5,4}>"
        " { p = Reshape(x, f) q = Transpose<perm=[0,2,1]>(p) y = Reshape(q, b) }",
    ],
)
def unflatten_transpose(op: Build, m: Match) -> Result:
    """Reshape(Transpose(Reshape(x: [..., s, d] -> [-1, s, d]), 0 2 1) -> [..., d, s]) -> Transpose(x) of the last two dims"""
    shape, flat, back = m.x.shape, m.node("flat").outputs[0].shape, m.root.outputs[0].shape
    if shape is None or flat is None or back is None or len(shape) < 3:
        return skip("the shapes are not all known")
    last = list(shape)[-2:]
    if not same_shape(list(flat)[1:], last) or not same_shape(back, [*list(shape)[:-2], *last[::-1]]):
        return skip("it is %s -> %s -> %s, not a transpose of the last two dims", shape, flat, back)
    axes = list(range(len(shape)))
    return op.Transpose(m.x, perm=[*axes[:-2], axes[-1], axes[-2]])
