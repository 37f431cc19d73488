"""Averages of what is linear: the average of what goes in is enough."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.axes import axes_of
from ...compiler.core.build import Build
from ...compiler.core.dims import at_least
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, is_op
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .arithmetic import Arithmetic, arithmetic, narrowed, trimmed
from .linear import Linear, linear, pads_zeros

ROWS = "float[2,3] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}, int64[1] a = {1}"


@rule(
    "ReduceMean",
    "GlobalAveragePool",
    drift=ROUNDING,
    opset=18,
    examples=[
        f"g (float[N,3,2] x) => (float[N,3] y) <{ROWS}> {{ c = MatMul(x, w) d = Add(c, b) y = ReduceMean<keepdims=0>(d, a) }}",
        "g (float[N,2,3,3] x) => (float[N,3,1,1] y) <float[3,2,1,1] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}> { c = Conv(x, w, b) y = GlobalAveragePool(c) }",
        "g (float[N,2,3,3] x) => (float[N,3] y) <float[3,2,1,1] w = {1,2,3,4,5,6}, int64[2] a = {2,3}> { c = Conv(x, w) y = ReduceMean<keepdims=0>(c, a) }",
    ],
    leaves=[
        f"g (float[N,S,2] x) => (float[N,3] y) <{ROWS}> {{ c = MatMul(x, w) d = Add(c, b) y = ReduceMean<keepdims=0>(d, a) }}",
        f"g (float[N,3,2] x) => (float[N,3] y) <{ROWS}> {{ c = MatMul(x, w) d = Relu(c) y = ReduceMean<keepdims=0>(d, a) }}",
        "g (float[N,3,2] x) => (float[N,3,1] y) <float[2,3] w = {1,2,3,4,5,6}, int64[1] a = {-1}> { c = MatMul(x, w) y = ReduceMean(c, a) }",
        "g (float[N,2,3,3] x) => (float[N,3,1,1] y) <float[3,2,1,1] w = {1,2,3,4,5,6}> { c = Conv<pads=[1,1,1,1]>(x, w) y = GlobalAveragePool(c) }",
        "g (float[N,1,4,4] x) => (float[N,1,1,1] y) <float[1,1,1,1] w = {2}> { c = Conv<strides=[2,2]>(x, w) y = GlobalAveragePool(c) }",
    ],
)
def average_first(op: Build, m: Match) -> Result:
    """mean(x W + b) -> mean(x) W + b, over rows for MatMul, over pixels for a Conv that reads one pixel"""
    value = m.root.inputs[0]
    node = value.producer() if value is not None else None
    found = arithmetic(node)
    item = linear(found.x.producer() if found is not None else node)
    shape = dims_of(value)
    if node is None or item is None or shape is None or len(value.uses()) != 1:  # type: ignore[union-attr]
        return None
    axes = _axes(m.root, len(shape))
    if axes is None or not all(at_least(shape[axis], 1) for axis in axes):
        return skip("it averages over dims that may be empty")
    if not axes or not _is_apart(item, axes, len(shape)) or not _is_even(found, axes):
        return skip("what it averages over is not apart")
    if len(shape) - (0 if _keeps(m.root) else len(axes)) < 2:
        return skip("no matrix would be left")
    for taken in (node, item.node):
        m.take(taken)
    if is_op(item.node, "Conv") and not _keeps(m.root):
        pixel = op.like(item.node, op.like(m.root, item.data, *m.root.inputs[1:], keepdims=1), *item.node.inputs[1:])  # type: ignore[arg-type]
        whole = _shifted(op, pixel, found, [], item.weight.dtype)  # type: ignore[arg-type]
        return whole if isinstance(whole, Skip) else op.Squeeze(whole, op.const(axes))
    mean = op.like(m.root, item.data, *m.root.inputs[1:])
    made = op.like(item.node, mean, *item.node.inputs[1:])  # type: ignore[arg-type]
    return _shifted(op, made, found, [] if _keeps(m.root) else axes, item.weight.dtype)  # type: ignore[arg-type]


def _axes(node: ir.Node, rank: int) -> list[int] | None:
    if is_op(node, "GlobalAveragePool"):
        return list(range(2, rank))
    found = axes_of(node, rank)
    return None if found is None else sorted(found)


def _keeps(node: ir.Node) -> bool:
    return is_op(node, "GlobalAveragePool") or bool(attribute(node, "keepdims", 1))


def _is_apart(item: Linear, axes: list[int], rank: int) -> bool:
    """Whether the operator computes each place along the axes by itself."""
    if is_op(item.node, "Conv"):
        steps = attribute(item.node, "strides") or ()
        single = all(size == 1 for size in item.shape[2:]) and all(step == 1 for step in steps)  # type: ignore[attr-defined]
        return single and not pads_zeros(item.node) and axes == list(range(2, rank))
    return is_op(item.node, "MatMul") and item.weight_at == 1 and len(item.shape) == 2 and rank - 1 not in axes


def _is_even(found: Arithmetic | None, axes: list[int]) -> bool:
    return found is None or ((found.scale == 1).all() and all(found.shift.shape[axis] == 1 for axis in axes))


def _shifted(op: Build, value: ir.Value, found: Arithmetic | None, dropped: list[int], dtype: np.dtype) -> ir.Value | Skip:
    """What was added behind the operator, added to its result, which lacks the axes ``dropped``."""
    if found is None:
        return value
    narrow = narrowed(trimmed(found.shift.squeeze(tuple(dropped))), dtype)
    return skip("the bias would overflow") if narrow is None else op.Add(value, op.const(narrow, "bias"))  # type: ignore[return-value]
