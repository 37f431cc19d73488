"""What a Softmax does not see: a number added to all of what it chooses among."""

from __future__ import annotations

from ...compiler.core.axes import reduced_axes
from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, is_op
from ...compiler.core.pattern import Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .law import FLOATS

_LARGEST = 1e4
"""Larger numbers are there to round what they are added to, or to hide it."""


def added(op: Pen, x: object, c: object) -> object:
    return op.any("Softmax", "LogSoftmax")(op.Add(x, c), axis=-1)


def subtracted(op: Pen, x: object, c: object) -> object:
    return op.any("Softmax", "LogSoftmax")(op.Sub(x, c), axis=-1)


_X = "g (float[N,3] x) => (float[N,3] y)"


@rule(
    added,
    subtracted,
    drift=ROUNDING,
    opset=13,
    examples=[
        f"{_X} <float c = {{3}}> {{ t = Add(x, c) y = Softmax(t) }}",
        f"{_X} <int64[1] a = {{1}}> {{ m = ReduceMax(x, a) t = Sub(x, m) y = Softmax(t) }}",
        "g (float[N,3] x, int8[N,1] q) => (float[N,3] y) { c = Cast<to=1>(q) t = Sub(x, c) y = LogSoftmax(t) }",
    ],
    leaves=[
        f"{_X} <float[3] c = {{1,2,3}}> {{ t = Add(x, c) y = Softmax(t) }}",
        "g (float[N,3] x, float[N,1] c) => (float[N,3] y) { t = Add(x, c) y = Softmax(t) }",
        f"{_X} <float c = {{1e8}}> {{ t = Add(x, c) y = Softmax(t) }}",
        f"{_X} <int64[1] a = {{0}}> {{ m = ReduceMax(x, a) t = Sub(x, m) y = Softmax(t) }}",
        "g (float[N,3] x, float[N,3] z) => (float[N,3] y) <int64[1] a = {1}> { m = ReduceMax(z, a) t = Sub(x, m) y = Softmax(t) }",
        "g (float[N,3] x, int8[M,1] q) => (float[K,3] y) { c = Cast<to=1>(q) t = Sub(x, c) y = Softmax(t) }",
    ],
)
def drop_shift_of_softmax(op: Build, m: Match) -> Result:
    """softmax(x + c) -> softmax(x) for a finite c that does not vary along the axis, or c = -max(x)"""
    if m.x.dtype not in FLOATS or not broadcasts_into(m.c.shape, m.x.shape):
        return skip("'%s' is %s, '%s' may widen it", m.x.name, m.x.dtype, m.c.name)
    if m.c.shape is not None and len(m.c.shape) and m.c.shape[-1] != 1:
        return skip("'%s' has shape %s, which varies along the axis", m.c.name, m.c.shape)
    if not _is_maximum(m) and not m.ranges.within(m.c, -_LARGEST, _LARGEST):
        return skip("'%s' is not proven to be finite and of moderate size", m.c.name)
    return op.like(m.root, m.x)


def _is_maximum(m: Match) -> bool:
    """Whether ``c`` is the largest of each row of ``x``, and is taken off: where it is infinite or NaN, the Softmax of the row is NaN anyway."""
    node = m.c.producer()
    if node is None or not is_op(node, "ReduceMax") or node.inputs[0] is not m.x or m.x.shape is None:
        return False
    shifted = m.root.inputs[0]
    taken_off = shifted is not None and is_op(shifted.producer(), "Sub")
    return taken_off and bool(attribute(node, "keepdims", 1)) and reduced_axes(node) == (len(m.x.shape) - 1,)
