"""Constants have one form: initialisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.graph import all_graphs, constant, erase, is_op, make_constant
from ...compiler.core.passes import Context, Pass

RULE = "constant-to-initialiser"
FREE_INITIALISERS = 4
"""The first IR version whose initialisers need not be graph inputs, too."""


@dataclass(frozen=True)
class ConstantsToInitialisers(Pass):
    """Turns every Constant node into an initialiser of its graph, of the same name; the tensor is shared, not copied.

    One that is an output of its graph stays a node: not every runtime takes an initialiser there.
    """

    name: ClassVar[str] = "constants-to-initialisers"
    drift: ClassVar[Drift] = Drift.EXACT

    def run(self, model: ir.Model, context: Context) -> int:
        """Change ``model`` in place; returns how many nodes became initialisers."""
        changed = 0
        for graph in all_graphs(model):
            for node in graph:
                changed += is_op(node, "Constant") and _change(graph, node, context)
        if changed and (model.ir_version or 0) < FREE_INITIALISERS:
            model.ir_version = FREE_INITIALISERS
        return changed


def _change(graph: ir.Graph, node: ir.Node, context: Context) -> bool:
    made = node.outputs[0]
    tensor = constant(made)
    if tensor is None or not made.name or made.is_graph_output() or not context.ledger.permit(RULE, made.name):
        return False
    name, made.name = made.name, None
    held = make_constant(graph, tensor, name)
    held.metadata_props.update(made.metadata_props)
    made.replace_all_uses_with(held)
    erase(node)
    return True
