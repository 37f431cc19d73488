"""Operators that move elements along axes that stay apart."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.axes import axes_of, ints, numbers_in
from ....compiler.core.graph import array, attribute
from ....compiler.core.shapes import dims_of
from .elementwise import broadcast
from .follower import Axes, Axis, Follower, Rule

__all__ = ["RULES", "sliced_axes"]


def follow_transpose(node: ir.Node, follower: Follower) -> None:
    """Axes in another order."""
    axes = follower.axes_of(node.inputs[0])
    order = ints(node, "perm") or tuple(reversed(range(len(axes))))
    follower.give(node.outputs[0], [axes[place] for place in order] if len(order) == len(axes) else [])


def follow_concat(node: ir.Node, follower: Follower) -> None:
    """One after the other along one axis; the other axes are shared."""
    operands = [follower.axes_of(value) for value in node.inputs]
    rank = len(operands[0])
    if not rank or any(len(axes) != rank for axes in operands):
        follower.hold_node(node)
        return
    along = int(attribute(node, "axis", 0)) % rank  # type: ignore[call-overload]
    axes: Axes = []
    for place in range(rank):
        pieces = [operand[place] for operand in operands]
        axes.append(_joined(follower, pieces) if place == along else broadcast(follower, [[piece] for piece in pieces])[0])
    follower.give(node.outputs[0], axes)


def _joined(follower: Follower, pieces: list[Axis]) -> Axis:
    known = [piece for piece in pieces if piece is not None]
    if len(known) == len(pieces):
        return np.concatenate(known)
    follower.hold_axes(pieces)
    return None


def follow_split(node: ir.Node, follower: Follower) -> None:
    """Pieces of one axis."""
    axes = follower.axes_of(node.inputs[0])
    if not axes:
        follower.hold_node(node)
        return
    along = int(attribute(node, "axis", 0)) % len(axes)  # type: ignore[call-overload]
    whole, start = axes[along], 0
    for value in node.outputs:
        length = (dims_of(value) or (None,) * len(axes))[along]
        if whole is None or not isinstance(length, int):
            follower.hold_node(node)
            return
        follower.give(value, [*axes[:along], whole[start : start + length], *axes[along + 1 :]])
        start += length


def follow_slice(node: ir.Node, follower: Follower) -> None:
    """A run of an axis; of one from which more than every next index is taken, nothing may go."""
    axes, cuts = list(follower.axes_of(node.inputs[0])), sliced_axes(node)
    if cuts is None:
        follower.hold_node(node)
        return
    for along, (start, end, step) in cuts.items():
        axis = axes[along]
        if axis is None:
            continue
        if step != 1:
            follower.hold(axis)
        axes[along] = axis[slice(*_bounds(start, end, step, len(axis)))]
    follower.give(node.outputs[0], axes)


def sliced_axes(node: ir.Node) -> dict[int, tuple[int, int, int]] | None:
    """Axis -> start, end, step of a Slice; None when they are not known."""
    rank = len(dims_of(node.inputs[0]) or ())
    starts, ends = numbers_in(node.inputs[1]), numbers_in(node.inputs[2])
    given = node.inputs[3] if len(node.inputs) > 3 else None
    places = axes_of(node, rank, 3) if given is not None else list(range(len(starts or [])))
    steps = numbers_in(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else [1] * len(starts or [])
    if not rank or starts is None or ends is None or places is None or steps is None:
        return None
    return dict(zip(places, zip(starts, ends, steps, strict=True), strict=True))


def _bounds(start: int, end: int, step: int, length: int) -> tuple[int, int | None, int]:
    """Bounds as Python slices them: an end before the first index, counting down, is none."""
    return start, (None if step < 0 and end < -length else end), step


def follow_gather(node: ir.Node, follower: Follower) -> None:
    """Rows of an axis: constant indices in one row pick classes, any others hold the axis."""
    axes, picked = follower.axes_of(node.inputs[0]), follower.axes_of(node.inputs[1])
    if not axes:
        follower.hold_node(node)
        return
    along = int(attribute(node, "axis", 0)) % len(axes)  # type: ignore[call-overload]
    indices, axis = array(node.inputs[1]), axes[along]
    if indices is not None and indices.ndim == 1 and axis is not None:
        follower.give(node.outputs[0], [*axes[:along], axis[indices], *axes[along + 1 :]])
        return
    follower.hold(axis)
    follower.hold_axes(picked)
    inner = follower.held_axes(node.outputs[0])[along : along + len(picked)]
    follower.give(node.outputs[0], [*axes[:along], *inner, *axes[along + 1 :]])


def follow_expand(node: ir.Node, follower: Follower) -> None:
    """An axis of one index is stretched."""
    axes, made = follower.axes_of(node.inputs[0]), follower.held_axes(node.outputs[0])
    shift = len(made) - len(axes)
    for place, axis in enumerate(axes):
        if axis is None or len(axis) != 1:
            made[place + shift] = axis
    follower.give(node.outputs[0], made)


def follow_tile(node: ir.Node, follower: Follower) -> None:
    """An axis over and over."""
    axes, repeats = follower.axes_of(node.inputs[0]), numbers_in(node.inputs[1])
    if repeats is None or len(repeats) != len(axes):
        follower.hold_node(node)
        return
    follower.give(node.outputs[0], [None if axis is None else np.tile(axis, count) for axis, count in zip(axes, repeats, strict=True)])


def follow_pad(node: ir.Node, follower: Follower) -> None:
    """Room on both sides of an axis, which stays."""
    axes = follower.axes_of(node.inputs[0])
    pads = list(ints(node, "pads")) or (numbers_in(node.inputs[1]) if len(node.inputs) > 1 else None)
    if pads is None or len(pads) != 2 * len(axes) or (len(node.inputs) > 3 and node.inputs[3] is not None) or min(pads) < 0:
        follower.hold_node(node)
        return
    constant_filled = attribute(node, "mode", "constant") == "constant"
    made: Axes = []
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if before + after and not constant_filled:
            follower.hold(axis)
        made.append(None if axis is None else np.concatenate([follower.held(before), axis, follower.held(after)]))
    follower.give(node.outputs[0], made)


def follow_depth_to_space(node: ir.Node, follower: Follower) -> None:
    """block x block channels become one."""
    axes, side = follower.axes_of(node.inputs[0]), int(attribute(node, "blocksize", 1))  # type: ignore[call-overload]
    if len(axes) != 4 or axes[1] is None or len(axes[1]) % side**2:
        follower.hold_node(node)
        return
    members = axes[1].reshape(-1, side**2) if attribute(node, "mode", "DCR") == "CRD" else axes[1].reshape(side**2, -1).T
    follower.classes.tie(members, members[:, :1])
    follower.give(node.outputs[0], [axes[0], members[:, 0].copy(), *follower.held_axes(node.outputs[0])[2:]])


def follow_space_to_depth(node: ir.Node, follower: Follower) -> None:
    """One channel becomes block x block."""
    axes, side = follower.axes_of(node.inputs[0]), int(attribute(node, "blocksize", 1))  # type: ignore[call-overload]
    if len(axes) != 4 or axes[1] is None:
        follower.hold_node(node)
        return
    follower.give(node.outputs[0], [axes[0], np.tile(axes[1], side**2), *follower.held_axes(node.outputs[0])[2:]])


def follow_resize(node: ir.Node, follower: Follower) -> None:
    """Axes whose length stays are left alone."""
    axes, after = follower.axes_of(node.inputs[0]), dims_of(node.outputs[0])
    if after is None or len(after) != len(axes):
        follower.hold_node(node)
        return
    made = [axis if axis is not None and dim == len(axis) else None for axis, dim in zip(axes, after, strict=True)]
    follower.hold_axes([axis for axis, kept in zip(axes, made, strict=True) if kept is None])
    follower.give(node.outputs[0], [kept if kept is not None else held_as for kept, held_as in zip(made, follower.held_axes(node.outputs[0]), strict=True)])


RULES: dict[str, Rule] = {
    "Transpose": follow_transpose,
    "Concat": follow_concat,
    "Split": follow_split,
    "Slice": follow_slice,
    "Gather": follow_gather,
    "Expand": follow_expand,
    "Tile": follow_tile,
    "Pad": follow_pad,
    "DepthToSpace": follow_depth_to_space,
    "SpaceToDepth": follow_space_to_depth,
    **dict.fromkeys(("Resize", "Upsample"), follow_resize),
}
