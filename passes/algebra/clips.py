"""Clip, Relu, Max and Min with numbers: what one after the other keeps between two bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.graph import is_op, scalar
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .law import FLOATS

T = ir.DataType
_CLIPPED = frozenset({T.FLOAT, T.DOUBLE, T.FLOAT16, T.INT8, T.UINT8, T.INT32, T.UINT32, T.INT64, T.UINT64})
"""What the standard Clip takes in every runtime here."""
KINDS = ("Clip", "Relu", "Max", "Min")


@dataclass(frozen=True)
class Bounds:
    """``node`` is min(max(x, low), high)."""

    node: ir.Node
    x: ir.Value
    low: float
    high: float


def bounds(node: ir.Node | None) -> Bounds | None:
    """The bounds that a node with constant bounds keeps; None for any other, and where the lower bound is above the upper one."""
    if node is None or not is_op(node, *KINDS) or not node.inputs or "min" in node.attributes or "max" in node.attributes:
        return None
    found = _clip(node) if is_op(node, "Clip", "Relu") else _extreme(node)
    return found if found is not None and found.low <= found.high and not math.isnan(found.low + found.high) else None


def _clip(node: ir.Node) -> Bounds | None:
    x = node.inputs[0]
    if x is None:
        return None
    if is_op(node, "Relu"):
        return Bounds(node, x, 0.0, math.inf)
    largest = _largest(x.dtype)
    ends = list(node.inputs[1:]) + [None, None]
    low, high = (default if value is None else scalar(value) for value, default in zip(ends[:2], (-largest, largest), strict=True))
    return None if low is None or high is None else Bounds(node, x, low, high)


def _largest(dtype: ir.DataType | None) -> float:
    """The bound that a Clip keeps where it has none: infinities become the largest number, as the standard says."""
    return float(ml_dtypes.finfo(dtype.numpy()).max) if dtype in FLOATS else math.inf


def _extreme(node: ir.Node) -> Bounds | None:
    if len(node.inputs) != 2:
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        number = scalar(other)
        if number is not None and x is not None and scalar(x) is None and broadcasts_into(other.shape, x.shape):  # type: ignore[union-attr]
            return Bounds(node, x, number, math.inf) if is_op(node, "Max") else Bounds(node, x, -math.inf, number)
    return None


def bounded(op: Build, x: ir.Value, low: float, high: float) -> ir.Value:
    """``x`` kept between two bounds, by the simplest operator."""
    if low == 0 and high == math.inf and x.dtype in FLOATS:
        return op.Relu(x)  # type: ignore[return-value]
    if low > -math.inf and high < math.inf:
        return op.Clip(x, _number(op, low, x), _number(op, high, x))  # type: ignore[return-value]
    return op.Min(x, _number(op, high, x)) if high < math.inf else op.Max(x, _number(op, low, x))  # type: ignore[return-value]


def _number(op: Build, end: float, x: ir.Value) -> ir.Value:
    return op.const(np.array(end, x.dtype.numpy()))  # type: ignore[union-attr]


_X = "g (float[N,3] x) => (float[N,3] y)"
_NUMBERS = "<float a = {-1}, float b = {2}, float c = {0.5}, float d = {3}, float six = {6}, float z = {0}>"


@rule(
    *KINDS,
    drift=ROUNDING,
    opset=12,
    examples=[
        f"{_X} {_NUMBERS} {{ t = Clip(x, a, b) y = Clip(t, c, d) }}",
        f"{_X} {_NUMBERS} {{ t = Clip(x, a, b) y = Relu(t) }}",
        f"{_X} {_NUMBERS} {{ t = Relu(x) y = Clip(t, a, six) }}",
        f"{_X} {_NUMBERS} {{ t = Max(x, z) y = Min(six, t) }}",
        f"{_X} {_NUMBERS} {{ t = Min(x, six) u = Max(t, z) y = Min(u, d) }}",
        f"{_X} {_NUMBERS} {{ t = Max(x, a) y = Relu(t) }}",
        f"{_X} {_NUMBERS} {{ t = Max(x, c) y = Relu(t) }}",
        f"{_X} {_NUMBERS} {{ t = Relu(x) u = Relu(t) v = Relu(u) y = Relu(v) }}",
        f"{_X} {_NUMBERS} {{ t = Clip(x, , b) y = Min(t, c) }}",
        "g (int64[N] x) => (int64[N] y) <int64 a = {1}, int64 b = {3}> { t = Max(x, a) y = Min(t, b) }",
    ],
    leaves=[
        f"{_X} {_NUMBERS} {{ t = Clip(x, a, c) y = Clip(t, b, d) }}",
        f"{_X} {_NUMBERS} {{ t = Clip(x, b, d) y = Clip(t, a, c) }}",
        f"{_X} <float a = {{-2}}, float b = {{-1}}> {{ t = Clip(x, a, b) y = Relu(t) }}",
        f"{_X} <float a = {{-2}}, float b = {{-1}}> {{ t = Relu(x) y = Clip(t, a, b) }}",
        f"{_X} <float a = {{2}}, float b = {{1}}, float c = {{0}}, float d = {{5}}> {{ t = Clip(x, a, b) y = Clip(t, c, d) }}",
        f"{_X} {_NUMBERS} {{ t = Max(x, six) y = Min(t, z) }}",
        "g (float[3] x) => (float[1,3] y) <float a = {1}, float[1,1] b = {3}> { t = Max(x, a) y = Min(t, b) }",
        "g (float[N,3] x) => (float[N,3] y, float[N,3] t) <float a = {0}, float b = {6}> { t = Max(x, a) y = Min(t, b) }",
        f"{_X} <float[3] a = {{0,1,2}}, float b = {{6}}> {{ t = Max(x, a) y = Min(t, b) }}",
    ],
)
def merge_bounds(op: Build, m: Match) -> Result:
    """Clip(Clip(x, a, b), c, d) -> Clip(x, max(a, c), min(b, d)) where the two overlap; Relu, Max and Min with a number are such bounds too"""
    last = bounds(m.root)
    first = bounds(last.x.producer()) if last is not None else None
    if first is None or last is None:
        return None
    value = first.node.outputs[0]
    if value.is_graph_output() or len(value.uses()) != 1 or first.node.graph is not m.root.graph:
        return skip("'%s' is also needed elsewhere", value.name)
    low, high = max(first.low, last.low), min(first.high, last.high)
    if low > high:
        return skip("[%s, %s] and [%s, %s] do not overlap", first.low, first.high, last.low, last.high)
    if (low, high) == (first.low, first.high):
        return value
    if first.x.dtype not in _CLIPPED:
        return skip("Clip takes no %s", first.x.dtype)
    if low == -math.inf and high == math.inf:
        return skip("neither keeps any bound")
    m.take(first.node)
    return bounded(op, first.x, low, high)


@rule(
    *KINDS,
    drift=DOMAIN,
    opset=12,
    examples=[
        f"{_X} <float a = {{-1}}, float b = {{2}}> {{ t = Tanh(x) u = Clip(t, a, b) y = Clip(u, a, b) }}".replace("{-1}", "{-1.5}"),
        f"{_X} <float a = {{2}}> {{ t = Sigmoid(x) y = Min(t, a) }}",
        f"{_X} <float a = {{0}}, float b = {{2}}> {{ t = Softmax(x) y = Clip(t, a, b) }}",
        f"{_X} <float b = {{2}}> {{ t = Softmax(x) y = Clip(t, , b) }}",
    ],
    leaves=[
        f"{_X} <float a = {{1}}> {{ t = Tanh(x) y = Min(t, a) }}",
        f"{_X} <float a = {{0}}> {{ t = Exp(x) u = Neg(t) y = Max(u, a) }}",
        f"{_X} <float a = {{0}}> {{ t = Exp(x) y = Clip(t, a) }}",
        f"{_X} <float b = {{1}}> {{ t = Exp(x) u = Neg(t) y = Clip(u, , b) }}",
    ],
)
def drop_idle_bounds(op: Build, m: Match) -> Result:
    """Clip(x, a, b) -> x where x lies in [a, b] anyway, and the same for Max and Min"""
    found = bounds(m.root)
    if found is None or is_op(m.root, "Relu"):
        return None
    interval = m.ranges.interval(found.x)
    if not (found.low <= interval.low and interval.high <= found.high):
        return skip("'%s' is only known to lie in [%s, %s]", found.x.name, interval.low, interval.high)
    return found.x
