"""Sequences of tensors that are made and taken apart in one place."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, producer
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule


@rule(
    "ConcatFromSequence",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,2] a, float[N,3] b) => (float[N,5] y) { s = SequenceConstruct(a, b) y = ConcatFromSequence<axis=1>(s) }",
        "g (float[N,2] a, float[N,2] b) => (float[N,2,2] y) { s = SequenceConstruct(a, b) y = ConcatFromSequence<axis=-1, new_axis=1>(s) }",
    ],
    leaves=[
        "g (seq(float[N,2]) s) => (float[N,M] y) { y = ConcatFromSequence<axis=1>(s) }",
        "g (float[N,2] a, float[N,2] b) => (float[N,5] y, int64 n) { s = SequenceConstruct(a, b) n = SequenceLength(s) y = ConcatFromSequence<axis=1>(s) }",
    ],
)
def join_sequence(op: Build, m: Match) -> Result:
    """ConcatFromSequence(SequenceConstruct(a, b)) -> Concat(a, b); with a new axis each is unsqueezed first"""
    made = producer(m.root.inputs[0], "SequenceConstruct")
    if made is None:
        return skip("how long the sequence is is not known")
    m.take(made)
    axis, parts = attribute(m.root, "axis"), list(made.inputs)
    if attribute(m.root, "new_axis", 0):
        axes = op.const([axis], "axes")  # type: ignore[list-item]
        parts = [op.Unsqueeze(part, axes) for part in parts]  # type: ignore[misc]
    return op.Concat(*parts, axis=axis)


def picked(op: Pen, s: object, place: Const) -> object:
    return op.SequenceAt(s, place)


@rule(
    picked,
    drift=EXACT,
    opset=11,
    shared=True,
    examples=[
        "g (float[N,2] a, float[M,2] b) => (float[M,2] y) <int64 i = {-1}> { s = SequenceConstruct(a, b) p = SequenceAt(s, i) y = Relu(p) }",
        "g (int64[N] a, int64[3] b) => (int64[N] y) <int32 i = {0}> { s = SequenceConstruct(a, b) p = SequenceAt(s, i) y = Abs(p) }",
    ],
    leaves=["g (float[N,2] a, float[M,2] b, int64 i) => (float[K,2] y) { s = SequenceConstruct(a, b) p = SequenceAt(s, i) y = Relu(p) }"],
)
def take_item(op: Build, m: Match) -> Result:
    """SequenceAt(SequenceConstruct(a, b), 1) -> b"""
    made, place = producer(m.s, "SequenceConstruct"), m.scalar("place")
    if made is None or place is None or not -len(made.inputs) <= place < len(made.inputs):
        return skip("the item %s of it is not known", place)
    return made.inputs[int(place)]
