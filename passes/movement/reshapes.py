"""Reshapes, flattens, squeezes and unsqueezes in a row."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.axes import axes_of
from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import producer
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .views import VIEWS, reshaped_like


@rule(
    "Flatten",
    drift=EXACT,
    examples=["g (float[N,3] x) => (float[N,3] y) { a = Flatten<axis=1>(x) y = Relu(a) }"],
    leaves=["g (float[N,3] x) => (float[1,M] y) { a = Flatten<axis=0>(x) y = Relu(a) }"],
)
def drop_flatten(op: Build, m: Match) -> Result:
    """Flatten(x) to the shape x has -> x"""
    source = m.root.inputs[0]
    if source is None or not same_shape(dims_of(source), dims_of(m.root.outputs[0])):
        return skip("it changes the shape")
    return source


@rule(
    *VIEWS,
    drift=EXACT,
    shared=True,
    opset=13,
    examples=[
        "g (float[N,6] x) => (float[N,3,2] y) <int64[4] s = {0,2,3,1}, int64[3] t = {0,3,2}> { a = Reshape(x, s) y = Reshape(a, t) }",
        "g (float[2,6] x) => (float[4,3] y) <int64[2] s = {3,4}, int64[2] t = {-1,3}> { a = Reshape(x, s) y = Reshape(a, t) }",
        "g (float[N,C,1,1] x) => (float[N,C] y) <int64[1] s = {3}> { a = Squeeze(x, s) y = Flatten<axis=1>(a) }",
        "g (float[N,C,1,1] x) => (float[N,C] y) <int64[1] s = {3}, int64[1] t = {-1}> { a = Squeeze(x, s) y = Squeeze(a, t) }",
        "g (float[N,S,K] x) => (float[1,N,1,S,K] y) <int64[1] s = {1}, int64[1] t = {0}> { a = Unsqueeze(x, s) y = Unsqueeze(a, t) }",
        "g (float[N,S,K] x) => (float[N,S,K] y) <int64[1] s = {1}, int64[1] t = {1}> { a = Unsqueeze(x, s) b = Squeeze(a, t) y = Relu(b) }",
        "g (float[N,3,M] x) => (float[A,B,C] y) <int64[1] h = {3}> { n = Shape<start=0, end=1>(x) k = Shape<start=2, end=3>(x)"
        " t = Concat<axis=0>(n, k, h) u = Concat<axis=0>(h, k, n) a = Reshape<allowzero=1>(x, u) y = Reshape<allowzero=1>(a, t) }",
        "g (bool[0,3] x) => (bool[3,0,5] y) <int64[1] s = {0}, int64[3] t = {3,0,5}> { a = Reshape<allowzero=1>(x, s) y = Reshape<allowzero=1>(a, t) }",
    ],
    leaves=[
        "g (float[N,1,1] x) => (float[A] y) <int64[0] s = {}, int64[1] t = {-1}> { a = Squeeze(x, s) y = Reshape(a, t) }",
        "g (float[N,M] x, int64[2] s) => (float[A,B,1] y) <int64[3] t = {0,0,1}> { a = Reshape(x, s) y = Reshape(a, t) }",
        "g (float[N,M] x, int64[2] t) => (float[A,B] y) <int64[2] s = {3,-1}> { a = Reshape(x, s) y = Reshape(a, t) }",
        "g (float[N,M] x, int64[1] a) => (float[A,B] y) <int64[1] s = {0}> { b = Unsqueeze(x, s) y = Squeeze(b, a) }",
    ],
)
def merge_reshapes(op: Build, m: Match) -> Result:
    """Reshape(Reshape(x, s), t) -> Reshape(x, t), and the same for Flatten, Squeeze and Unsqueeze"""
    first = producer(m.root.inputs[0], *VIEWS)
    if first is None:
        return None
    source = first.inputs[0]
    assert source is not None
    if any(_squeezes_what_is_one(view) for view in (first, m.root)):
        return skip("which axes a Squeeze drops is only known when it runs")
    if first.op_type == m.root.op_type == "Unsqueeze":
        axes = _added_by_both(first, m.root)
        return skip("the axes are not known") if axes is None else op.Unsqueeze(source, op.const(axes, "axes"))
    if first.op_type == m.root.op_type == "Squeeze":
        axes = _dropped_by_both(first, m.root)
        return skip("the axes are not known") if axes is None else op.Squeeze(source, op.const(axes, "axes"))
    if same_shape(dims_of(source), dims_of(m.root.outputs[0])):
        return source
    return reshaped_like(op, source, m.root)


def _squeezes_what_is_one(view: ir.Node) -> bool:
    """Whether a Squeeze drops every axis of size 1: runtimes also read an empty list of axes that way."""
    shape = dims_of(view.inputs[0])
    return view.op_type == "Squeeze" and (shape is None or not axes_of(view, len(shape)))


def _added_by_both(first: ir.Node, second: ir.Node) -> list[int] | None:
    outer, inner = second.outputs[0].shape, first.outputs[0].shape
    if outer is None or inner is None:
        return None
    added, before = axes_of(second, len(outer)), axes_of(first, len(inner))
    if added is None or before is None:
        return None
    kept = [axis for axis in range(len(outer)) if axis not in added]
    return sorted([*added, *(kept[axis] for axis in before)])


def _dropped_by_both(first: ir.Node, second: ir.Node) -> list[int] | None:
    source, inner = dims_of(first.inputs[0]), first.outputs[0].shape
    if source is None or inner is None:
        return None
    dropped, after = axes_of(first, len(source)), axes_of(second, len(inner))
    if dropped is None or after is None:
        return None
    kept = [axis for axis in range(len(source)) if axis not in dropped]
    return sorted([*dropped, *(kept[axis] for axis in after)])
