"""Reductions that keep or drop their dims by themselves."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.axes import axes_of
from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, same_shape
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, is_op, producer, users
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .views import VIEWS, only_reader

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
    "ArgMax", "ArgMin",
)  # fmt: skip


@rule(
    *VIEWS,
    drift=EXACT,
    opset=18,
    examples=[
        "g (float[N,3,S] x) => (float[N,1,S] y) <int64[1] a = {1}> { b = ReduceSum<keepdims=0>(x, a) y = Unsqueeze(b, a) }",
        "g (float[N,3,4] x) => (float[N,1,1] y) <int64[2] a = {-1,1}, int64[3] s = {0,1,1}> { b = ReduceMean<keepdims=0>(x, a) y = Reshape(b, s) }",
        "g (float[N,3,4] x) => (float[N] y) <int64[2] a = {-1,1}, int64[2] s = {1,2}> { b = ReduceMax<keepdims=1>(x, a) y = Squeeze(b, s) }",
        "g (float[N,3,4,4] x) => (float[N,3] y) <int64[2] a = {2,3}> { b = ReduceMean(x, a) y = Flatten<axis=1>(b) }",
        "g (float[N,3] x) => (int64[N] y) <int64[1] s = {1}> { b = ArgMax<axis=-1, select_last_index=1>(x) y = Squeeze(b, s) }",
        "g (int32[2,3] x) => (int64[1,3] y) <int64[1] s = {0}> { b = ArgMin<axis=0, keepdims=0>(x) y = Unsqueeze(b, s) }",
    ],
    leaves=[
        "g (float[N,3,S] x) => (float[1,N,S] y) <int64[1] a = {1}, int64[1] z = {0}> { b = ReduceSum<keepdims=0>(x, a) y = Unsqueeze(b, z) }",
        "g (float[N,3,K] x) => (float[N,1] y) <int64[1] a = {1}, int64[1] z = {2}> { b = ReduceSum<keepdims=1>(x, a) y = Squeeze(b, z) }",
        "g (float[N,3,4] x) => (float[N,1] y) <int64[2] a = {1,2}, int64[1] z = {2}> { b = ReduceSum<keepdims=1>(x, a) y = Squeeze(b, z) }",
        "g (float[N,3] x, int64[K] a) => (float[N,1] y) <int64[1] z = {1}> { b = ReduceSum<keepdims=0>(x, a) y = Unsqueeze(b, z) }",
    ],
)
def fold_keepdims(op: Build, m: Match) -> Result:
    """Unsqueeze(ReduceSum(x, keepdims=0)) -> ReduceSum(x, keepdims=1), the other way round, and the same for all reductions and ArgMax"""
    reduction = producer(m.root.inputs[0], *REDUCTIONS)
    if reduction is None or not only_reader(m.root.inputs[0], m.root):
        return None
    if all(is_op(reader, *VIEWS) for reader in users(m.root.outputs[0])) and not m.root.outputs[0].is_graph_output():
        return skip("another view follows, which takes this one in")
    shape, made = dims_of(reduction.inputs[0]), dims_of(m.root.outputs[0])
    axes = _reduced(reduction, shape)
    if shape is None or axes is None or _reads_what_is_one(m.root):
        return skip("the axes it reduces are not known")
    kept = attribute(reduction, "keepdims", 1)
    wanted: list[Dim] = [1 if axis in axes else dim for axis, dim in enumerate(shape) if not kept or axis not in axes]
    if not same_shape(made, wanted):
        return skip("it becomes %s, and with the other keepdims would be %s", m.root.outputs[0].shape, ir.Shape(wanted))
    m.take(reduction)
    return op.like(reduction, *reduction.inputs, keepdims=0 if kept else 1)


def _reduced(reduction: ir.Node, shape: tuple[Dim, ...] | None) -> list[int] | None:
    """The axes it reduces, counted from the start."""
    if shape is None:
        return None
    if reduction.op_type in ("ArgMax", "ArgMin"):
        return [int(attribute(reduction, "axis", 0)) % len(shape)] if shape else None  # type: ignore[call-overload]
    return axes_of(reduction, len(shape)) or None


def _reads_what_is_one(view: ir.Node) -> bool:
    """Whether a Squeeze names no axes, so that what it drops depends on the sizes."""
    return view.op_type == "Squeeze" and not axes_of(view, len(dims_of(view.inputs[0]) or ()))
