"""One block while it grows: what it is so far, and what it would be with one operator more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from ..cost import TRANSCENDENTAL, flops, sizes
from ..graph import constant
from .extended import Facts
from .mapping import Mapping
from .operators import is_parameter, is_product
from .plan import Block, Refusal, Step, border
from .tiles import NONE, Axes, is_depthwise, tiled_axes

READINGS = ("Cast", "DequantizeLinear")
"""Operators that give what is stored another type."""
ASSUMED = 8
"""What an unknown size counts as where arithmetic for one element is asked for; it cancels out."""


class Growth:
    """A block that grows. ``axes`` are those along which all of its inner values can be cut into tiles (None: no inner value yet);
    ``loose`` nodes only change where what comes in is read, so that their results need no tile."""

    def __init__(self, seed: Facts, reason: str) -> None:
        self.mapping = seed.mapping
        self.nodes: dict[ir.Node, Facts] = {seed.node: seed}
        self.inputs = _read(seed.node)
        self.axes: Axes | None = None
        self.steps = [Step(seed.node, "seed", reason)]
        self.refusals: dict[ir.Node, str] = {}
        self.loose: set[ir.Node] = set()
        self.products = {seed.node} if is_product(seed.node) else set()

    def inputs_with(self, node: ir.Node) -> set[ir.Value]:
        """What the block would read from outside."""
        made = {value for inner in self.nodes for value in inner.outputs}
        return (self.inputs | _read(node)) - made - set(node.outputs)

    def edges(self, node: ir.Node, behind: bool) -> Iterator[tuple[ir.Node, int]]:
        """(reader, input) of each value that flows between the block and ``node``, which stands ``behind`` it or before it."""
        if behind:
            yield from ((node, index) for index, value in enumerate(node.inputs) if value is not None and value.producer() in self.nodes)
            return
        for value in node.outputs:
            yield from ((user, index) for user, index in value.uses() if user in self.nodes)

    def axes_with(self, node: ir.Node, behind: bool) -> Axes:
        """The axes along which tiles would be cut."""
        found = [NONE if reader in self.loose else tiled_axes(reader, index) for reader, index in self.edges(node, behind)]
        known = found if self.axes is None else [self.axes, *found]
        return frozenset.intersection(*known) if known else NONE

    def is_loose(self, node: ir.Node, behind: bool) -> bool:
        """Whether ``node`` would be done where its result is read: it stands at the block's border, and moves data or is read by what does."""
        return not behind and not is_product(node) and (not arithmetic(node) or all(reader in self.loose for reader, _ in self.edges(node, behind)))

    def arithmetic_before(self, product: ir.Node, joining: ir.Node | None = None) -> int:
        """Additions for each element that are done in the block, and in ``joining``, on what flows into ``product``."""
        seen: set[ir.Node] = set()
        stack = [product]
        total = 0
        while stack:
            for value in stack.pop().inputs:
                maker = value.producer() if value is not None else None
                if maker is None or maker in seen or (maker not in self.nodes and maker is not joining):
                    continue
                seen.add(maker)
                if not is_product(maker):
                    total += arithmetic(maker)
                    stack.append(maker)
        return total

    def chained_weights(self, node: ir.Node, behind: bool) -> bool:
        """Whether a path inside would lead from one product with weights to another."""
        heavy = {product for product in self.products if _is_heavy(product)}
        if _is_heavy(node) and heavy:
            return True if not behind else any(self._leads_to(product, node) for product in heavy)
        through = _above(node, self.nodes) & heavy if behind else set()
        return bool(through) and any(_is_heavy(product) for product in self.products - through if self._leads_to(node, product))

    def _leads_to(self, product: ir.Node, node: ir.Node) -> bool:
        return product in _above(node, self.nodes)

    def take(self, facts: Facts, behind: bool, mapping: Mapping, reason: str) -> None:
        """Make an operator part of the block."""
        node = facts.node
        if self.is_loose(node, behind):
            self.loose.add(node)
        else:
            self.axes = self.axes_with(node, behind)
        self.inputs = self.inputs_with(node)
        self.mapping = mapping
        self.nodes[node] = facts
        self.steps.append(Step(node, "behind" if behind else "before", reason))
        self.refusals.pop(node, None)
        if is_product(node):
            self.products.add(node)

    def absorb(self, before: Growth, reason: str) -> None:
        """Make a whole block, which stands before this one, part of it."""
        made = {value for node in (*before.nodes, *self.nodes) for value in node.outputs}
        self.inputs = (self.inputs | before.inputs) - made
        self.mapping = max(self.mapping, before.mapping)
        self.nodes.update(before.nodes)
        self.steps += [Step(node, "before", reason) for node in before.ordered()]
        self.refusals.update(before.refusals)
        for node in self.nodes:
            self.refusals.pop(node, None)
        self.products |= before.products
        self.loose |= before.loose
        self.axes = NONE

    def ordered(self, joining: Facts | None = None) -> list[ir.Node]:
        """The nodes in topological order."""
        facts = [*self.nodes.values(), *([joining] if joining is not None else [])]
        return [found.node for found in sorted(facts, key=lambda found: found.position)]

    def inner_values(self, joining: ir.Node | None = None) -> list[ir.Value]:
        """What is made and read inside."""
        inside = self.nodes.keys() | ({joining} if joining is not None else set())
        return [value for node in inside for value in node.outputs if any(user in inside for user, _ in value.uses())]

    def block(self) -> Block:
        """The block as it is."""
        nodes = self.ordered()
        inputs, outputs = border(nodes) if len(nodes) > 1 else _own_border(nodes[0])
        wanted = set(outputs)
        saved = [(value, facts) for node, facts in self.nodes.items() for value in node.outputs if value not in wanted and value.uses()]
        known = sum(least_bytes(value) for value, _ in saved)
        refusals = tuple(Refusal(node, reason) for node, reason in self.refusals.items())
        return Block(tuple(nodes), self.mapping, inputs, outputs, tuple(self.steps), refusals, known, len(saved))


