"""Normalisations, reductions and pooling."""

from __future__ import annotations

import onnx_ir as ir

from ....compiler.core.axes import reduced_axes
from ....compiler.core.graph import attribute
from .elementwise import broadcast
from .follower import Follower, Rule, single

__all__ = ["RULES"]


def follow_channels(node: ir.Node, follower: Follower) -> None:
    """Everything but the data has one number for each channel."""
    axes = follower.axes_of(node.inputs[0])
    if len(axes) < 2:
        follower.hold_node(node)
        return
    for value in node.inputs[1:]:
        for axis in follower.axes_of(value):
            follower.tie(axes[1], axis)
    follower.give(node.outputs[0], axes)
    for value in node.outputs[1:]:
        follower.axes[value] = follower.held_axes(value)


def follow_groups(node: ir.Node, follower: Follower) -> None:
    """Groups of channels keep one width: the same place goes from each, or, where groups have one channel, groups."""
    axes = follower.axes_of(node.inputs[0])
    groups = int(attribute(node, "num_groups", 1))  # type: ignore[call-overload]
    parameters = [axis for value in node.inputs[1:] for axis in follower.axes_of(value)]
    channels = axes[1] if len(axes) > 1 else None
    if channels is None or groups < 1 or len(channels) % groups or any(axis is None or len(axis) != len(channels) for axis in parameters):
        follower.hold_node(node)
        return
    members = channels.reshape(groups, -1)
    if members.shape[1] > 1:
        follower.classes.tie(members, members[:1])
    for axis in parameters:
        follower.tie(channels, axis)
    follower.give(node.outputs[0], axes)


def follow_last_axes(node: ir.Node, follower: Follower) -> None:
    """Scale and bias broadcast over the normalised axes, which are the last ones."""
    axes = broadcast(follower, [follower.axes_of(value) for value in node.inputs if value is not None])
    follower.give(node.outputs[0], axes)
    along = int(attribute(node, "axis", -1)) % max(len(axes), 1)  # type: ignore[call-overload]
    for value in node.outputs[1:]:
        follower.give(value, [*axes[:along], *(single(1) for _ in axes[along:])])


def follow_kept(node: ir.Node, follower: Follower) -> None:
    """One input, one output of its shape."""
    follower.give(node.outputs[0], follower.axes_of(node.inputs[0]))


def follow_reduction(node: ir.Node, follower: Follower) -> None:
    """The reduced axes go, or are of length one; the others stay."""
    axes, gone = follower.axes_of(node.inputs[0]), reduced_axes(node)
    if gone is None:
        follower.hold_node(node)
        return
    if attribute(node, "keepdims", 1):
        follower.give(node.outputs[0], [single(1) if place in gone else axis for place, axis in enumerate(axes)])
    else:
        follower.give(node.outputs[0], [axis for place, axis in enumerate(axes) if place not in gone])


def follow_choice(node: ir.Node, follower: Follower) -> None:
    """What is found along the axis is a place there: none of it may go."""
    axes = follower.axes_of(node.inputs[0])
    along = int(attribute(node, "axis", 0))  # type: ignore[call-overload]
    if not -len(axes) <= along < len(axes):
        follower.hold_node(node)
        return
    along %= len(axes)
    follower.hold(axes[along])
    rest = [axis for place, axis in enumerate(axes) if place != along]
    follower.give(node.outputs[0], [*axes[:along], single(1), *axes[along + 1 :]] if attribute(node, "keepdims", 1) else rest)


def follow_pool(node: ir.Node, follower: Follower) -> None:
    """Batch and channels stay; every window is new."""
    axes = follower.axes_of(node.inputs[0])
    for value in node.outputs:
        follower.give(value, [*axes[:2], *follower.held_axes(value)[2:]])


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
POOLS = ("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool")
RULES: dict[str, Rule] = {
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), follow_channels),
    "GroupNormalization": follow_groups,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), follow_last_axes),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization", "LRN"), follow_kept),
    **dict.fromkeys((f"Reduce{kind}" for kind in REDUCTIONS), follow_reduction),
    **dict.fromkeys(("ArgMax", "ArgMin"), follow_choice),
    **dict.fromkeys(POOLS, follow_pool),
}
