"""Operators that TVM lacks or computes otherwise, written with those that it has.

Each module holds a table ``EXPANSIONS``: "domain::Operator" ("Operator" for a standard one) -> a function that draws the replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import all_graphs, erase, replace
from ....compiler.core.names import Names
from ....compiler.core.shapes import infer_node
from ....compiler.core.target import STANDARD_DOMAINS

Pen = Any
"""A `Build`, whose operators give one value or several: which, the one who draws knows."""
Expansion = Callable[[Build, ir.Node], tuple[ir.Value | None, ...] | None]
"""Draws what stands in a node's place, one value for each output (None for one that nobody uses); None when it cannot."""


def expand(model: ir.Model) -> int:
    """Write out every operator that has an expansion, in place, in every graph; returns how many there were. Types and shapes must be inferred."""
    expansions, names = all_expansions(), Names(model)
    count = 0
    for graph in all_graphs(model):
        for node in list(graph):
            count += _expand_node(node, expansions, names)
    return count


def all_expansions() -> Mapping[str, Expansion]:
    """Every expansion there is, by operator."""
    from . import activations, contrib, definitions, normalisation, quantised, recurrent, tensors

    modules = (definitions, activations, contrib, normalisation, quantised, recurrent, tensors)
    return {name: made for module in modules for name, made in module.EXPANSIONS.items()}


def key(node: ir.Node) -> str:
    """What expansions are found by."""
    return node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}::{node.op_type}"


def _expand_node(node: ir.Node, expansions: Mapping[str, Expansion], names: Names) -> int:
    expansion = expansions.get(key(node))
    if expansion is None:
        return 0
    pen = Build()
    made = expansion(pen, node)
    if made is None:
        pen.discard()
        return 0
    nodes = _insert(node, pen, names)
    for old, new in zip(node.outputs, made, strict=False):
        if new is not None and old.name:
            new.type, new.shape = new.type or old.type, new.shape if new.shape is not None else old.shape
            replace(old, new, names)
    erase(node)
    return 1 + sum(_expand_node(inner, expansions, names) for inner in nodes)


def _insert(root: ir.Node, pen: Build, names: Names) -> list[ir.Node]:
    """Put what was drawn before ``root``, in its block, with types and shapes."""
    graph = root.graph
    assert isinstance(graph, ir.Graph)
    for value in pen.constants:
        if value.uses():
            value.name = names.fresh(f"{root.op_type}_{value.meta['hint']}")
            graph.register_initializer(value)
    for node in pen.nodes:
        node.name = names.fresh(f"{root.name or root.op_type}_{node.op_type}")
        node.meta.update(root.meta)
        for output in node.outputs:
            output.name = names.fresh(f"{node.name}_out")
        graph.insert_before(root, node)
        infer_node(node)
    return list(pen.nodes)
