"""Layer normalisation over a dim that is not the last, as ConvNeXt normalises the channels of an image."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, constant, is_op, producer
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .deviation import centred, normalised
from .polynomial import SINGLES

CORE = "m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a)"
FIRST = "int64[1] axes = {1}, float eps = {0.00001}, float half = {0.5}, float[2,1,1] w = {2,3}, float[2,1,1] b = {4,1}, float[2] row = {2,3}"


def _model(body: str, constants: str = FIRST, given: str = "float[N,2,H,2] x") -> str:
    return f"g ({given}) => ({given.split(' x')[0]} y) <{constants}> {{ {CORE} {body} }}"


@rule(
    "Div",
    "Mul",
    "Add",
    drift=ROUNDING,
    opset=18,
    measured=True,
    examples=[
        _model("y = Div(d, s)"),
        _model("r = Reciprocal(s) y = Mul(d, r)"),
        _model("y = Div(d, s)", FIRST.replace("{1}", "{-2}", 1), "float[N,3,2] x"),
        _model("q = Mul(d, w) y = Div(q, s)"),
        _model("q = Div(d, s) o = Mul(w, q) y = Add(o, b)", given="float[N,2,3,H] x"),
        _model("q = Div(d, s) y = Add(b, q)", given="float[N,2,3,H] x"),
    ],
    leaves=[
        _model("y = Div(x, s)"),
        _model("q = Mul(d, row) y = Div(q, s)"),
        _model("q = Mul(d, z) y = Div(q, s)", given="float[N,2,H,2] x, float[2,1,1] z"),
        _model("y = Div(d, s)", given="float[N,C,H,2] x"),
        _model("y = Div(d, s)", FIRST.replace("int64[1] axes = {1}", "int64[2] axes = {2,3}")),
        _model("y = Div(d, s)", FIRST.replace("{1}", "{3}", 1)),
        _model("y = Div(d, s)", FIRST.replace("int64[1] axes = {1}", "int64[2] axes = {1,2}"), "float[N,2,3,2] x"),
    ],
)
def raise_channel_norm(op: Build, m: Match) -> Result:
    """(x - mean x) / sqrt(mean (x - mean x)^2 + epsilon) s + t over one dim that is not the last -> Transpose(LayerNormalization(Transpose(x), s, t))"""
    product, shift = _shifted(m) if is_op(m.root, "Add") else (m.outputs[0], None)
    found = normalised(product) if product is not None else None
    centre = centred(found.square.d, found.square.axes) if found is not None else None
    if found is None or centre is None or len(found.square.axes) != 1:
        return None
    x, axis = centre[0], found.square.axes[0]
    shape = list(x.shape or ())
    size = shape[axis]
    if axis == len(shape) - 1 or x.dtype not in SINGLES or not isinstance(size, int) or len(found.others) > 1:
        return skip("it normalises over %s of '%s', of shape %s", axis, x.name, x.shape)
    rows = [_along(item, len(shape), axis, size) for item in (*found.others, *([shift] if shift is not None else []))]
    if any(row is None for row in rows):
        return skip("its scale or shift is no constant along dim %s", axis)
    for node in (*found.nodes, *centre[1]):
        m.take(node)
    kind, there = x.dtype.numpy(), _to_last(len(shape), axis)
    scale = np.full([size], found.number) * (rows[0] if found.others else 1.0)
    if not (np.abs(scale) <= np.finfo(kind).max).all():
        return skip("its scale does not fit into %s", x.dtype)
    parameters = [op.const(scale.astype(kind), "scale"), *([op.const(rows[-1].astype(kind), "shift")] if shift is not None else [])]  # type: ignore[union-attr]
    inner = op.LayerNormalization(op.Transpose(x, perm=there), *parameters, axis=-1, epsilon=found.square.epsilon)
    return op.Transpose(inner, perm=[there.index(position) for position in range(len(shape))])


def _shifted(m: Match) -> tuple[ir.Value | None, ir.Value | None]:
    """What the root adds a constant to, and the constant."""
    for value, other in zip(m.root.inputs, reversed(m.root.inputs), strict=True):
        if constant(other) is not None and producer(value, "Div", "Mul") is not None:
            return value, other
    return None, None


def _along(value: ir.Value, rank: int, axis: int, size: int) -> np.ndarray | None:
    """A constant that varies along one dim only, as float64 [size]."""
    content = array(value)
    if content is None or content.ndim > rank:
        return None
    aligned = (1,) * (rank - content.ndim) + content.shape
    if aligned[axis] not in (1, size) or math.prod(aligned) != aligned[axis]:
        return None
    return np.broadcast_to(content.astype(np.float64).reshape(-1), (size,))


def _to_last(rank: int, axis: int) -> list[int]:
    """The permutation that moves an axis to the end."""
    return [*(other for other in range(rank) if other != axis), axis]


def moved_times(op: Pen, x: object, own: Const, scale: Const) -> object:
    return op.Mul(op.Transpose(op.LayerNormalization(x, own, _attrs=ANY, _name="norm"), perm=ANY, _name="moved"), scale)


def moved_plus(op: Pen, x: object, own: object, shift: Const) -> object:
    return op.Add(op.Transpose(op.LayerNormalization(x, own, _attrs=ANY, _name="norm"), perm=ANY, _name="moved"), shift)


@rule(
    moved_times,
    drift=ROUNDING,
    opset=17,
    examples=[
        "g (float[N,3,5,2] x) => (float[N,2,3,5] y) <float[2] one = {1,1}, float[2,1,1] w = {3,4}>"
        " { n = LayerNormalization(x, one) t = Transpose<perm=[0,3,1,2]>(n) y = Mul(t, w) }",
    ],
    leaves=[
        "g (float[N,3,2,2] x) => (float[N,2,3,2] y) <float[2] one = {1,1}, float[2] w = {3,4}>"
        " { n = LayerNormalization(x, one) t = Transpose<perm=[0,3,1,2]>(n) y = Mul(t, w) }",
        "g (float[N,3,2,2] x) => (float[N,2,3,2] y) <float[2] one = {1,2}, float[2,1,1] w = {3,4}>"
        " { n = LayerNormalization(x, one) t = Transpose<perm=[0,3,1,2]>(n) y = Mul(t, w) }",
    ],
)
def raise_moved_scale(op: Build, m: Match) -> Result:
    """Transpose(LayerNormalization(x, 1)) s -> Transpose(LayerNormalization(x, s)) for s along the normalised dim"""
    if (m.array("own") != 1).any():
        return skip("it has a scale already")
    row = _row(m, m.scale)
    return row if isinstance(row, Skip) else op.like(m.node("moved"), op.like(m.node("norm"), m.x, op.const(row, "scale")))  # type: ignore[arg-type]


@rule(
    moved_plus,
    drift=ROUNDING,
    opset=17,
    examples=[
        "g (float[N,3,5,2] x, float[2] s) => (float[N,2,3,5] y) <float[2,1,1] w = {3,4}>"
        " { n = LayerNormalization(x, s) t = Transpose<perm=[0,3,1,2]>(n) y = Add(w, t) }",
    ],
    leaves=[
        "g (float[N,3,2,2] x, float[2] s) => (float[N,2,3,2] y) <float[2] w = {3,4}>"
        " { n = LayerNormalization(x, s) t = Transpose<perm=[0,3,1,2]>(n) y = Add(t, w) }",
        "g (float[N,3,2,2] x, float[2] s) => (float[N,2,3,2] y) <float[2] b = {1,2}, float[2,1,1] w = {3,4}>"
        " { n = LayerNormalization(x, s, b) t = Transpose<perm=[0,3,1,2]>(n) y = Add(t, w) }",
    ],
)
def raise_moved_shift(op: Build, m: Match) -> Result:
    """Transpose(LayerNormalization(x, s)) + t -> Transpose(LayerNormalization(x, s, t)) for t along the normalised dim"""
    row = _row(m, m.shift)
    return row if isinstance(row, Skip) else op.like(m.node("moved"), op.like(m.node("norm"), m.x, m.own, op.const(row, "shift")))  # type: ignore[arg-type]


def _row(m: Match, value: ir.Value) -> np.ndarray | Skip:
    """The constant as a vector along the last dim of what is transposed; it may vary along no other."""
    perm, size = list(attribute(m.node("moved"), "perm") or ()), m.own.shape  # type: ignore[call-overload]
    if not perm or size is None or len(size) != 1 or not isinstance(size[0], int):
        return skip("the norm has a scale of shape %s, and is transposed by %s", size, perm)
    row = _along(value, len(perm), perm.index(len(perm) - 1), size[0])
    return skip("'%s' of shape %s varies along another dim", value.name, value.shape) if row is None else row.astype(m.x.dtype.numpy())  # type: ignore[union-attr]
