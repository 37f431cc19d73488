"""A Conv of one pixel behind a MatMul whose rows became an image: both map channels, so one map is enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .arithmetic import arithmetic, narrowed, trimmed
from .carrying import carried_up
from .linear import Linear, is_shared, linear, pads_zeros
from .readers import only_reader

DEPTH = 6
"""How many operators may lie between."""
MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
ROWS = "g (float[N,4,3] x) => (float[N,2,2,2] y) <float[3,2] w = {1,2,3,4,5,6}, float[2,2,1,1] v = {1,2,3,4}, int64[4] r = {0,2,2,2}"


@dataclass(frozen=True)
class Way:
    """From a MatMul down to a Conv: the moves and additions between, first one first; ``shifts`` are the additions', by channel."""

    item: Linear
    nodes: tuple[ir.Node, ...]
    shifts: dict[ir.Node, np.ndarray]


@rule(
    "Conv",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"{ROWS}> {{ c = MatMul(x, w) d = Transpose<perm=[0,2,1]>(c) e = Reshape(d, r) y = Conv(e, v) }}",
        f"{ROWS}, float[2] b = {{1,2}}, float[2] t = {{5,6}}>"
        " { c = MatMul(x, w) f = Add(c, b) d = Transpose<perm=[0,2,1]>(f) e = Reshape(d, r) y = Conv(e, v, t) }",
        f"{ROWS}, float[2] t = {{5,6}}> {{ c = MatMul(x, w) d = Transpose<perm=[0,2,1]>(c) e = Reshape(d, r) y = Conv(e, v, t) }}",
        "g (float[N,2,2,3] x) => (float[N,2,2,2] y) <float[3,2] w = {1,2,3,4,5,6}, float[2,2,1,1] v = {1,2,3,4}, float[2,1,1] b = {1,2}>"
        " { c = MatMul(x, w) d = Transpose<perm=[0,3,1,2]>(c) e = Add(d, b) y = Conv(e, v) }",
    ],
    leaves=[
        "g (float[N,3] x) => (float[N,1,2,2] y) <float[3,4] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float[1,1,1,1] v = {2}, int64[4] r = {0,1,2,2}>"
        " { c = MatMul(x, w) e = Reshape(c, r) y = Conv(e, v) }",
        f"{ROWS}> {{ c = MatMul(x, w) e = Reshape(c, r) y = Conv(e, v) }}",
        f"{ROWS}> {{ c = MatMul(x, w) d = Transpose<perm=[0,2,1]>(c) f = Relu(d) e = Reshape(f, r) y = Conv(e, v) }}",
        "g (float[N,4,3] x) => (float[N,1,2,2] y) <float[3,2] w = {1,2,3,4,5,6}, float[1,2,1,1] v = {1,2}, int64[4] r = {0,2,2,2}>"
        " { c = MatMul(x, w) d = Transpose<perm=[0,2,1]>(c) e = Reshape(d, r) y = Conv(e, v) }",
        f"{ROWS}, float[4,1] b = {{1,2,3,4}}> {{ c = MatMul(x, w) f = Add(c, b) d = Transpose<perm=[0,2,1]>(f) e = Reshape(d, r) y = Conv(e, v) }}",
    ],
)
def merge_channel_maps(op: Build, m: Match) -> Result:
    """Conv1x1(image(x A + a), B, b) -> image(x (A B') + (B a + b)) for as many channels as before"""
    item = linear(m.root)
    if item is None or not _maps_channels(item):
        return None
    way = _way(item.data, item.shape[0])
    if way is None or is_shared(way.item) or is_shared(item):
        return None
    matrix = item.weight.astype(np.float64).reshape(item.shape[:2])
    dtype = item.weight.dtype
    weight = narrowed(way.item.weight.astype(np.float64) @ matrix.T, dtype)
    bias = array(item.bias)
    added = np.zeros(item.shape[0]) if bias is None else bias.astype(np.float64)
    if weight is None or way.item.weight.dtype != dtype:
        return skip("the merged weight would overflow, lose digits, or change its type")
    m.take(way.item.node)
    value = op.MatMul(way.item.data, op.const(weight, "weight"))
    if not way.shifts and added.any():
        value = op.Add(value, op.const(added.astype(dtype), "bias"))
    for index, node in enumerate(way.nodes):
        m.take(node)
        if node not in way.shifts:
            value = op.like(node, value, *node.inputs[1:])  # type: ignore[arg-type]
            continue
        first = not any(before in way.shifts for before in way.nodes[:index])
        shift = way.shifts[node]
        mapped = (matrix @ shift.reshape(-1) + (added if first else 0)).reshape(shift.shape)
        narrow = narrowed(trimmed(mapped), dtype)
        if narrow is None:
            return skip("the merged bias would overflow, or lose digits")
        value = op.Add(value, op.const(narrow, "bias"))
    return value


def _maps_channels(item: Linear) -> bool:
    """Whether a Conv makes as many channels as it reads, pixel by pixel."""
    steps = attribute(item.node, "strides") or ()
    single = all(size == 1 for size in (*item.shape[2:], *steps))  # type: ignore[misc]
    return is_op(item.node, "Conv") and item.group == 1 and single and item.shape[0] == item.shape[1] and not pads_zeros(item.node)


def _way(value: ir.Value, channels: int) -> Way | None:
    """Up to the MatMul whose columns are the channels, in their order."""
    mark = np.arange(channels, dtype=np.float64).reshape(1, channels, *(1,) * (len(value.shape or ()) - 2))
    nodes: list[ir.Node] = []
    shifts: dict[ir.Node, np.ndarray] = {}
    for _ in range(DEPTH):
        node = value.producer()
        if node is None or only_reader(value) is None:
            return None
        item = linear(node)
        if item is not None:
            fits = nodes and is_op(node, "MatMul") and item.weight_at == 1 and item.shape[1:] == (channels,) and mark.shape[-1] == channels
            return Way(item, tuple(reversed(nodes)), shifts) if fits else None
        step = arithmetic(node) if is_op(node, "Add") else None
        moved = carried_up(node, mark) if is_op(node, *MOVES) else None
        if step is not None and step.shift.size in (1, channels) and (step.shift.size == 1 or step.shift.shape == mark.shape):
            shifts[node] = np.broadcast_to(step.shift, mark.shape)
            moved = mark
        if moved is None or moved.size != channels or (moved.reshape(-1) != mark.reshape(-1)).any():
            return None
        nodes.append(node)
        mark, value = moved, step.x if step is not None else node.inputs[0]  # type: ignore[assignment]
    return None
