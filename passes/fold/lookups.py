"""What is looked up in weights, and what is picked out of what they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, constant, is_op, producer
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from ..movement.cuts import cuts_of
from .arithmetic import FLOATS, MAX_CONSTANT_BYTES, arithmetic, narrowed, trimmed
from .linear import Linear, is_shared, linear

TABLE = "float[5,4] t = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2}"


@rule(
    "MatMul",
    drift=ROUNDING,
    opset=9,
    examples=[
        f"g (int64[N,S] i) => (float[N,S,2] y) <{TABLE}, float[4,2] w = {{1,2,3,4,5,6,7,8}}> {{ e = Gather(t, i) y = MatMul(e, w) }}",
        f"g (int64[N] i) => (float[N,2] y) <{TABLE}, float[4,2] w = {{1,2,3,4,5,6,7,8}}> {{ e = Gather(t, i) y = MatMul(e, w) }}",
    ],
    leaves=[
        "g (int64[N,S] i) => (float[N,S,9] y) <float[5,1] t = {1,2,3,4,5}, float[1,9] w = {1,2,3,4,5,6,7,8,9}> { e = Gather(t, i) y = MatMul(e, w) }",
        f"g (int64[N] i) => (float[N,2] y) <{TABLE}, float[5,2] w = {{1,2,3,4,5,6,7,8,9,1}}>"
        " { e = Gather<axis=1>(t, i) f = Transpose<perm=[1,0]>(e) y = MatMul(f, w) }",
    ],
)
def fold_table_product(op: Build, m: Match) -> Result:
    """Gather(table, i) @ w -> Gather(table @ w, i), where that table is no larger than both"""
    item, node = linear(m.root), producer(m.root.inputs[0], "Gather")
    if item is None or node is None or item.weight_at != 1 or len(item.shape) != 2 or attribute(node, "axis", 0) not in (0, -2):
        return None
    table = constant(node.inputs[0])
    if table is None or len(table.shape) != 2 or table.dtype not in FLOATS:
        return None
    entries, inner = table.shape.numpy()
    if is_shared(item) or len(node.inputs[0].uses()) > 1 or entries * item.shape[1] > entries * inner + inner * item.shape[1]:  # type: ignore[union-attr]
        return skip("a table of %s by %s takes more room than what it replaces", entries, item.shape[1])
    made = narrowed(table.numpy().astype(np.float64) @ item.weight.astype(np.float64), item.weight.dtype)
    if made is None:
        return skip("the folded table would overflow, or lose digits")
    m.take(node)
    return op.like(node, op.const(made, "table"), node.inputs[1])


@dataclass(frozen=True)
class _Picked:
    """Which entries along which axis of its first input a node keeps, in order."""

    axis: int
    places: np.ndarray


def _picked(node: ir.Node) -> _Picked | None:
    shape = dims_of(node.inputs[0])
    if shape is None:
        return None
    if is_op(node, "Gather"):
        axis = int(attribute(node, "axis", 0)) % len(shape)  # type: ignore[call-overload]
        places = array(node.inputs[1], MAX_CONSTANT_BYTES)
        size = shape[axis]
        if places is None or places.ndim != 1 or not places.size or not isinstance(size, int) or places.min() < -size or places.max() >= size:
            return None
        return _Picked(axis, places)
    cuts = cuts_of(node)
    if cuts is None or len(cuts) != 1:
        return None
    axis, cut = next(iter(cuts.items()))
    size = shape[axis]
    kept = cut.of_size(size) if isinstance(size, int) else range(0)
    return _Picked(axis, np.array(kept, dtype=np.int64)) if len(kept) else None


@rule(
    "Gather",
    "Slice",
    drift=ROUNDING,
    opset=11,
    examples=[
        "g (float[N,S,2] x) => (float[N,S,2] y) <float[2,3] w = {1,2,3,4,5,6}, int64[2] i = {2,-3}> { c = MatMul(x, w) y = Gather<axis=-1>(c, i) }",
        "g (float[N,S,2] x) => (float[N,S,2] y) <float[2,3] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}, int64[1] o = {1}, int64[1] e = {3}, int64[1] a = {2}>"
        " { c = MatMul(x, w) d = Add(c, b) y = Slice(d, o, e, a) }",
        "g (float[N,2] x) => (float[N,2] y) <float[3,2] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}, int64[2] i = {1,0}>"
        " { c = Gemm<transB=1, beta=2.0>(x, w, b) y = Gather<axis=1>(c, i) }",
        "g (float[N,1,2,2] x) => (float[N,2,2,2] y) <float[3,1,1,1] w = {1,2,3}, float[3] b = {1,2,3}, int64[2] i = {2,0}>"
        " { c = Conv(x, w, b) y = Gather<axis=1>(c, i) }",
        "g (float[N,2,4,4] x) => (float[N,1,4,4] y) <int64[1] s = {-1}, int64[1] e = {9223372036854775807}, int64[1] a = {-3},"
        " float[3,2,1,1] w = {1,2,3,4,5,6}> { c = Conv(x, w) y = Slice(c, s, e, a) }",
    ],
    leaves=[
        "g (float[N,S,2] x) => (float[N,S,4] y) <float[2,3] w = {1,2,3,4,5,6}, int64[4] i = {2,0,1,1}> { c = MatMul(x, w) y = Gather<axis=-1>(c, i) }",
        "g (float[N,3,2] x) => (float[N,2,3] y) <float[2,3] w = {1,2,3,4,5,6}, int64[2] i = {2,0}> { c = MatMul(x, w) y = Gather<axis=1>(c, i) }",
        "g (float[N,S,2] x) => (float[N,S] y) <float[2,3] w = {1,2,3,4,5,6}, int64 i = {2}> { c = MatMul(x, w) y = Gather<axis=-1>(c, i) }",
        "g (float[N,2,4,4] x) => (float[N,4,4] y) <int64 i = {2}, float[3,2,1,1] w = {1,2,3,4,5,6}> { a = Conv(x, w) y = Gather<axis=1>(a, i) }",
        "g (float[N,2,4,4] x) => (float[N,3,3,4] y) <int64[1] s = {1}, int64[1] e = {4}, int64[1] a = {2}, float[3,2,1,1] w = {1,2,3,4,5,6}>"
        " { c = Conv(x, w) y = Slice(c, s, e, a) }",
        "g (float[N,2,2,2] x) => (float[N,1,2,2] y) <float[2,1,1,1] w = {1,2}, int64[1] i = {1}> { c = Conv<group=2>(x, w) y = Gather<axis=1>(c, i) }",
        "g (float[N,S,2] x) => (float[N,S,1] y, float[N,S,2] z) <float[2,3] w = {1,2,3,4,5,6}, int64[1] i = {2}, int64[2] j = {0,1}>"
        " { c = MatMul(x, w) y = Gather<axis=-1>(c, i) z = Gather<axis=-1>(c, j) }",
    ],
)
def fold_pick(op: Build, m: Match) -> Result:
    """Gather(x W + b, places) or Slice(x W + b) of some of the channels -> x W[places] + b[places]"""
    value, shift = m.root.inputs[0], None
    node = value.producer() if value is not None else None
    found = arithmetic(node) if is_op(node, "Add") else None
    if node is not None and found is not None:
        m.take(node)
        shift, node = found.shift, found.x.producer()
    item, picked = linear(node), _picked(m.root)
    if node is None or item is None or picked is None or value is None or len(value.uses()) != 1:
        return None
    axis = _channel_axis(item, len(dims_of(value) or ()))
    if axis != picked.axis or item.group != 1 or (shift is not None and any(size != 1 for index, size in enumerate(shift.shape) if index != axis)):
        return skip("it picks along axis %s, the channels lie along %s", picked.axis, axis)
    stored = _stored_axis(item)
    if len(picked.places) > item.shape[stored] or is_shared(item):
        return skip("it would multiply more, or keep a second weight")
    m.take(node)
    weight = op.const(np.ascontiguousarray(item.weight.take(picked.places, axis=stored)), "weight")
    if is_op(node, "MatMul"):
        made = op.MatMul(item.data, weight)
    else:
        bias = array(item.bias)
        made = op.like(node, item.data, weight, None if bias is None else op.const(_along(bias, bias.ndim - 1, picked.places), "bias"))
    if shift is None:
        return made
    added = trimmed(_along(shift, axis, picked.places)).astype(item.weight.dtype)
    return op.Add(made, op.const(added, "bias"))


def _along(content: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """The places of a constant along an axis, unless it is the same all along it."""
    return content if content.ndim == 0 or content.shape[axis] == 1 else content.take(places, axis=axis)


def _channel_axis(item: Linear, rank: int) -> int | None:
    """Where the channels lie in what a linear operator makes; None where they cannot be picked from its weight."""
    if is_op(item.node, "Conv", "Gemm"):
        return 1
    return rank - 1 if is_op(item.node, "MatMul") and item.weight_at == 1 and len(item.shape) == 2 else None


def _stored_axis(item: Linear) -> int:
    return 0 if is_op(item.node, "Conv") or (is_op(item.node, "Gemm") and attribute(item.node, "transB", 0)) else 1
