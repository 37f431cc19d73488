"""What is added to an embedding: a row that is always the same one, and a vector that the table can hold."""

from __future__ import annotations

import numpy as np

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import ROUNDING
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import static_shape

MAX_TABLE_BYTES = 2**28
"""Larger tables are not copied."""


def one_row(op: Pen, x: object, table: Const, u: object) -> object:
    return op.Add(x, op.Gather(table, u, axis=ANY, _name="lookup"))


@rule(
    one_row,
    drift=ROUNDING,
    opset=13,
    examples=[
        "g (float[N,S,2] x) => (float[N,S,2] y) <float[3,2] t = {1,2,3,4,5,6}, int64 k = {2}, int64[1] z = {0}, int64[1] e = {2}>"
        " { s = Shape<start=0, end=2>(x) u = Expand(k, s) g = Gather(t, u) y = Add(g, x) }",
    ],
    leaves=[
        "g (float[S,2] x, int64[2] s) => (float[N,S,2] y) <float[3,2] t = {1,2,3,4,5,6}, int64 k = {2}>"
        " { u = Expand(k, s) g = Gather(t, u) y = Add(g, x) }",
        "g (float[N,S,2] x, int64 k) => (float[N,S,2] y) <float[3,2] t = {1,2,3,4,5,6}>"
        " { s = Shape<start=0, end=2>(x) u = Expand(k, s) g = Gather(t, u) y = Add(g, x) }",
        "g (float[N,S,3] x) => (float[N,S,3] y) <float[3,2] t = {1,2,3,4,5,6}, int64 k = {1}, int64[1] a = {0}>"
        " { s = Shape<start=0, end=2>(x) u0 = Expand(k, s) u = Slice(u0, a, a, a) g = Gather<axis=1>(t, k) y = Add(g, x) }",
    ],
)
def add_the_one_row(op: Build, m: Match) -> Result:
    """x + T[u] -> x + T[k], where u is computed, but proven to be k everywhere"""
    number, table = m.forms.uniform(m.u), static_shape(m.table)
    lookup = m.node("lookup").outputs[0]
    if number is None or m.u.shape is None or len(m.u.shape) == 0:
        return skip("'%s' is not proven to be the same everywhere", m.u.name)
    if table is None or m.node("lookup").attributes.get_int("axis", 0) != 0 or not -table[0] <= int(number) < table[0]:
        return skip("row %s of '%s' is not read", number, m.table.name)
    if not broadcasts_into(lookup.shape, m.x.shape):
        return skip("'%s' may broadcast '%s' to a larger shape", lookup.name, m.x.name)
    row = m.table.const_value.numpy()[int(number)]  # type: ignore[union-attr]
    return op.Add(m.x, op.const(np.ascontiguousarray(row), "row"))


def looked_up(op: Pen, table: Const, i: object, c: Const) -> object:
    return op.Add(op.Gather(table, i, axis=0), c)


@rule(
    looked_up,
    drift=ROUNDING,
    opset=13,
    examples=[
        "g (int64[N,S] i) => (float[N,S,2] y) <float[5,2] t = {1,2,3,4,5,6,7,8,9,10}, float[2] c = {0.5,-1}> { g = Gather(t, i) y = Add(c, g) }",
        "g (int64[N,S] i) => (float[N,S,2] y) <float[5,2] t = {1,2,3,4,5,6,7,8,9,10}, float[1] c = {0.5}> { g = Gather(t, i) y = Add(g, c) }",
    ],
    leaves=[
        "g (int64[N,2] i) => (float[N,2,2] y) <float[5,2] t = {1,2,3,4,5,6,7,8,9,10}, float[2,2] c = {0.5,-1,2,3}> { g = Gather(t, i) y = Add(c, g) }",
        "g (int64[N,S] i, float[N,S,2] x) => (float[N,S,2] y, float[N,S,5] z) <float[5,2] t = {1,2,3,4,5,6,7,8,9,10}, float[2] c = {0.5,-1}>"
        " { g = Gather(t, i) y = Add(c, g) r = Transpose(t) z = MatMul(x, r) }",
    ],
)
def add_to_table(op: Build, m: Match) -> Result:
    """T[i] + c -> (T + c)[i]"""
    table, constant = m.table.const_value, m.c.const_value
    if table is None or constant is None or len(m.table.uses()) > 1:
        return skip("'%s' is read elsewhere too", m.table.name)
    if len(constant.shape) >= len(table.shape) or not broadcasts_into(constant.shape.numpy(), table.shape.numpy()):
        return skip("what is added has the shape %s, the table %s", constant.shape, table.shape)
    if table.nbytes > MAX_TABLE_BYTES:
        return skip("the table has %s bytes", table.nbytes)
    return op.Gather(op.const(table.numpy() + constant.numpy(), "table"), m.i)
