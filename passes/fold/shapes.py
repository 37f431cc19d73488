"""Folding what models compute about shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import is_known, same
from ...compiler.core.drift import EXACT, Drift
from ...compiler.core.graph import all_graphs, constant, is_op, replace, sweep
from ...compiler.core.ledger import Ledger
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import dims_of, infer_shapes, known_ints, static_shape
from .constants import can_store, store
from .expand import read_before_expand
from .reshape import drop_unchanged, fold_target


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Replaces shape arithmetic by what is known of it, for every size that the model's inputs can have.

    Known numbers become constants; the same shape computed twice is computed once; a Reshape whose target can be written down without
    computing anything gets it as a constant; a Reshape or Expand that changes nothing, or nothing that its readers would not do, goes.
    """

    name: ClassVar[str] = "fold-shapes"
    drift: ClassVar[Drift] = EXACT

    def run(self, model: ir.Model, context: Context) -> int:
        """Fold in every graph; returns how many changes were made."""
        infer_shapes(model)
        work = _Work(context.ledger, Names(model))
        return sum(work.graph(graph) for graph in list(all_graphs(model)))


@dataclass
class _Work:
    """The changes to one model."""

    ledger: Ledger
    names: Names

    def graph(self, graph: ir.Graph) -> int:
        """Numbers last to first, so that what only feeds a number is gone before it is looked at; the rest in order."""
        changes = sum(self.number(node) for node in list(reversed(list(graph))) if node.graph is graph)
        seen: dict[tuple[object, ...], ir.Value] = {}
        for node in list(graph):
            if node.graph is graph:
                changes += self.known(node, seen)
        for node in list(graph):
            if node.graph is graph:
                changes += fold_target(node, self.ledger, self.names)
        for node in list(graph):
            if node.graph is graph:
                changes += drop_unchanged(node, self.ledger, self.names)
        for node in list(graph):
            if node.graph is graph:
                changes += read_before_expand(node, self.ledger, self.names)
        return changes

    def number(self, node: ir.Node) -> int:
        """Store the integers that a node makes, when all are known."""
        value = node.outputs[0] if node.outputs else None
        if value is None or not value.name or is_op(node, "Constant") or constant(value) is not None or len(node.outputs) != 1:
            return 0
        numbers, shape = known_ints(value), static_shape(value)
        if numbers is None or shape is None or value.dtype is None or not all(isinstance(item, int) for item in numbers):
            return 0
        if is_op(node, "Identity") and value.is_graph_output() and constant(node.inputs[0]) is not None:
            return 0
        tensor = ir.Tensor(np.array(numbers, dtype=value.dtype.numpy()).reshape(shape))
        if not can_store(value, tensor) or not self.ledger.permit("fold-known-numbers", value.name):
            return 0
        store(value, tensor, self.names)
        sweep([node])
        return 1

    def known(self, node: ir.Node, seen: dict[tuple[object, ...], ir.Value]) -> int:
        """Let a tensor of sizes that was made before in this graph, or that the node was given, stand for the one it makes."""
        value = node.outputs[0] if node.outputs else None
        if value is None or not value.name or value.is_graph_output() or len(node.outputs) != 1:
            return 0
        key = _key(value)
        if key is None:
            return 0
        earlier = next((source for source in node.inputs if source is not None and _holds_the_same(source, value)), seen.get(key))
        if earlier is None or _is_gone(earlier):
            seen[key] = value
            return 0
        if not self.ledger.permit("reuse-known-sizes", value.name):
            return 0
        replace(value, earlier, self.names)
        sweep([node])
        return 1


def _key(value: ir.Value) -> tuple[object, ...] | None:
    """What a tensor of sizes holds, if all of it is known and some of it is no number."""
    sizes = known_ints(value)
    if sizes is None or not all(map(is_known, sizes)) or all(isinstance(item, int) for item in sizes):
        return None
    return (value.dtype, dims_of(value), tuple(item if isinstance(item, int) else item.value for item in sizes))


def _is_gone(value: ir.Value) -> bool:
    """Whether a value lost its last reader, and its node with it."""
    node = value.producer()
    return node is not None and node.graph is None


def _holds_the_same(source: ir.Value, value: ir.Value) -> bool:
    mine, its = known_ints(value), known_ints(source)
    if mine is None or its is None or source.dtype != value.dtype or dims_of(source) != dims_of(value):
        return False
    return len(mine) == len(its) and all(map(same, mine, its))
