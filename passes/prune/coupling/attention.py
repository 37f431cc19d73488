"""Attention and rotary embedding as standard operators: whole heads go, with all query heads that share a key head."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import attribute
from .follower import Axes, Axis, Follower, Rule

__all__ = ["RULES"]


def follow_attention(node: ir.Node, follower: Follower) -> None:
    """Q [B, H, S, D], K and V [B, G, T, D] -> [B, H, S, D]; or with the heads in the last axis. H is a multiple of G."""
    query, key, value = (follower.axes_of(item) for item in node.inputs[:3])
    rank = len(query)
    heads = [_heads(node, follower, axes, name) for axes, name in ((query, "q_num_heads"), (key, "kv_num_heads"), (value, "kv_num_heads"))]
    cached = any(item is not None for item in node.inputs[4:]) or any(item.name for item in node.outputs[1:])
    if rank not in (3, 4) or cached or any(found is None for found in heads) or not _fit(heads):
        follower.hold_node(node)
        return
    shared, turned = heads[1], heads[0]
    assert turned is not None and shared is not None
    follower.tie(shared, heads[2])
    follower.classes.tie(turned.reshape(len(shared), -1), shared[:, None])
    _hold_mask(node, follower, turned)
    if rank == 4:
        follower.hold_axes([query[3], key[3]])
        follower.give(node.outputs[0], [query[0], turned, query[2], value[3]])
    else:
        follower.give(node.outputs[0], [query[0], query[1], np.repeat(turned, _width(node, value, len(shared)))])


def _heads(node: ir.Node, follower: Follower, axes: Axes, name: str) -> Axis:
    """The class of each head; where the heads lie in the last axis, all that belongs to one is tied."""
    if len(axes) == 4:
        return axes[1]
    count = int(attribute(node, name, 0))  # type: ignore[call-overload]
    last = axes[-1] if axes else None
    if last is None or not count or len(last) % count:
        return None
    members = last.reshape(count, -1)
    follower.classes.tie(members, members[:, :1])
    return members[:, 0].copy()


def _fit(heads: list[Axis]) -> bool:
    query, key, value = (len(found) if found is not None else 0 for found in heads)
    return key == value and key > 0 and query % key == 0


def _width(node: ir.Node, axes: Axes, heads: int) -> int:
    last = axes[-1]
    return 0 if last is None else len(last) // heads


def _hold_mask(node: ir.Node, follower: Follower, heads: np.ndarray) -> None:
    """A mask [..., H, S, T] loses the heads, too."""
    mask = follower.axes_of(node.inputs[3]) if len(node.inputs) > 3 else []
    if len(mask) == 4:
        follower.tie(heads, mask[1])
        mask = [mask[0], *mask[2:]]
    follower.hold_axes(mask)


def follow_rotary(node: ir.Node, follower: Follower) -> None:
    """X [B, H, S, D] or [B, S, H D]: pairs of places in a head are turned, so that only whole heads go."""
    axes = list(follower.axes_of(node.inputs[0]))
    for value in node.inputs[1:]:
        follower.hold_axes(follower.axes_of(value))
    count = int(attribute(node, "num_heads", 0))  # type: ignore[call-overload]
    last = axes[-1] if axes else None
    if len(axes) == 3 and count and last is not None and len(last) % count == 0:
        members = last.reshape(count, -1)
        follower.classes.tie(members, members[:, :1])
    else:
        follower.hold(last)
    follower.give(node.outputs[0], axes)


RULES: dict[str, Rule] = {"Attention": follow_attention, "RotaryEmbedding": follow_rotary}