def least_bytes(value: ir.Value) -> int:
    """The room a tensor takes where every unknown size is 1; 0 where not even the number of axes is known."""
    found = sizes(value, 1)
    return 0 if found is None or value.dtype in (None, ir.DataType.STRING, ir.DataType.UNDEFINED) else math.ceil(math.prod(found) * value.dtype.itemsize)


def _is_heavy(node: ir.Node) -> bool:
    """Whether the operator multiplies by a matrix of weights; a depthwise convolution has only a few for each channel."""
    return is_product(node) and not is_depthwise(node) and any(constant(value) is not None for value in node.inputs[1:] if value is not None)


def arithmetic(node: ir.Node) -> int:
    """Additions that an operator does for each element it makes; many, when nobody knows. What is stored in fewer bits is read at no cost, and what
    reads constants alone is there before.
    """
    if node.op_type in READINGS or all(value is None or constant(value) is not None for value in node.inputs):
        return 0
    made, elements = flops(node, ASSUMED), sizes(node.outputs[0], ASSUMED)
    if made is None:
        return TRANSCENDENTAL
    if not made or elements is None:
        return 0 if not made else TRANSCENDENTAL
    count = 1
    for size in elements:
        count *= size
    return -(-made // max(count, 1))


def _read(node: ir.Node) -> set[ir.Value]:
    return {value for index, value in enumerate(node.inputs) if value is not None and not (constant(value) is not None and is_parameter(node, index))}


def _above(node: ir.Node, inside: dict[ir.Node, Facts]) -> set[ir.Node]:
    """The nodes of the block that ``node`` depends on."""
    seen: set[ir.Node] = set()
    stack = [node]
    while stack:
        for value in stack.pop().inputs:
            maker = value.producer() if value is not None else None
            if maker is not None and maker in inside and maker not in seen:
                seen.add(maker)
                stack.append(maker)
    return seen


def _own_border(node: ir.Node) -> tuple[tuple[ir.Value, ...], tuple[ir.Value, ...]]:
    read: Sequence[ir.Value] = [value for value in dict.fromkeys(node.inputs) if value is not None]
    made = tuple(value for value in node.outputs if value.uses() or value.is_graph_output())
    ordered = [value for value in read if constant(value) is None] + [value for value in read if constant(value) is not None]
    return tuple(ordered), made
