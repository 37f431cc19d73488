"""Casts of as few elements as will do."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import producer
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .region import bytes_of
from .views import only_reader


@rule(
    "Slice",
    "Gather",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float16[N,8] x) => (float[N,2] y) <int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {1}> { c = Cast<to=1>(x) y = Slice(c, s, e, a) }",
        "g (int64[N,8] x) => (float[N] y) <int64 i = {1}> { c = Cast<to=1>(x) y = Gather<axis=1>(c, i) }",
    ],
    leaves=[
        "g (int64[N,2] x) => (float[N,3] y) <int64[3] i = {0,1,0}> { c = Cast<to=1>(x) y = Gather<axis=1>(c, i) }",
        "g (float[9] x, int32[2] k) => (float[2] y) { i = Cast<to=7>(k) y = Gather(x, i) }",
        "g (int64[N,8] x) => (float[N] y, float[N,8] c) <int64 i = {1}> { c = Cast<to=1>(x) y = Gather<axis=1>(c, i) }",
    ],
)
def cast_what_is_picked(op: Build, m: Match) -> Result:
    """Slice(Cast(x)) -> Cast(Slice(x)), and the same for a Gather of fewer elements"""
    cast = producer(m.root.inputs[0], "Cast")
    if cast is None or not only_reader(m.root.inputs[0], m.root):
        return None
    if bytes_of(m.root.outputs[0]) >= bytes_of(cast.outputs[0]):
        return skip("it does not pick fewer elements")
    m.take(cast)
    return op.like(cast, op.like(m.root, cast.inputs[0], *m.root.inputs[1:]))  # type: ignore[arg-type]
