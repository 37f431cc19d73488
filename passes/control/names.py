"""Names in bodies: one for each value, so that what moves from one graph to another means the same there."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.graph import all_graphs, subgraphs_of
from ...compiler.core.names import Names


def settle_names(model: ir.Model) -> None:
    """Give every value inside a body a name that no other value of the model has, and every result of a node with bodies a name.

    Names in a body mean nothing outside; ONNX Runtime 1.32 crashes where a result of a Loop has none.
    """
    taken = {value.name for value in _values(model.graph)}
    names: Names | None = None
    for node in (node for graph in all_graphs(model) for node in graph if subgraphs_of(node)):
        for value in node.outputs:
            if not value.name:
                names = names or Names(model)
                value.name = names.fresh(f"{node.op_type}_unread")
    for graph in all_graphs(model):
        if graph is model.graph:
            continue
        for value in _values(graph):
            if value.name and value.name in taken:
                names = names or Names(model)
                value.name = names.fresh(value.name)
            taken.add(value.name)


def _values(graph: ir.Graph) -> list[ir.Value]:
    """The values that a graph itself defines."""
    made = [value for node in graph for value in node.outputs if value.name]
    constants = [value for value in graph.initializers.values() if not value.is_graph_input()]
    return [*graph.inputs, *constants, *made]
