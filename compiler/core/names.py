"""Names that nobody has yet."""

from __future__ import annotations

import onnx_ir as ir


class Names:
    """Hands out value and node names that are unique over a whole model, subgraphs and functions included."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}
        self._ready = False

    def _look(self) -> None:
        """Collect the names there are; most passes never ask for a fresh one."""
        self._ready = True
        graphs: list[ir.Graph | ir.Function] = [self._model.graph, *self._model.functions.values()]
        for graph in graphs:
            self._note(graph)

    def _note(self, graph: ir.Graph | ir.Function) -> None:
        for value in graph.inputs:
            self._taken.add(value.name or "")
        if isinstance(graph, ir.Graph):
            self._taken.update(graph.initializers)
        for node in graph.all_nodes():
            self._taken.add(node.name or "")
            self._taken.update(value.name or "" for value in node.outputs)
            for attr in node.attributes.values():
                for inner in subgraphs(attr):
                    self._taken.update(value.name or "" for value in inner.inputs)
                    self._taken.update(inner.initializers)

    def fresh(self, hint: str) -> str:
        """A name starting with ``hint`` that no value or node of the model has."""
        if not self._ready:
            self._look()
        number = self._next.get(hint, 0)
        name = hint if number == 0 else f"{hint}_{number}"
        while name in self._taken:
            number += 1
            name = f"{hint}_{number}"
        self._next[hint] = number + 1
        self._taken.add(name)
        return name


def subgraphs(attr: ir.Attr) -> tuple[ir.Graph, ...]:
    """The graphs an attribute holds: none, one or several."""
    if attr.type == ir.AttributeType.GRAPH:
        return (attr.as_graph(),)
    if attr.type == ir.AttributeType.GRAPHS:
        return tuple(attr.as_graphs())
    return ()
