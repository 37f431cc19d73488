"""Reshape and its kin: axes split and merged.

Where an axis is split, what may go must leave a rectangle: whole indices of one of the new axes. Which one is read off what is done with them further
on (`fate`): heads are whole entries of the axis that a product runs over as a batch, shuffled channels those of the longer axis.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....compiler.core.dims import Dim, elements, same
from ....compiler.core.shapes import dims_of
from .fate import fate
from .follower import Axes, Axis, Follower, Rule

__all__ = ["RULES", "blocks"]


def follow_view(node: ir.Node, follower: Follower) -> None:
    """The elements stay in order; the shape is another."""
    source, result = node.inputs[0], node.outputs[0]
    before, after = dims_of(source), dims_of(result)
    parts = None if before is None or after is None else blocks(before, after)
    if parts is None or source is None:
        follower.hold_node(node)
        return
    axes, made = follower.axes_of(source), follower.held_axes(result)
    for taken, given in parts:
        made[given] = _block(follower, axes[taken], result, given)
    follower.give(result, made)


def _block(follower: Follower, axes: Axes, result: ir.Value, given: slice) -> Axes:
    lengths = list((dims_of(result) or ())[given])
    if len(axes) == 1 and len(lengths) == 1:
        return list(axes)
    sizes = [dim for dim in lengths if isinstance(dim, int)]
    if len(sizes) != len(lengths) or any(axis is None for axis in axes):
        follower.hold_axes(axes)
        return [follower.held(dim) if isinstance(dim, int) else None for dim in lengths]
    return split(follower, merge(follower, axes), sizes, result, given.start)


def merge(follower: Follower, axes: Axes) -> np.ndarray:
    """Several axes as one: it has the classes of the outermost of which something may go; of the others nothing may."""
    free = next((place for place, axis in enumerate(axes) if follower.open(axis)), None)
    lengths = [len(axis) for axis in axes if axis is not None]
    if free is None:
        return follower.held(math.prod(lengths))
    follower.hold_axes([*axes[:free], *axes[free + 1 :]])
    chosen = axes[free]
    assert chosen is not None
    shape = [1] * len(axes)
    shape[free] = len(chosen)
    return np.broadcast_to(chosen.reshape(shape), lengths).reshape(-1)


def split(follower: Follower, axis: np.ndarray, sizes: list[int], result: ir.Value, first: int) -> Axes:
    """One axis as several: whole indices of one of them may go."""
    made: list[Axis] = [follower.held(size) for size in sizes]
    wide = [place for place, size in enumerate(sizes) if size > 1]
    if not wide or not follower.open(axis) or axis.size == 0:
        follower.hold(axis)
        return made
    free = wide[0] if len(wide) == 1 else max(wide, key=lambda place: (fate(result, first + place), sizes[place], -place))
    members = np.moveaxis(axis.reshape(sizes), free, 0).reshape(sizes[free], -1)
    follower.classes.tie(members, members[:, :1])
    made[free] = members[:, 0].copy()
    return made


def blocks(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> list[tuple[slice, slice]] | None:
    """The smallest runs of axes, from the last on, that hold equally many elements; None when that cannot be told."""
    found: list[tuple[slice, slice]] = []
    left, right = len(before), len(after)
    while left or right:
        step = next((step for step in _steps(left, right) if _equal(before[left - step[0] : left], after[right - step[1] : right])), None)
        if step is None:
            return None
        found.append((slice(left - step[0], left), slice(right - step[1], right)))
        left, right = left - step[0], right - step[1]
    return found


def _steps(left: int, right: int) -> list[tuple[int, int]]:
    return sorted(((i, j) for i in range(left + 1) for j in range(right + 1) if i + j), key=lambda step: (max(step), sum(step)))


def _equal(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> bool:
    return same(elements(before), elements(after))


RULES: dict[str, Rule] = dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), follow_view)
