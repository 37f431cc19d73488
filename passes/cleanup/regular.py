"""What exporters compute in the graph although the position alone tells it: masks that are the same everywhere, positions read from positions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into, same, same_shape
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, constant, is_op, producer, users
from ...compiler.core.pattern import Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule

LOGIC = ("And", "Or", "Xor")
NEUTRAL = {"And": True, "Or": False, "Xor": False, "Add": 0, "Sub": 0, "Mul": 1, "Div": 1}
SIGN_OF_ZERO_BLIND = ("Softmax", "LogSoftmax", "Exp", "Sigmoid", "Cos", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
"""Operators that make the same of 0.0 and -0.0."""


@rule(
    *NEUTRAL,
    drift=EXACT,
    opset=13,
    examples=[
        "g (bool[N,S] x) => (bool[N,S] y) <bool t = {1}> { s = Shape(x) u = Expand(t, s) a = And(u, x) y = Not(a) }",
        "g (float[N,4,S,S] x) => (float[N,4,S,S] y) <bool[1,1,1,1] t = {1}, float zero = {0}, float low = {-3.4028235e38}, int64[1] ones = {1}>"
        " { n = Shape<start=0, end=1>(x) e = Shape<start=2>(x) s = Concat<axis=0>(n, ones, e) m = Expand(t, s) b = Where(m, zero, low) a = Add(x, b)"
        " y = Softmax<axis=-1>(a) }",
        "g (int64[N] x) => (int64[N] y) <int64 zero = {0}, int64 one = {1}, int64[1] d = {0}> { l0 = Shape(x) l = Squeeze(l0, d)"
        " r = Range(zero, l, one) t = Range(one, l, one) q = Range(zero, l, one) z = Sub(r, q) a = Add(x, z) y = Abs(a) }",
        "g (bool[N,S] x) => (bool[N,S] y) <bool t = {1}> { a = And(x, t) y = Not(a) }",
    ],
    leaves=[
        "g (float[N,S] x) => (float[N,S] y) <float t = {0}> { s = Shape(x) u = Expand(t, s) a = Add(u, x) y = Reciprocal(a) }",
        "g (bool[N] x, int64[2] s) => (bool[M,K] y) <bool t = {1}> { u = Expand(t, s) a = And(u, x) y = Not(a) }",
        "g (bool[N,S] x) => (bool[N,S] y) <bool t = {0}> { s = Shape(x) u = Expand(t, s) a = And(u, x) y = Not(a) }",
        "g (int64[N] x) => (int64[N] y) <int64 zero = {0}, int64 one = {1}, int64[1] d = {0}> { l0 = Shape(x) l = Squeeze(l0, d)"
        " r = Range(zero, l, one) a = Add(x, r) y = Abs(a) }",
    ],
)
def drop_uniform_operand(op: Build, m: Match) -> Result:
    """x and true, x or false, x + 0, x - 0, x * 1, x / 1 -> x, where the second operand is computed, but proven to be that everywhere"""
    kind, refusal = m.root.op_type, None
    x, u = m.root.inputs
    for kept, other in ((x, u), (u, x))[: 1 if kind in ("Sub", "Div") else 2]:
        if kept is None or other is None or (constant(other) is not None and kind not in LOGIC):
            continue
        refusal = _objection(m, kind, kept, other)
        if refusal is None:
            return kept
    return refusal


def _objection(m: Match, kind: str, x: ir.Value, u: ir.Value) -> Skip | None:
    number = m.forms.uniform(u)
    if number is None or number != NEUTRAL[kind]:
        return skip("'%s' is not proven to be %s everywhere", u.name, NEUTRAL[kind])
    if not broadcasts_into(u.shape, x.shape):
        return skip("'%s' may broadcast '%s' to a larger shape", u.name, x.name)
    if kind == "Add" and number.dtype.kind == "f" and not np.signbit(number) and not _blind_to_sign_of_zero(m.root.outputs[0]):
        return skip("adding 0.0 turns -0.0 into 0.0, which a reader of '%s' may tell apart", m.root.outputs[0].name)
    return None


def _blind_to_sign_of_zero(value: ir.Value) -> bool:
    return not value.is_graph_output() and all(is_op(node, *SIGN_OF_ZERO_BLIND) for node in users(value))


def where(op: Pen, c: object, x: object, y: object) -> object:
    return op.Where(c, x, y)


@rule(
    where,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,S] x) => (float[N,S] y) <bool t = {1}, float low = {-1}> { s = Shape(x) u = Expand(t, s) a = Where(u, x, low) y = Softmax(a) }",
        "g (int64[N,S] x) => (int64[N,S] y) <int64 zero = {0}, int64 low = {-1}> { s = Shape(x) z = Expand(zero, s) q = CumSum(z, zero)"
        " u = Equal(q, zero) n = Not(u) a = Where(n, low, x) y = Neg(a) }",
    ],
    leaves=[
        "g (float[S] x, int64[2] s) => (float[N,S] y) <bool t = {1}, float low = {-1}> { u = Expand(t, s) a = Where(u, x, low) y = Neg(a) }",
        "g (float[N,S] x, bool[1,S] t) => (float[N,S] y) <float low = {-1}> { s = Shape(x) u = Expand(t, s) a = Where(u, x, low) y = Neg(a) }",
    ],
)
def choose_uniform(op: Build, m: Match) -> Result:
    """Where(c, x, y) -> x or y, where c is computed, but proven to be the same everywhere"""
    choice = m.forms.uniform(m.c)
    if choice is None:
        return skip("'%s' is not proven to be the same everywhere", m.c.name)
    chosen = m.x if choice else m.y
    if not same_shape(m.root.outputs[0].shape, chosen.shape):
        return skip("'%s' is broadcast to another shape", chosen.name)
    if chosen.dtype is not None and chosen.dtype.is_floating_point() and not _blind_to_sign_of_zero(m.root.outputs[0]):
        return skip("the runtime's Where turns -0.0 into 0.0, which a reader of '%s' may tell apart", m.root.outputs[0].name)
    return chosen


def gather_nd(op: Pen, data: object, parts: object) -> object:
    return op.GatherND(data, parts)


@rule(
    gather_nd,
    drift=EXACT,
    opset=13,
    shared=True,
    examples=[
        "g (float[N,S] x) => (int64[N,S,1] y) <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[1] last = {-1}, int64[2] two = {1,2}>"
        " { s = Shape(x) l0 = Shape<start=1, end=2>(x) l = Squeeze(l0, first) n0 = Shape<start=0, end=1>(x) n = Squeeze(n0, first)"
        " r = Range(zero, l, one) p = Expand(r, s) b0 = Range(zero, n, one) b1 = Unsqueeze(b0, two) k0 = Shape(b1) e = Concat<axis=0>(n0, l0)"
        " u0 = Unsqueeze(r, first) u1 = Expand(u0, e) u2 = Unsqueeze(u1, last) i1 = Unsqueeze(u2, last) e4 = Shape(u2) b2 = Expand(b1, e4)"
        " i0 = Unsqueeze(b2, last) i = Concat<axis=-1>(i0, i1) a = GatherND(p, i) y = Abs(a) }",
    ],
    leaves=[
        "g (int64[N,S] p, int64[N,S,1] b, int64[N,S,1] c) => (int64[N,S] y) { i = Concat<axis=-1>(b, c) a = GatherND(p, i) y = Abs(a) }",
        "g (float[N,S] x, int64[K,1] b, int64[K,1] c) => (int64[K] y) <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}>"
        " { s = Shape(x) l0 = Shape<start=1, end=2>(x) l = Squeeze(l0, first) r = Range(zero, l, one) p = Expand(r, s)"
        " i = Concat<axis=-1>(b, c) a = GatherND(p, i) y = Abs(a) }",
    ],
)
def read_positions(op: Build, m: Match) -> Result:
    """p[i, j] -> j, where p[i, j] is proven to be j, and j to be no negative index"""
    form, parts = m.forms.of(m.data), _parts(m.parts)
    if form is None or form.offset.dtype != np.int64 or int(form.offset) != 0 or sorted(form.steps)[-1:] != [1] or sum(map(abs, form.steps)) != 1:
        return skip("'%s' is not proven to hold its own indices", m.data.name)
    if len(parts) != len(form.steps):
        return skip("'%s' has not one part for each dimension of '%s'", m.parts.name, m.data.name)
    index = parts[form.steps.index(1)]
    known = m.forms.of(index)
    if known is None or int(known.offset) < 0 or min(known.steps, default=0) < 0:
        return skip("'%s' may be negative, and count from the end", index.name)
    return op.Squeeze(index, op.const([-1]))


def _parts(indices: ir.Value) -> list[ir.Value]:
    """The indices for each dimension, of which a Concat makes coordinates; nothing when it is not made so."""
    joined = producer(indices, "Concat")
    if joined is None or indices.shape is None or int(attribute(joined, "axis", 0)) % len(indices.shape) != len(indices.shape) - 1:  # type: ignore[call-overload]
        return []
    parts = [part for part in joined.inputs if part is not None and part.shape is not None and part.shape[-1] == 1]
    return parts if len(parts) == len(joined.inputs) else []


@rule(
    gather_nd,
    drift=EXACT,
    opset=13,
    shared=True,
    examples=[
        "g (float[N,S] x) => (float[N,1,S] y) <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[1] ones = {1}, int64[2] two = {1,2},"
        " int64[1] last = {-1}> { l0 = Shape<start=1, end=2>(x) l = Squeeze(l0, first) n0 = Shape<start=0, end=1>(x) n = Squeeze(n0, first)"
        " e = Concat<axis=0>(n0, ones, l0) r = Range(zero, l, one) b0 = Range(zero, n, one) b1 = Unsqueeze(b0, two) r1 = Unsqueeze(r, first)"
        " r2 = Unsqueeze(r1, first) u = Expand(r2, e) b = Expand(b1, e) i1 = Unsqueeze(u, last) i0 = Unsqueeze(b, last) i = Concat<axis=-1>(i0, i1)"
        " a = GatherND(x, i) y = Neg(a) }",
    ],
    leaves=[
        "g (float[N,S] x, int64[N,S,2] i) => (float[N,S] y) { a = GatherND(x, i) y = Neg(a) }",
    ],
)
def gather_own_positions(op: Build, m: Match) -> Result:
    """x[i, j] -> x with dimensions of one put in, where i and j are proven to be the places where the result stands"""
    parts, shape, inner = _parts(m.parts), m.root.outputs[0].shape, m.data.shape
    if not parts or shape is None or inner is None or len(parts) != len(inner):
        return skip("'%s' is not a Concat of indices, one for each dimension of '%s'", m.parts.name, m.data.name)
    axes = []
    for part, dim in zip(parts, inner, strict=True):
        form = m.forms.of(part)
        if form is None or int(form.offset) != 0 or sum(map(abs, form.steps)) != 1 or 1 not in form.steps[:-1]:
            return skip("'%s' is not proven to be the place where the result stands", part.name)
        axes.append(form.steps.index(1))
        if not same(shape[axes[-1]], dim):
            return skip("the result has %s of the %s of '%s'", shape[axes[-1]], dim, m.data.name)
    others = [axis for axis in range(len(shape)) if axis not in axes]
    if axes != sorted(set(axes)) or any(shape[axis] != 1 for axis in others):
        return skip("dimensions change places or are repeated")
    return op.Unsqueeze(m.data, op.const(others)) if others else m.data
