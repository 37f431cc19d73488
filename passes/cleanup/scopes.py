"""What may be seen from where."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from ...compiler.core.graph import all_graphs


def ambiguous_names(model: ir.Model) -> frozenset[str]:
    """The names that more than one value of the model has: inside a subgraph, such a name may mean another value than outside."""
    count: Counter[str] = Counter()
    for graph in all_graphs(model):
        here = {value.name for value in graph.inputs} | set(graph.initializers)
        count.update(name for name in here if name)
        count.update(value.name for node in graph for value in node.outputs if value.name)
    return frozenset(name for name, times in count.items() if times > 1)
