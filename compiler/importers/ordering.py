"""Nodes in the order they can run in, and a name of its own for every node and value."""

from __future__ import annotations

import onnx_ir as ir

from ..core.errors import ModelError
from ..core.graph import all_graphs, node_label, subgraphs_of
from ..core.names import Names


def settle_order(model: ir.Model) -> None:
    """Sort the nodes of graphs that are not in order. Raises ModelError when a node depends on its own result."""
    for root in (model.graph, *(function.graph for function in model.functions.values())):
        if _in_order(root, set()):
            continue
        try:
            root.sort()
        except ValueError:
            raise ModelError(f"the graph is cyclic: the node {_on_a_cycle(root)} depends on its own result") from None
        if not _in_order(root, set()):
            raise ModelError("the graph is cyclic: a node depends on its own result")


def _in_order(graph: ir.Graph, done: set[ir.Node]) -> bool:
    for node in graph:
        if any(made is not None and made not in done for value in node.inputs if value is not None for made in (value.producer(),)):
            return False
        if not all(_in_order(inner, done) for inner in subgraphs_of(node)):
            return False
        done.add(node)
    return True


def _on_a_cycle(root: ir.Graph) -> str:
    """The label of a node that can be reached from itself: depth first, a node met again while it is open."""
    is_open: dict[ir.Node, bool] = {}
    for start in root.all_nodes():
        if start in is_open:
            continue
        is_open[start] = True
        stack = [(start, iter(_needs(start)))]
        while stack:
            node, needs = stack[-1]
            need = next(needs, None)
            if need is None:
                is_open[node] = False
                stack.pop()
            elif need not in is_open:
                is_open[need] = True
                stack.append((need, iter(_needs(need))))
            elif is_open[need]:
                return node_label(need)
    return "?"


def _needs(node: ir.Node) -> list[ir.Node]:
    made = [value.producer() for value in node.inputs if value is not None]
    return [need for need in made if need is not None] + [inner for graph in subgraphs_of(node) for inner in graph]


def settle_names(model: ir.Model) -> None:
    """Names that nothing else in the model has: inputs and outputs of the model keep theirs, what is nested gives way."""
    names = Names(model)
    values: set[str] = set()
    nodes: set[str] = set()
    for graph in all_graphs(model):
        made = (value for node in graph for value in node.outputs)
        for value in dict.fromkeys([*graph.inputs, *graph.initializers.values(), *made]):
            if value.name and value.name in values:
                value.name = names.fresh(value.name)
            values.add(value.name or "")
        for node in graph:
            if not node.name or node.name in nodes:
                node.name = names.fresh(node.name or node.op_type.lower())
            nodes.add(node.name)
