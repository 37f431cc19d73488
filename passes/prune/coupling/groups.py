"""The groups of slices that go together."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import is_op, subgraphs_of
from ....compiler.core.shapes import infer_shapes
from ....compiler.core.target import STANDARD_DOMAINS
from . import attention, elementwise, movement, norms, products, recurrent, views
from .follower import Axis, Follower, Rule

__all__ = ["Coupling", "Group", "Slice", "couple"]

RULES: dict[str, Rule] = {**elementwise.RULES, **products.RULES, **norms.RULES, **movement.RULES, **views.RULES, **attention.RULES, **recurrent.RULES}


@dataclass(frozen=True)
class Slice:
    """Where the members of a group lie in one axis of one constant: ``indices`` int64 [members, places of each]."""

    weight: ir.Value
    axis: int
    indices: np.ndarray

    @property
    def each(self) -> int:
        """How many numbers of the constant one member takes."""
        shape = self.weight.shape.numpy()  # type: ignore[union-attr]
        return int(np.prod(shape, dtype=np.int64)) // max(shape[self.axis], 1) * self.indices.shape[1]


@dataclass(frozen=True)
class Group:
    """Members that are alike: each takes as many indices of the same axes of the same constants. Any of them may go, but not all.

    ``members`` are their classes, int64 [members], in the order of the first axis that they lie in.
    """

    members: np.ndarray
    slices: tuple[Slice, ...]

    @property
    def name(self) -> str:
        """The constant and axis where it lies first, and from which index on: no other group starts there."""
        first = self.slices[0]
        start = int(first.indices[0, 0])
        return f"{first.weight.name}[{first.axis}]" if start == 0 else f"{first.weight.name}[{first.axis}, {start}]"

    @property
    def size(self) -> int:
        """How many members there are."""
        return len(self.members)

    @property
    def parameters(self) -> int:
        """How many numbers go with one member, as the others are now."""
        return sum(item.each for item in self.slices)


@dataclass(frozen=True)
class Coupling:
    """What must go together in a model, and what must stay: the axes of all values, and the groups."""

    follower: Follower
    groups: tuple[Group, ...]

    @cached_property
    def refused(self) -> dict[str, str]:
        """Constants of two and more axes of which nothing may go, each with where it is held first."""
        found = {}
        for value, axes in self.follower.axes.items():
            wide = [axis for axis in axes if axis is None or len(axis) > 1]
            if value.is_initializer() and len(wide) > 1 and not any(map(self.follower.open, wide)):
                found[value.name or ""] = "; ".join(dict.fromkeys(map(self.follower.why, wide)))
        return found

    @cached_property
    def by_name(self) -> dict[str, Group]:
        """The groups by `Group.name`."""
        return {group.name: group for group in self.groups}


def couple(model: ir.Model) -> Coupling:
    """Follow every axis of a model whose functions are inlined and whose constants are initialisers; its shapes are inferred anew."""
    infer_shapes(model)
    follower = Follower()
    follower.at("it is an input of the model")
    for value in model.graph.inputs:
        follower.axes[value] = follower.held_axes(value)
    _follow(model.graph, follower)
    follower.at("it is an output of the model")
    for value in model.graph.outputs:
        follower.hold_axes(follower.axes_of(value))
    return Coupling(follower, tuple(_groups(follower)))


def _follow(graph: ir.Graph, follower: Follower) -> None:
    for node in graph:
        rule = RULES.get(node.op_type) if node.domain in STANDARD_DOMAINS else None
        follower.at(node)
        if is_op(node, "If"):
            _follow_branches(node, follower)
        elif rule is not None:
            rule(node, follower)
        else:
            follower.hold_node(node)


def _follow_branches(node: ir.Node, follower: Follower) -> None:
    """Each output is what either branch gives."""
    branches = subgraphs_of(node)
    for branch in branches:
        _follow(branch, follower)
    follower.at(node)
    for place, value in enumerate(node.outputs):
        ways = [follower.axes_of(branch.outputs[place]) for branch in branches]
        axes = follower.held_axes(value)
        if any(len(way) != len(axes) for way in ways):
            for way in ways:
                follower.hold_axes(way)
        else:
            axes = [_either(follower, [way[along] for way in ways]) for along in range(len(axes))]
        follower.give(value, axes)


def _either(follower: Follower, ways: list[Axis]) -> Axis:
    """One axis for several of one length; lengths that differ, which only run time tells, are held."""
    known = [way for way in ways if way is not None]
    if len(known) < len(ways) or len({len(way) for way in known}) > 1:
        follower.hold_axes(ways)
        return None
    for way in known[1:]:
        follower.classes.tie(known[0], way)
    return known[0]


def _groups(follower: Follower) -> list[Group]:
    """Classes that lie in the same axes equally often are members of one group."""
    places: dict[int, list[tuple[ir.Value, int, np.ndarray]]] = defaultdict(list)
    for value, axes in follower.axes.items():
        if not value.is_initializer():
            continue
        for along, axis in enumerate(axes):
            for found, indices in _occurrences(follower, axis):
                places[found].append((value, along, indices))
    alike: dict[tuple[tuple[ir.Value, int, int], ...], list[int]] = defaultdict(list)
    for found, where in places.items():
        alike[tuple((value, along, len(indices)) for value, along, indices in where)].append(found)
    groups = [Group(np.array(members), tuple(_slices(members, places))) for members in alike.values()]
    return [group for group in groups if any(np.issubdtype(item.weight.dtype.numpy(), np.inexact) for item in group.slices if item.weight.dtype is not None)]


def _occurrences(follower: Follower, axis: np.ndarray | None) -> list[tuple[int, np.ndarray]]:
    """The classes along an axis that may go, and the indices of each."""
    if axis is None or not axis.size:
        return []
    roots = follower.classes.find(axis)
    order = np.argsort(roots, kind="stable")
    found, starts = np.unique(roots[order], return_index=True)
    free = follower.classes.reasons(found) == 0
    return [(int(root), indices) for root, indices, goes in zip(found, np.split(order, starts[1:]), free, strict=True) if goes]


def _slices(members: list[int], places: dict[int, list[tuple[ir.Value, int, np.ndarray]]]) -> list[Slice]:
    columns = zip(*(places[member] for member in members), strict=True)
    return [Slice(column[0][0], column[0][1], np.stack([indices for _, _, indices in column])) for column in columns]
