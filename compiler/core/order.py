"""Where nodes stand in their graph, and whether replacing several at once would make the graph cyclic."""

from __future__ import annotations

import onnx_ir as ir

from .graph import all_graphs, node_label, subgraphs_of, users
from .reasons import Skip, skip
from .rule import Match


class Order:
    """Positions of a model's nodes, counted when first needed; a node made later has none and is always looked at."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._position: dict[ir.Node, int] | None = None
        self._owner: dict[ir.Graph, ir.Node] = {}

    def _count(self) -> dict[ir.Node, int]:
        if self._position is None:
            self._position = {}
            for graph in all_graphs(self._model):
                for index, node in enumerate(graph):
                    self._position[node] = index
                    self._owner.update(dict.fromkeys(subgraphs_of(node), node))
        return self._position

    def refusal(self, match: Match) -> Skip | None:
        """Why the match cannot become one piece: something outside it lies on a path from one of its nodes to another (it is not convex)."""
        roots = {value.producer() for value in match.outputs}
        if len(roots) == 1:
            return None
        position = self._count()
        last = max((position.get(node, 0) for node in match.nodes), default=0)
        stack = [node for value in match.outputs for node in self._readers(value, match)]
        seen: set[ir.Node] = set(stack)
        while stack:
            node = stack.pop()
            if node in match.nodes:
                return skip("%s reads what the match makes, by way of nodes outside it", node_label(node))
            if position.get(node, 0) > last:
                continue
            following = [reader for value in node.outputs for reader in self._readers(value, None) if reader not in seen]
            seen.update(following)
            stack.extend(following)
        return None

    def _readers(self, value: ir.Value, match: Match | None) -> list[ir.Node]:
        """The users of a value, each seen in the graph of the value's own maker."""
        graph = value.graph
        found = [self._lifted(node, graph) for node in users(value)]
        return [node for node in found if node is not None and (match is None or node not in match.nodes)]

    def _lifted(self, node: ir.Node | None, graph: ir.Graph | None) -> ir.Node | None:
        while node is not None and node.graph is not graph:
            node = self._owner.get(node.graph) if isinstance(node.graph, ir.Graph) else None
        return node
