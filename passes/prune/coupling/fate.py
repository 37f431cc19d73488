"""What becomes of an axis further on in the graph."""

from __future__ import annotations

import onnx_ir as ir

from ....compiler.core.axes import ints
from ....compiler.core.graph import attribute, is_op, users
from ....compiler.core.shapes import dims_of

__all__ = ["BATCH", "CHANNEL", "INDEXED", "INNER", "MERGED", "fate"]

INDEXED, INNER, MERGED, CHANNEL, BATCH = range(5)
"""It is picked from by place; summed over or split in kind; merged with others again; the channels of an operator; a batch of products."""
STEPS = 12
"""How many operators are looked through."""
CHANNELLED = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization")
PICKED = ("Gather", "Slice", "Split", "Concat", "GatherElements", "ScatterElements", "Pad", "Softmax", "LogSoftmax", "ArgMax", "TopK", "CumSum")


def fate(value: ir.Value, axis: int, steps: int = STEPS) -> int:
    """The least of what becomes of an axis on the ways from ``value``; MERGED where that is too far to see."""
    if not steps:
        return MERGED
    rank = len(dims_of(value) or ())
    return min((_at(node, value, axis - rank, steps - 1) for node in users(value)), default=MERGED)


def _at(node: ir.Node, value: ir.Value, back: int, steps: int) -> int:
    """As `fate`, of the axis ``back`` (counted from the last: -1 is the last) at one reader."""
    rank = len(dims_of(value) or ())
    if is_op(node, "MatMul"):
        return BATCH if back < -2 else INNER
    if is_op(node, "Attention"):
        return BATCH if rank == 4 and back == -3 else INNER
    if is_op(node, *CHANNELLED):
        return CHANNEL if back + rank == 1 else MERGED
    if is_op(node, *PICKED):
        return _picked(node, back, rank, steps)
    after = _moved(node, value, back, rank)
    return MERGED if after is None else fate(node.outputs[0], after, steps)


def _picked(node: ir.Node, back: int, rank: int, steps: int) -> int:
    """At an operator that works along one axis, or along those that change their length."""
    before, after = dims_of(node.inputs[0]), dims_of(node.outputs[0])
    if before is None or after is None or len(before) != len(after):
        return INDEXED if int(attribute(node, "axis", 0)) % rank == back + rank else fate(node.outputs[0], _shortened(node, back, rank), steps)  # type: ignore[call-overload]
    along = attribute(node, "axis")
    if along is not None and int(along) % rank == back + rank or before[back] != after[back]:  # type: ignore[call-overload]
        return INDEXED
    return fate(node.outputs[0], back + rank, steps)


def _shortened(node: ir.Node, back: int, rank: int) -> int:
    """Where an axis lies once the axis that the node works along is gone."""
    place = back + rank
    return place - (place > int(attribute(node, "axis", 0)) % rank)  # type: ignore[call-overload]


def _moved(node: ir.Node, value: ir.Value, back: int, rank: int) -> int | None:
    """The axis of the first output that this axis becomes; None when it becomes part of one, or is gone."""
    before, after = dims_of(value), dims_of(node.outputs[0]) if node.outputs else None
    if before is None or after is None:
        return None
    if is_op(node, "Transpose"):
        order = ints(node, "perm") or tuple(reversed(range(rank)))
        return order.index(back + rank)
    if is_op(node, "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return _reshaped(before, after, back + rank)
    if len(after) < rank or (before[back] != after[back] and before[back] != 1):
        return None
    return back + len(after)


def _reshaped(before: tuple[object, ...], after: tuple[object, ...], place: int) -> int | None:
    """The axis that stays one when those to its right, or those to its left, are the same."""
    if after[place - len(before) :] == before[place:] and len(after) - len(before) + place >= 0:
        return len(after) - len(before) + place
    return place if after[: place + 1] == before[: place + 1] else None
