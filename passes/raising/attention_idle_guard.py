"""A guard against NaN in an attention that is proven to need none, dropped before the model is halved: there the proof would fail, at 65504.

Where the whole attention is raised the guard goes with it; this is for those whose sizes are open, and which only become a kernel at the end.
"""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import producer, scalar
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .attention_core import find_core
from .attention_guard import guard_is_idle

SMALL = "int8[N,3,4,2] qi, int8[N,3,5,2] ki, int8[N,3,5,6] vi"
CAST = "q = Cast<to=1>(qi) k = Cast<to=1>(ki) v = Cast<to=1>(vi) t = Transpose<perm=[0,1,3,2]>(k)"
GUARD = "p = Softmax(s) n = IsNaN(p) w = Where(n, z, p)"
OUT = "=> (float[N,3,4,6] y) <float z = {0}"


@rule(
    "MatMul",
    drift=ROUNDING,
    opset=13,
    shared=True,
    examples=[
        f"g ({SMALL}) {OUT}, float c = {{0.5}}> {{ {CAST} m = MatMul(q, t) s = Mul(m, c) {GUARD} y = MatMul(w, v) }}",
        f"g ({SMALL}, int8[N,1,1,5] bi) {OUT}> {{ {CAST} m = MatMul(q, t) b = Cast<to=1>(bi) s = Add(m, b) {GUARD} y = MatMul(w, v) }}",
    ],
    leaves=[
        f"g (float[N,3,4,2] q, float[N,3,2,5] t, float[N,3,5,6] v) {OUT}> {{ s = MatMul(q, t) {GUARD} y = MatMul(w, v) }}",
        f"g ({SMALL}, float[N,1,1,5] b) {OUT}> {{ {CAST} m = MatMul(q, t) s = Add(m, b) {GUARD} y = MatMul(w, v) }}",
        f"g ({SMALL}) => (float[N,3,4,6] y) <float one = {{1}}>"
        f" {{ {CAST} s = MatMul(q, t) p = Softmax(s) n = IsNaN(p) w = Where(n, one, p) y = MatMul(w, v) }}",
    ],
)
def drop_idle_guard(op: Build, m: Match) -> Result:
    """Where(IsNaN(p), 0, p) v -> p v for p = softmax(a q k' + mask) that is proven to be numbers, or where NaN comes out all the same"""
    guard = producer(m.root.inputs[0], "Where")
    asked = producer(guard.inputs[0], "IsNaN") if guard is not None else None
    if guard is None or asked is None or asked.inputs[0] is not guard.inputs[2] or scalar(guard.inputs[1]) != 0:
        return None
    found = find_core(m, m.root)
    if found is None or isinstance(found, Skip):
        return found
    if found.hidden or not all(m.ranges.is_finite(term.value) for term in found.terms):
        return skip("the mask may hide a whole row")
    if not guard_is_idle(m, found):
        return skip("the scores are not proven finite")
    return op.MatMul(guard.inputs[2], m.root.inputs[1])
