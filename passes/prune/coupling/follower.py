"""The walk over a graph that ties the classes of its values' axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import constant, node_label, subgraphs_of
from ....compiler.core.shapes import dims_of
from .classes import ANY, Classes

__all__ = ["Axes", "Axis", "Follower", "Rule", "single"]

Axis = np.ndarray | None
"""The class of each index along one axis, int64 [length]; None where the length is not a number: nothing can go from there."""
Axes = list[Axis]


class Follower:
    """The classes of all values of a model, found by going through its nodes in order.

    ``axes_of`` a constant are fresh the first time that a rule asks for them; those of inputs, and of what an operator without a rule makes, are held.
    ``place`` is what the walk is at: the reason of all that is held meanwhile.
    """

    def __init__(self) -> None:
        self.classes = Classes()
        self.axes: dict[ir.Value, Axes] = {}
        self.place: ir.Node | str = "an index that stays"
        self._places: list[ir.Node | str] = ["", self.place]

    def at(self, place: ir.Node | str) -> None:
        """Go on to a node, or to what a text says."""
        self.place = place
        self._places.append(place)

    def axes_of(self, value: ir.Value | None) -> Axes:
        """The classes along each axis; of a value of unknown rank, or one that is not there, []."""
        if value is None:
            return []
        if value not in self.axes:
            self.axes[value] = self._first_axes(value)
        return self.axes[value]

    def _first_axes(self, value: ir.Value) -> Axes:
        if not value.is_initializer() or constant(value) is None:
            return self.held_axes(value)
        return [self.classes.fresh(dim) if dim > 1 else single(dim) for dim in constant(value).shape.numpy()]  # type: ignore[union-attr]

    def held_axes(self, value: ir.Value) -> Axes:
        """Axes of the value's shape from which nothing can go."""
        return [self.held(dim) if isinstance(dim, int) else None for dim in dims_of(value) or ()]

    def held(self, length: int) -> np.ndarray:
        """An axis of ``length`` indices that stay."""
        if length < 2:
            return single(length)
        number = self.classes.fresh(1)
        self.classes.hold(number, len(self._places) - 1)
        return np.repeat(number, length)

    def give(self, value: ir.Value, axes: Sequence[Axis]) -> None:
        """Say what the axes of a node's output are. Where they do not fit its shape all of them are held."""
        dims = dims_of(value)
        if dims is None or len(dims) != len(axes):
            self.hold_axes(axes)
            return
        self.axes[value] = [self._fitting(axis, dim) for axis, dim in zip(axes, dims, strict=True)]

    def _fitting(self, axis: Axis, dim: object) -> Axis:
        if not isinstance(dim, int):
            self.hold(axis)
            return None
        if axis is None or len(axis) != dim:
            self.hold(axis)
            return self.held(dim)
        return axis

    def tie(self, one: Axis, other: Axis) -> Axis:
        """Tie two axes index by index; returns the one to go on with. An axis of one index is stretched over the other: they are not tied."""
        if one is not None and len(one) == 1:
            return other
        if other is not None and len(other) == 1:
            return one
        if one is None or other is None or len(one) != len(other):
            self.hold(one)
            self.hold(other)
            return None
        self.classes.tie(one, other)
        return one

    def hold(self, axis: Axis) -> None:
        """Let nothing go from an axis."""
        if axis is not None and axis.size:
            self.classes.hold(axis, len(self._places) - 1)

    def hold_axes(self, axes: Sequence[Axis]) -> None:
        """Let nothing go from any of these axes."""
        for axis in axes:
            self.hold(axis)

    def hold_node(self, node: ir.Node) -> None:
        """Let nothing go from what a node touches, what its subgraphs read from outside included; the axes of what it makes are held."""
        for value in (*node.inputs, *captured(node)):
            self.hold_axes(self.axes_of(value))
        for value in node.outputs:
            self.axes[value] = self.held_axes(value)

    def open(self, axis: Axis) -> bool:
        """Whether anything may go from the axis, as far as is known now."""
        return axis is not None and bool((self.classes.reasons(axis) == 0).any())

    def why(self, axis: Axis) -> str:
        """Where an axis is held first; "" where something may go from it."""
        if axis is None or self.open(axis):
            return "" if axis is not None else "its length is not a number"
        place = self._places[int(self.classes.reasons(axis[:1])[0])] if axis.size else "it is empty"
        return place if isinstance(place, str) else node_label(place)


Rule = Callable[[ir.Node, Follower], None]
"""Ties what the inputs of a node must share and gives axes to its outputs."""


def single(length: int) -> np.ndarray:
    """An axis of no or one index."""
    return np.full(length, ANY, np.int64)


def captured(node: ir.Node) -> list[ir.Value]:
    """What the subgraphs of a node read of the graphs around them."""
    inner = {graph for outer in subgraphs_of(node) for graph in _nested(outer)}
    return [value for graph in inner for item in (*graph, *graph.outputs) for value in _read(item) if value.graph not in inner]


def _read(item: ir.Node | ir.Value) -> list[ir.Value]:
    return [item] if isinstance(item, ir.Value) else [value for value in item.inputs if value is not None]


def _nested(graph: ir.Graph) -> list[ir.Graph]:
    return [graph, *(inner for node in graph for sub in subgraphs_of(node) for inner in _nested(sub))]
