"""Paddings of what was padded before."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.axes import numbers_in
from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, constant
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of


def padded_twice(
    op: Pen, x: object, p: Const, q: Const, v: Const | None = None, w: Const | None = None, a: Const | None = None, b: Const | None = None
) -> object:
    return op.Pad(op.Pad(x, p, v, a, mode="constant", _name="first"), q, w, b, mode="constant")


def edged_twice(op: Pen, x: object, p: Const, q: Const, v: object = None, w: object = None, a: Const | None = None, b: Const | None = None) -> object:
    return op.Pad(op.Pad(x, p, v, a, mode="edge", _name="first"), q, w, b, mode="edge")


@rule(
    padded_twice,
    edged_twice,
    drift=EXACT,
    opset=18,
    examples=[
        "g (float[N,3] x) => (float[M,8] y) <int64[4] p = {0,1,0,2}, int64[2] q = {1,1}, int64[1] a = {-1}, float v = {0}>"
        " { b = Pad(x, p) y = Pad(b, q, v, a) }",
        "g (int32[N,3] x) => (int32[M,5] y) <int64[4] p = {1,1,0,0}, int64[4] q = {0,0,1,1}, int32 v = {7}> { b = Pad(x, p, v) y = Pad(b, q, v) }",
        'g (float[2,3] x) => (float[3,5] y) <int64[4] p = {1,1,0,0}, int64[4] q = {0,0,0,1}> { b = Pad<mode="edge">(x, p) y = Pad<mode="edge">(b, q) }',
    ],
    leaves=[
        "g (float[N,3] x) => (float[M,5] y) <int64[4] p = {1,1,0,0}, int64[4] q = {0,0,1,1}, float v = {7}> { b = Pad(x, p, v) y = Pad(b, q) }",
        "g (float[N,3] x) => (float[M,3] y) <int64[4] p = {1,1,0,0}, int64[4] q = {0,-1,1,0}> { b = Pad(x, p) y = Pad(b, q) }",
        'g (float[4,4] x) => (float[6,6] y) <int64[4] p = {1,1,0,0}, int64[4] q = {0,0,1,1}> { b = Pad<mode="reflect">(x, p) y = Pad<mode="reflect">(b, q) }',
        'g (float[4,4] x) => (float[6,6] y) <int64[4] p = {1,1,0,0}, int64[4] q = {0,0,1,1}> { b = Pad(x, p) y = Pad<mode="edge">(b, q) }',
    ],
)
def merge_pads(op: Build, m: Match) -> Result:
    """Pad(Pad(x, p), q) -> Pad(x, p + q), both with the same value or both with the edge"""
    shape = dims_of(m.x)
    first, second = (_by_axis(node, len(shape or ())) for node in (m.node("first"), m.root))
    if m.x.dtype == ir.DataType.STRING:
        return skip("it pads strings")
    if shape is None or first is None or second is None:
        return skip("the padding or the rank is not known")
    pads = first + second
    if min(first.min(initial=0), second.min(initial=0)) < 0:
        return skip("one of them crops")
    if attribute(m.root, "mode", "constant") == "constant" and _value(m, "v") != _value(m, "w"):
        return skip("they pad with different values")
    return op.Pad(m.x, op.const(pads.reshape(-1), "pads"), m.v, mode=attribute(m.root, "mode", "constant"))


def _by_axis(node: ir.Node, rank: int) -> np.ndarray | None:
    """[begins, ends] for every axis."""
    pads, axes = numbers_in(node.inputs[1]), list(range(rank))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given = numbers_in(node.inputs[3])
        axes = [axis % rank for axis in given] if given is not None else []
    if pads is None or len(pads) != 2 * len(axes):
        return None
    result = np.zeros((2, rank), dtype=np.int64)
    result[:, axes] = np.array(pads, dtype=np.int64).reshape(2, -1)
    return result


def _value(m: Match, name: str) -> bytes:
    """The bytes of the padding value; what is left out is 0."""
    tensor = constant(getattr(m, name))
    if tensor is None:
        return bytes(int(m.x.dtype.itemsize)) if m.x.dtype is not None else b""
    return bytes(tensor.tobytes())
