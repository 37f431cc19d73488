"""A stretch of operators that could all compute in another layout, and which of them should."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Set
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
        everything: set[Hashable] = set(self.faces)
        inside = min(costs.best(), everything, key=costs.of)
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
    """Who makes and who reads a value: operators of the region, which choose its layout, and others, which have or demand one.

    ``odd`` are operators of the region that would read it in yet another layout.
    """

    value: ir.Value
    layout: Layout
    maker: ir.Node | None
    native: Layout
    readers: list[ir.Node] = field(default_factory=list)
    odd: list[tuple[ir.Node, Layout]] = field(default_factory=list)
    demanded: set[Layout] = field(default_factory=set)

    def cost(self, made: Layout, needed: Layout) -> int:
        """What it costs to go from one layout to another."""
        return _cost(self.value, made, needed)


def _cost(value: ir.Value, made: Layout, needed: Layout) -> int:
    shape = dims_of(value) or ()
    there = tuple(shape[axis] for axis in made)
    return 0 if is_trivial(there, after(inverse(made), needed)) else bytes_of(value)


class Costs:
    """Bytes transposed for a choice of operators: once for each layout in which a value is needed and not made."""

    def __init__(self, region: Region) -> None:
        self.faces = region.faces
        self.values: list[_Value] = []
        self.extra: dict[ir.Node, int] = {}
        self.kept: dict[ir.Node, int] = {}
        touched: dict[ir.Value, Layout] = {}
        for node, faces in self.faces.items():
            slots = data_slots(node)
            for value, layout in [(node.inputs[slot], faces.inner) for slot in slots] + [(value, faces.outer) for value in node.outputs]:
                if value is not None and constant(value) is None:
                    touched.setdefault(value, layout)
            self._note_narrow(node, slots, faces)
            self._note_kernel(node, faces)
        self.values = [self._value(value, layout, touched) for value, layout in touched.items()]

    def _value(self, value: ir.Value, layout: Layout, touched: Mapping[ir.Value, Layout]) -> _Value:
        maker = value.producer()
        mine = maker is not None and maker in self.faces and self.faces[maker].outer == layout
        found = _Value(value, layout, maker if mine else None, _native(value, maker))
        for node, slot in value.uses():
            faces = self.faces.get(node)
            perm = permutation(node) if faces is None and is_op(node, "Transpose") and node.graph is value.graph else None
            if faces is not None and slot in data_slots(node) and faces.inner == layout:
                found.readers.append(node)
            elif faces is not None and slot in data_slots(node):
                found.odd.append((node, faces.inner))
            elif perm is None:
                found.demanded.add(identity(len(layout)))
            elif node.outputs[0] not in touched:
                found.demanded.add(tuple(perm))
        if value.is_graph_output():
            found.demanded.add(identity(len(layout)))
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
            self.kept[node] = _kernel_cost(node)
            self.extra[node] = self.extra.get(node, 0) + (0 if faces.inner.index(axis) == rank - 1 else weight)

    def of(self, inside: set[Hashable]) -> int:
        """What it costs when these operators compute in their other layout."""
        total = sum(cost for node, cost in self.extra.items() if node in inside) + sum(cost for node, cost in self.kept.items() if node not in inside)
        made: dict[ir.Value, Layout] = {}
        needed: dict[ir.Value, set[Layout]] = {}
        for value in self.values:
            plain = identity(len(value.layout))
            layouts = value.demanded | {value.layout if node in inside else plain for node in value.readers}
            layouts |= {layout if node in inside else plain for node, layout in value.odd}
            base, offset = _base(value.value)
            needed.setdefault(base, set()).update(after(offset, layout) for layout in layouts)
            made.setdefault(base, identity(len(offset)))
            if base is value.value and (maker := base.producer()) in inside and maker is not None:
                made[base] = self.faces[maker].outer
        return total + sum(_cost(base, made[base], layout) for base, layouts in needed.items() for layout in layouts)

    def best(self) -> set[Hashable]:
        """The cheapest choice, as a minimum cut: the operators on the side of the source are those that change.

        Transposes between two values of the region, and operators that read one value in several layouts, are only priced as a whole (`of`).
        """
        network = Network()
        for node, cost in self.extra.items():
            network.pipe(node, SINK, cost)
        for node, cost in self.kept.items():
            network.pipe(SOURCE, node, cost)
        for index, value in enumerate(self.values):
            self._pipes(network, index, value)
            plain = identity(len(value.layout))
            for node, layout in value.odd:
                network.pipe(node, SINK, value.cost(plain, layout))
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


def _base(value: ir.Value) -> tuple[ir.Value, Layout]:
    """What a Transpose made the value of, and how; else the value itself."""
    maker = value.producer()
    perm = permutation(maker) if maker is not None and is_op(maker, "Transpose") else None
    if maker is None or perm is None or maker.inputs[0] is None or constant(maker.inputs[0]) is not None:
        return value, identity(len(dims_of(value) or ()))
    return maker.inputs[0], tuple(perm)


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


def bytes_transposed(node: ir.Node) -> int:
    """What a node transposes, be it within its kernel."""
    return _kernel_cost(node) + _transpose_cost(node)


def _transpose_cost(node: ir.Node) -> int:
    perm = permutation(node) if is_op(node, "Transpose") else None
    source = node.inputs[0] if perm is not None else None
    return 0 if perm is None or source is None or dims_of(source) is None else _cost(source, identity(len(perm)), tuple(perm))


def _kernel_cost(node: ir.Node) -> int:
    rank = len(dims_of(node.outputs[0]) or ()) if is_op(node, "Softmax", "LogSoftmax") else 0
    axis = int(attribute(node, "axis", -1)) if rank else 0  # type: ignore[call-overload]
    return 0 if not rank or axis % rank == rank - 1 else 2 * bytes_of(node.outputs[0]) - 1
