"""A stretch of operators that could all compute in another layout, and which of them should."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Set
from dataclasses import dataclass, field
from functools import partial

import onnx_ir as ir

from ...compiler.core.dims import evaluate, free_symbols
from ...compiler.core.graph import attribute, constant, is_op
from ...compiler.core.shapes import dims_of
from ..cleanup.identity import permutation
from .flow import ENDLESS, SINK, SOURCE, Network
from .layouts import ELEMENTWISE, Faces, Layout, after, data_slots, from_input, from_output, identity, inverse, is_trivial

SYMBOL = 8
"""What a symbol counts as where bytes are compared."""
LARGEST = 4000
"""Regions do not grow beyond so many operators."""

Possible = Callable[[ir.Node], bool]


@dataclass
class Region:
    """Operators with the layouts that each would read and make."""

    faces: dict[ir.Node, Faces] = field(default_factory=dict)

    @staticmethod
    def around(moved: ir.Node, possible: Possible, downwards: bool, seen: Set[tuple[ir.Node, Faces]] = frozenset()) -> Region:
        """What could compute in the layout on the other side of a Transpose: the operators that read it, or the one that feeds it, and so on.

        Nothing, if those next to it were ``seen``, and the same layouts would spread from them again.
        """
        region, perm = Region(), permutation(moved)
        if perm is None or moved.inputs[0] is None:
            return region
        queue = _Queue(region, moved.graph, possible)
        if downwards:
            queue.readers(moved.outputs[0], inverse(tuple(perm)))
        else:
            queue.maker(moved.inputs[0], tuple(perm))
        if region.faces.items() <= seen:
            return Region()
        queue.grow()
        return region

    def chosen(self) -> list[ir.Node]:
        """The operators that are to compute in their other layout, in order; none when nothing is gained."""
        costs = Costs(self)
        inside = costs.best()
        members = [node for node in self.faces if node in inside]
        return members if members and costs.of(inside) < costs.of(set()) else []


class _Queue:
    """Grows a region along the values that its operators share."""

    def __init__(self, region: Region, graph: object, possible: Possible) -> None:
        self.region, self.graph, self.possible = region, graph, possible
        self.open: list[ir.Node] = []
        self.read: set[tuple[ir.Value, Layout]] = set()

    def grow(self) -> None:
        while self.open and len(self.region.faces) < LARGEST:
            node = self.open.pop()
            faces = self.region.faces[node]
            for slot in data_slots(node):
                value = node.inputs[slot]
                if value is not None:
                    self.maker(value, faces.inner)
                    self.readers(value, faces.inner)
            for value in node.outputs:
                self.readers(value, faces.outer)

    def maker(self, value: ir.Value, layout: Layout) -> None:
        node = value.producer()
        if node is not None:
            self._add(node, partial(from_output, node, layout))

    def readers(self, value: ir.Value, layout: Layout) -> None:
        if constant(value) is not None or (value, layout) in self.read:
            return
        self.read.add((value, layout))
        for node, slot in value.uses():
            if slot in data_slots(node):
                self._add(node, partial(from_input, node, layout))

    def _add(self, node: ir.Node, find: Callable[[], Faces | None]) -> None:
        if node.graph is not self.graph or node in self.region.faces or not self.possible(node):
            return
        faces = find()
        if faces is not None:
            self.region.faces[node] = faces
            self.open.append(node)


@dataclass
class _Value:
    """Who makes and who reads a value: operators of the region, which choose its layout, and others, which have or demand one."""

    value: ir.Value
    layout: Layout
    maker: ir.Node | None
    native: Layout
    readers: list[ir.Node] = field(default_factory=list)
    demanded: set[Layout] = field(default_factory=set)

    @property
    def weight(self) -> int:
        """What it costs to have the value in its other layout."""
        return self.cost(identity(len(self.layout)), self.layout)

    def cost(self, made: Layout, needed: Layout) -> int:
        """What it costs to go from one layout to another."""
        shape = dims_of(self.value) or ()
        there = tuple(shape[axis] for axis in made)
        return 0 if is_trivial(there, after(inverse(made), needed)) else bytes_of(self.value)


class Costs:
    """Bytes transposed for a choice of operators: once for each layout in which a value is needed and not made."""

    def __init__(self, region: Region) -> None:
        self.faces = region.faces
        self.values: list[_Value] = []
        self.extra: dict[ir.Node, int] = {}
        self.kept: dict[ir.Node, int] = {}
        seen: set[ir.Value] = set()
        for node, faces in self.faces.items():
            slots = data_slots(node)
            touched = [(node.inputs[slot], faces.inner) for slot in slots] + [(value, faces.outer) for value in node.outputs]
            for value, layout in touched:
                if value is not None and value not in seen and constant(value) is None:
                    seen.add(value)
                    self.values.append(self._value(value, layout))
            self._note_narrow(node, slots, faces)
            self._note_kernel(node, faces)

    def _value(self, value: ir.Value, layout: Layout) -> _Value:
        maker = value.producer()
        mine = maker is not None and maker in self.faces and self.faces[maker].outer == layout
        found = _Value(value, layout, maker if mine else None, _native(value, maker))
        for node, slot in value.uses():
            faces = self.faces.get(node)
            if faces is not None and slot in data_slots(node) and faces.inner == layout:
                found.readers.append(node)
            elif faces is None and is_op(node, "Transpose") and node.graph is value.graph and (perm := permutation(node)) is not None:
                found.demanded.add(tuple(perm))
            else:
                found.demanded.add(identity(len(layout)))
                if faces is not None:
                    self.extra[node] = self.extra.get(node, 0) + found.weight
        if value.is_graph_output():
            found.demanded.add(identity(len(layout)))
        if maker is not None and maker in self.faces and not mine:
            self.extra[maker] = self.extra.get(maker, 0) + found.weight
        return found

    def _note_narrow(self, node: ir.Node, slots: list[int], faces: Faces) -> None:
        """Inputs of fewer dims are broadcast: in another layout they first get all dims, and are transposed."""
        if not widens(node):
            return
        for slot, value in enumerate(node.inputs):
            shape = dims_of(value)
            if slot not in slots and value is not None and shape and constant(value) is None:
                padded = (1,) * (len(faces.outer) - len(shape)) + shape
                self.extra[node] = self.extra.get(node, 0) + (0 if is_trivial(padded, faces.outer) else bytes_of(value))

    def _note_kernel(self, node: ir.Node, faces: Faces) -> None:
        """Softmax transposes by itself, there and back, unless its axis is the last; that is as fast as two transposes, and one operator instead of three."""
        if is_op(node, "Softmax", "LogSoftmax"):
            rank = len(faces.inner)
            axis = int(attribute(node, "axis", -1)) % rank  # type: ignore[call-overload]
            weight = 2 * bytes_of(node.outputs[0]) - 1
            self.kept[node] = 0 if axis == rank - 1 else weight
            self.extra[node] = self.extra.get(node, 0) + (0 if faces.inner.index(axis) == rank - 1 else weight)

    def of(self, inside: set[Hashable]) -> int:
        """What it costs when these operators compute in their other layout."""
        total = sum(cost for node, cost in self.extra.items() if node in inside) + sum(cost for node, cost in self.kept.items() if node not in inside)
        for value in self.values:
            plain = identity(len(value.layout))
            made = value.native if value.maker is None else value.layout if value.maker in inside else plain
            needed = value.demanded | {value.layout if node in inside else plain for node in value.readers}
            total += sum(value.cost(made, layout) for layout in needed if layout != made)
        return total

    def best(self) -> set[Hashable]:
        """The cheapest choice, as a minimum cut: the operators on the side of the source are those that change."""
        network = Network()
        for node, cost in self.extra.items():
            network.pipe(node, SINK, cost)
        for node, cost in self.kept.items():
            network.pipe(SOURCE, node, cost)
        for index, value in enumerate(self.values):
            self._pipes(network, index, value)
        return network.parted()

    def _pipes(self, network: Network, index: int, value: _Value) -> None:
        plain, changed, maker = identity(len(value.layout)), value.layout, value.maker
        start: Hashable = SOURCE
        end: Hashable = SINK
        made_changed = made_plain = value.native
        if maker is not None:
            start, end, made_changed, made_plain = maker, maker, changed, plain
            for other in value.demanded - {plain, changed}:
                network.pipe(maker, SINK, value.cost(changed, other))
                network.pipe(SOURCE, maker, value.cost(plain, other))
        if made_changed != plain:
            self._if_any_is_plain(network, (index, "plain"), start, value, plain in value.demanded, value.cost(made_changed, plain))
        if made_plain != changed:
            self._if_any_changes(network, (index, "changed"), end, value, changed in value.demanded, value.cost(made_plain, changed))

    def _if_any_is_plain(self, network: Network, mark: Hashable, start: Hashable, value: _Value, anyway: bool, weight: int) -> None:
        """Pay if ``start`` changes and any reader, or one outside, does not."""
        if anyway:
            network.pipe(start, SINK, weight if start is not SOURCE else 0)
            return
        network.pipe(start, mark, weight)
        for node in value.readers:
            network.pipe(mark, node, ENDLESS)

    def _if_any_changes(self, network: Network, mark: Hashable, end: Hashable, value: _Value, anyway: bool, weight: int) -> None:
        """Pay if ``end`` does not change and any reader, or one outside, does."""
        if anyway:
            network.pipe(SOURCE, end, weight if end is not SINK else 0)
            return
        network.pipe(mark, end, weight)
        for node in value.readers:
            network.pipe(node, mark, ENDLESS)


def widens(node: ir.Node) -> bool:
    """Whether narrower inputs are broadcast to all dims, so that they have to follow their order."""
    return node.op_type in ELEMENTWISE and node.op_type != "Clip"


def _native(value: ir.Value, maker: ir.Node | None) -> Layout:
    """The layout in which a value is there for nothing: what a Transpose makes is there as it was before."""
    rank = len(dims_of(value) or ())
    perm = permutation(maker) if is_op(maker, "Transpose") and maker is not None else None
    return identity(rank) if perm is None else inverse(tuple(perm))


def bytes_of(value: ir.Value) -> int:
    """The room a tensor takes, with a fixed size for every symbol."""
    total = 1
    for dim in dims_of(value) or ():
        total *= evaluate(dim, dict.fromkeys(free_symbols(dim), SYMBOL)) or 1
    width = 16 if value.dtype in (None, ir.DataType.STRING) else value.dtype.itemsize
    return max(1, round(total * float(width)))
