"""Repeats that repeat nothing, or twice."""

from __future__ import annotations

from ...compiler.core.axes import numbers_in
from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import producer
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .expands import ONE


@rule(
    "Tile",
    drift=EXACT,
    examples=["g (float[N,3] x) => (float[N,3] y) <int64[2] r = {1,1}> { a = Tile(x, r) y = Relu(a) }"],
    leaves=["g (float[N,3] x) => (float[N,6] y) <int64[2] r = {1,2}> { a = Tile(x, r) y = Relu(a) }"],
)
def drop_tile(op: Build, m: Match) -> Result:
    """Tile(x, 1) -> x"""
    repeats = numbers_in(m.root.inputs[1])
    if repeats is None or any(times != 1 for times in repeats):
        return skip("it repeats %s times", repeats)
    return m.root.inputs[0]


@rule(
    "Tile",
    drift=EXACT,
    examples=[
        "g (float[N,3] x) => (float[M,12] y) <int64[2] r = {1,2}, int64[2] s = {3,2}> { a = Tile(x, r) y = Tile(a, s) }",
        "g (string[2] x) => (string[0] y) <int64[1] r = {3}, int64[1] s = {0}> { a = Tile(x, r) y = Tile(a, s) }",
    ],
    leaves=["g (float[N,3] x, int64[2] r) => (float[M,K] y) <int64[2] s = {3,2}> { a = Tile(x, r) y = Tile(a, s) }"],
)
def merge_tiles(op: Build, m: Match) -> Result:
    """Tile(Tile(x, r), s) -> Tile(x, r s)"""
    before = producer(m.root.inputs[0], "Tile")
    if before is None:
        return None
    first, second = numbers_in(before.inputs[1]), numbers_in(m.root.inputs[1])
    if first is None or second is None or len(first) != len(second):
        return skip("the repeats are not known")
    m.take(before)
    return op.Tile(before.inputs[0], op.const([a * b for a, b in zip(first, second, strict=True)], "repeats"))


def alone(op: Pen, x: object, repeats: object) -> object:
    return op.any(*ONE)(op.Tile(x, repeats), _attrs=ANY)


@rule(
    alone,
    drift=EXACT,
    opset=13,
    examples=["g (bool[N,2] x) => (float[N,8] y) <int64[2] s = {1,4}> { e = Tile(x, s) y = Cast<to=1>(e) }"],
    leaves=["g (int64[N,1] x) => (float[N,8] y, int64[N,8] e) <int64[2] s = {1,8}> { e = Tile(x, s) y = Cast<to=1>(e) }"],
)
def compute_before_tile(op: Build, m: Match) -> Result:
    """f(Tile(x, r)) -> Tile(f(x), r)"""
    repeats = numbers_in(m.repeats)
    if repeats is not None and 0 in repeats:
        return skip("nothing of it is left")
    return op.Tile(op.like(m.root, m.x), m.repeats)
