"""Operators that hand their input on."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import array, attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule

INT32_MAX = 2**31 - 1
"""Slice ends from here on mean "to the end" in every exporter."""


def identity(op: Pen, x: object) -> object:
    return op.Identity(x)


@rule(
    identity,
    drift=EXACT,
    examples=["g (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }", "g (float[2] x) => (float[2] y) { a = Relu(x) y = Identity(a) }"],
    leaves=["g (float[2] x) => (float[2] y) { y = Identity(x) }", "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }"],
)
def drop_identity(op: Build, m: Match) -> Result:
    """Identity(x) -> x"""
    return m.x


def dropout(op: Pen, x: object, ratio: object = None, training: Const | None = None) -> object:
    return op.Dropout(x, ratio, training, _attrs=ANY)


@rule(
    dropout,
    drift=EXACT,
    examples=["g (float[2] x) => (float[2] y) { a = Dropout(x) y = Relu(a) }"],
    leaves=[
        "g (float[2] x) => (float[2] y, bool[2] m) { y, m = Dropout(x) }",
        "g (float[2] x) => (float[2] y) <float r = {0.5}, bool t = {1}> { a = Dropout(x, r, t) y = Abs(a) }",
    ],
)
def drop_dropout(op: Build, m: Match) -> Result:
    """Dropout(x), at inference and with its mask unused -> x"""
    if m.training is not None and m.scalar("training") is not False:
        return skip("its training_mode is on")
    if attribute(m.root, "is_test", 1) == 0:
        return skip("its is_test is off")
    return m.x


def cast(op: Pen, x: object) -> object:
    return op.Cast(x, _attrs=ANY)


@rule(
    cast,
    drift=EXACT,
    examples=["g (float[2] x) => (float[2] y) { a = Cast<to=1>(x) y = Relu(a) }"],
    leaves=["g (float[2] x) => (int64[2] y) { a = Cast<to=7>(x) y = Abs(a) }"],
)
def drop_cast(op: Build, m: Match) -> Result:
    """Cast(x, to=dtype of x) -> x"""
    if m.x.dtype is None:
        return skip("the dtype of '%s' is not known", m.x.name)
    to = attribute(m.root, "to")
    if to != m.x.dtype.value:
        return skip("it changes the dtype from %s", m.x.dtype)
    return m.x


def cast_like(op: Pen, x: object, like: object) -> object:
    return op.CastLike(x, like, saturate=ANY, round_mode=ANY)


@rule(
    cast_like,
    drift=EXACT,
    opset=15,
    examples=[
        "g (float[2] x, int64[3] l) => (int64[2] y) { a = CastLike(x, l) y = Abs(a) }",
        "g (float[2] x, float[3] l) => (float[2] y) { a = CastLike(x, l) y = Abs(a) }",
    ],
)
def settle_cast_like(op: Build, m: Match) -> Result:
    """CastLike(x, y) -> Cast(x, to=dtype of y)"""
    if m.like.dtype is None:
        return skip("the dtype of '%s' is not known", m.like.name)
    kept = {name: m.root.attributes[name] for name in ("saturate", "round_mode") if name in m.root.attributes}
    return op.Cast(m.x, to=m.like.dtype.value, **kept)


def concat(op: Pen, x: object) -> object:
    return op.Concat(x, _attrs=ANY)


@rule(concat, drift=EXACT, examples=["g (float[2] x) => (float[2] y) { a = Concat<axis=0>(x) y = Relu(a) }"])
def drop_concat(op: Build, m: Match) -> Result:
    """Concat(x) of one input -> x"""
    return m.x


def variadic(op: Pen, x: object) -> object:
    return op.any("Sum", "Max", "Min", "Mean")(x)


@rule(variadic, drift=EXACT, examples=["g (float[2] x) => (float[2] y) { a = Max(x) y = Relu(a) }"])
def drop_variadic(op: Build, m: Match) -> Result:
    """Sum(x), Max(x), Min(x), Mean(x) of one input -> x"""
    return m.x


def pad(op: Pen, x: object, pads: Const, value: object = None, axes: object = None) -> object:
    return op.Pad(x, pads, value, axes, mode=ANY)


@rule(
    pad,
    drift=EXACT,
    opset=11,
    examples=["g (float[2,2] x) => (float[2,2] y) <int64[4] p = {0,0,0,0}> { a = Pad(x, p) y = Relu(a) }"],
    leaves=["g (float[2,2] x) => (float[2,3] y) <int64[4] p = {0,0,0,1}> { a = Pad(x, p) y = Relu(a) }"],
)
def drop_pad(op: Build, m: Match) -> Result:
    """Pad(x, 0) -> x"""
    if m.array("pads").any():
        return skip("it pads")
    return m.x


def sliced(op: Pen, x: object, starts: Const, ends: Const, axes: Const | None = None, steps: Const | None = None) -> object:
    return op.Slice(x, starts, ends, axes, steps)


@rule(
    sliced,
    drift=EXACT,
    opset=10,
    examples=[
        "g (float[2,3] x) => (float[2,3] y) <int64[1] s = {0}, int64[1] e = {3}, int64[1] a = {1}> { t = Slice(x, s, e, a) y = Relu(t) }",
        "g (float[N,3] x) => (float[N,3] y) <int64[1] s = {0}, int64[1] e = {9223372036854775807}> { t = Slice(x, s, e) y = Relu(t) }",
    ],
    leaves=[
        "g (float[N,3] x) => (float[M,3] y) <int64[1] s = {0}, int64[1] e = {3}, int64[1] a = {0}> { t = Slice(x, s, e, a) y = Relu(t) }",
        "g (float[4] x) => (float[2] y) <int64[1] s = {0}, int64[1] e = {4}, int64[1] a = {0}, int64[1] k = {2}> { t = Slice(x, s, e, a, k) y = Relu(t) }",
    ],
)
def drop_slice(op: Build, m: Match) -> Result:
    """Slice(x) of everything -> x"""
    if m.array("starts").any() or (m.steps is not None and (m.array("steps") != 1).any()):
        return skip("it leaves elements out")
    axes = m.array("axes") if m.axes is not None else np.arange(len(m.array("ends")))
    for axis, end in zip(axes, m.array("ends"), strict=True):
        dim = m.x.shape[int(axis)] if m.x.shape is not None else None
        if end < INT32_MAX and not (isinstance(dim, int) and end >= dim):
            return skip("it ends at %s, which may be less than %s", int(end), dim)
    return m.x


def transpose(op: Pen, x: object) -> object:
    return op.Transpose(x, perm=ANY)


@rule(
    transpose,
    drift=EXACT,
    examples=["g (float[2,3] x) => (float[2,3] y) { a = Transpose<perm=[0,1]>(x) y = Relu(a) }"],
    leaves=["g (float[2,2] x) => (float[2,2] y) { a = Transpose(x) y = Relu(a) }"],
)
def drop_transpose(op: Build, m: Match) -> Result:
    """Transpose(x) that moves nothing -> x"""
    perm = permutation(m.root)
    if perm is None or perm != list(range(len(perm))):
        return skip("it moves dimensions")
    return m.x


def two_transposes(op: Pen, x: object) -> object:
    return op.Transpose(op.Transpose(x, perm=ANY, _name="first"), perm=ANY)


@rule(
    two_transposes,
    drift=EXACT,
    shared=True,
    examples=["g (float[2,3,4] x) => (float[3,4,2] y) { a = Transpose<perm=[2,0,1]>(x) b = Transpose<perm=[2,0,1]>(a) y = Relu(b) }"],
)
def merge_transposes(op: Build, m: Match) -> Result:
    """Transpose(Transpose(x, p), q) -> Transpose(x, p[q])"""
    first, second = permutation(m.node("first")), permutation(m.root)
    if first is None or second is None:
        return skip("the rank of '%s' is not known", m.x.name)
    perm = [first[axis] for axis in second]
    return m.x if perm == list(range(len(perm))) else op.Transpose(m.x, perm=perm)


def permutation(node: ir.Node) -> list[int] | None:
    """The permutation of a Transpose; None when it is the default one of an unknown rank."""
    perm = attribute(node, "perm")
    if perm is not None:
        return [int(axis) for axis in perm]  # type: ignore[attr-defined]
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    return list(range(len(source.shape)))[::-1]


def times_one(op: Pen, x: object) -> object:
    return op.Mul(x, 1)


def over_one(op: Pen, x: object) -> object:
    return op.any("Div", "Pow")(x, 1)


def minus_zero(op: Pen, x: object) -> object:
    return op.Sub(x, 0)


@rule(
    times_one,
    over_one,
    minus_zero,
    drift=EXACT,
    examples=[
        "g (float[2,3] x) => (float[2,3] y) <float[1] c = {1}> { a = Mul(c, x) y = Relu(a) }",
        "g (int64[2] x) => (int64[2] y) <int64 c = {1}> { a = Div(x, c) y = Abs(a) }",
        "g (float[2] x) => (float[2] y) <float c = {0}> { a = Sub(x, c) y = Relu(a) }",
    ],
    leaves=[
        "g (float[N] x) => (float[M] y) <float[2] c = {1,1}> { a = Mul(x, c) y = Relu(a) }",
        "g (float[2] x) => (float[2] y) <float c = {1}> { a = Div(c, x) y = Relu(a) }",
        "g (float[2] x) => (float[1,2] y) <float[1,1] c = {1}> { a = Mul(x, c) y = Relu(a) }",
    ],
)
def drop_neutral(op: Build, m: Match) -> Result:
    """x * 1, x / 1, x ** 1, x - 0 -> x"""
    return m.x


def plus(op: Pen, x: object, zero: Const) -> object:
    return op.Add(x, zero)


@rule(
    plus,
    drift=EXACT,
    examples=["g (int64[2] x) => (int64[2] y) <int64 c = {0}> { a = Add(x, c) y = Abs(a) }"],
    leaves=["g (float[2] x) => (float[2] y) <float c = {0}> { a = Add(x, c) y = Reciprocal(a) }"],
)
def drop_plus_zero(op: Build, m: Match) -> Result:
    """x + 0 -> x for integers, x + -0.0 -> x for floats (x + 0.0 turns -0.0 into 0.0)"""
    zero = array(m.zero, max_bytes=4096)
    if zero is None or zero.size == 0 or zero.astype(np.float64).any():
        return skip("it adds something")
    floating = not np.issubdtype(zero.dtype, np.integer)
    if floating and not np.signbit(zero.astype(np.float64)).all():
        return skip("adding 0.0 turns -0.0 into 0.0")
    if not broadcasts_into(m.zero.shape, m.x.shape):
        return skip("the constant may broadcast '%s' to a larger shape", m.x.name)
    return m.x

