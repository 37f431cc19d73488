"""Layer normalisation over a dim that is not the last, as ConvNeXt normalises the channels of an image."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .deviation import centred, normalised
from .polynomial import SINGLES

CORE = "m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a)"
FIRST = "int64[1] axes = {1}, float eps = {0.00001}, float half = {0.5}, float[2,1,1] w = {2,3}, float[2] row = {2,3}"
SPATIAL = "int64[2] axes = {2,3}, float eps = {0.00001}, float half = {0.5}, float[2,1,1] w = {2,3}, float[2] row = {2,3}"


def _model(body: str, constants: str = FIRST, given: str = "float[N,2,H,2] x") -> str:
    return f"g ({given}) => ({given.split(' x')[0]} y) <{constants}> {{ {CORE} {body} }}"


@rule(
    "Div",
    "Mul",
    drift=ROUNDING,
    opset=18,
    measured=True,
    examples=[
        _model("y = Div(d, s)"),
        _model("r = Reciprocal(s) y = Mul(d, r)"),
        _model("y = Div(d, s)", FIRST.replace("{1}", "{-2}", 1), "float[N,3,2] x"),
    ],
    leaves=[
        _model("y = Div(x, s)"),
        _model("q = Mul(d, w) y = Div(q, s)"),
        _model("y = Div(d, s)", given="float[N,C,H,2] x"),
        _model("y = Div(d, s)", SPATIAL),
        _model("y = Div(d, s)", FIRST.replace("{1}", "{3}", 1)),
        _model("y = Div(d, s)", FIRST.replace("int64[1] axes = {1}", "int64[2] axes = {1,2}"), "float[N,2,3,2] x"),
    ],
)
def raise_channel_norm(op: Build, m: Match) -> Result:
    """(x - mean x) / sqrt(mean (x - mean x)^2 + epsilon) over one dim that is not the last -> Transpose(LayerNormalization(Transpose(x), 1))"""
    found = normalised(m.outputs[0])
    centre = centred(found.square.d, found.square.axes) if found is not None else None
    if found is None or centre is None or len(found.square.axes) != 1:
        return None
    x, axis, rank = centre[0], found.square.axes[0], len(centre[0].shape or ())
    size = x.shape[axis] if x.shape is not None else None
    if axis == rank - 1 or x.dtype not in SINGLES or not isinstance(size, int) or found.others:
        return skip("it normalises over %s of '%s', of shape %s", axis, x.name, x.shape)
    for node in (*found.nodes, *centre[1]):
        m.take(node)
    there, back = _to_last(rank, axis)
    ones = op.const(np.full([size], found.number, dtype=x.dtype.numpy()), "scale")
    return op.Transpose(op.LayerNormalization(op.Transpose(x, perm=there), ones, axis=-1, epsilon=found.square.epsilon), perm=back)


def _to_last(rank: int, axis: int) -> tuple[list[int], list[int]]:
    """The permutation that moves an axis to the end, and the one that moves it back."""
    there = [*(other for other in range(rank) if other != axis), axis]
    return there, [there.index(position) for position in range(rank)]


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
    perm, content, size = attribute(m.node("moved"), "perm"), array(value), m.own.shape
    if perm is None or content is None or size is None or len(size) != 1 or content.ndim > len(list(perm)):  # type: ignore[call-overload]
        return skip("'%s' has shape %s, the norm a scale of shape %s", value.name, value.shape, size)
    rank = len(list(perm))  # type: ignore[call-overload]
    place = list(perm).index(rank - 1)  # type: ignore[call-overload]
    aligned = (1,) * (rank - content.ndim) + content.shape
    if aligned[place] != size[0] or math.prod(aligned) != size[0]:
        return skip("'%s' has shape %s, and the normalised dim lies at %s", value.name, value.shape, place)
    return content.reshape(-1)
