"""What a model says beyond what it computes; only on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.graph import all_graphs
from ...compiler.core.passes import Context, Pass

RULE = "strip-metadata"
Described = ir.Graph | ir.Node | ir.Value


@dataclass(frozen=True)
class StripMetadata(Pass):
    """Takes documentation and metadata off graphs, nodes and values; with ``names``, the names of nodes too.

    The model's own metadata, which programs read (labels, sizes, how to feed it), and the names of values stay.
    """

    name: ClassVar[str] = "strip-metadata"
    drift: ClassVar[Drift] = Drift.EXACT

    names: bool = False

    def run(self, model: ir.Model, context: Context) -> int:
        """Change ``model`` in place; returns how many graphs, nodes and values said less afterwards."""
        said = [item for graph in all_graphs(model) for item in _described(graph) if self._says_more(item)]
        where = next((value.name or "" for value in model.graph.outputs), "")
        if not said or not context.ledger.permit(RULE, where):
            return 0
        for item in said:
            item.doc_string = None
            item.metadata_props.clear()
            if self.names and isinstance(item, ir.Node):
                item.name = None
        return len(said)

    def _says_more(self, item: Described) -> bool:
        return bool(item.doc_string or item.metadata_props or (self.names and isinstance(item, ir.Node) and item.name))


def _described(graph: ir.Graph) -> Iterator[Described]:
    yield graph
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield node
        yield from node.outputs
