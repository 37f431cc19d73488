"""Guards against NaN where there can be none; torch writes one behind every masked softmax."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.pattern import Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule


def guarded(op: Pen, x: object, other: object) -> object:
    return op.Where(op.IsNaN(x), other, x)


@rule(
    guarded,
    drift=EXACT,
    opset=9,
    shared=True,
    examples=[
        "g (int64[N] i) => (float[N,2] y) <float[5,2] t = {1,2,3,4,5,6,7,8,9,0}, float z = {0}>"
        " { x = Gather(t, i) s = Softmax(x) n = IsNaN(s) y = Where(n, z, s) }",
        "g (int64[N] i, bool[N,2] m) => (float[N,2] y) <float[5,2] t = {1,2,3,4,5,6,7,8,9,0}, float z = {0}, float low = {-3.4028235e38}>"
        " { x = Gather(t, i) b = Where(m, z, low) a = Add(x, b) s = Softmax(a) n = IsNaN(s) y = Where(n, z, s) }",
    ],
    leaves=[
        "g (float[N,2] x) => (float[N,2] y) <float z = {0}> { s = Softmax(x) n = IsNaN(s) y = Where(n, z, s) }",
        "g (int64[N] i, bool[N,2] m) => (float[N,2] y) <float[5,2] t = {1,2,3,4,5,6,7,8,9,0}, float z = {0}, float one = {1}>"
        " { low = Log(z) x = Gather(t, i) b = Where(m, z, low) a = Add(x, b) s = Softmax(a) n = IsNaN(s) y = Where(n, z, s) }",
    ],
)
def drop_nan_guard(op: Build, m: Match) -> Result:
    """Where(IsNaN(x), c, x) -> x when range analysis proves x finite"""
    if not m.ranges.is_finite(m.x):
        return skip("'%s' is not proven finite", m.x.name)
    return m.x
