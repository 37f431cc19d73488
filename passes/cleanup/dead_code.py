"""What nobody needs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.graph import all_graphs, attribute, bind_opsets, erase, opset, subgraphs_of
from ...compiler.core.passes import Context, Pass
from ...compiler.core.target import STANDARD_DOMAINS
from .functions import uncalled

NODE, OUTPUT, INITIALISER, FUNCTION, IMPORT = "remove-node", "drop-output", "remove-initialiser", "remove-function", "remove-import"


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Removes nodes whose outputs are not used, optional outputs that are not used, initialisers, functions and imports without users.

    Graph inputs and outputs stay, and so do nodes without any output, which can only be there for an effect.
    """

    name: ClassVar[str] = "eliminate-dead-code"
    drift: ClassVar[Drift] = Drift.EXACT

    def run(self, model: ir.Model, context: Context) -> int:
        """Change ``model`` in place; returns how many things went."""
        removed = sum(_remove_functions(model, context))
        for body in (model.graph, *(function.graph for function in model.functions.values())):
            removed += _remove_nodes(body, context, opset(body) or opset(model))
        for graph in all_graphs(model):
            removed += _remove_initialisers(graph, context)
        return removed + _remove_imports(model, context)


def _remove_functions(model: ir.Model, context: Context) -> list[bool]:
    gone = [key for key in uncalled(model) if context.ledger.permit(FUNCTION, "::".join(filter(None, key)))]
    for key in gone:
        del model.functions[key]
    return [True for _ in gone]


def _remove_nodes(graph: ir.Graph, context: Context, version: int) -> int:
    """Users before makers, so that one walk is enough; a subgraph's nodes before those that feed it."""
    removed = 0
    for node in reversed(graph):
        if _is_dead(node) and context.ledger.permit(NODE, next((value.name for value in node.outputs if value.name), "")):
            erase(node)
            removed += 1
            continue
        removed += sum(_remove_nodes(inner, context, version) for inner in subgraphs_of(node))
        removed += _drop_outputs(node, context, version)
    return removed


def _is_dead(node: ir.Node) -> bool:
    return bool(node.outputs) and not any(_is_needed(value) for value in node.outputs)


def _is_needed(value: ir.Value) -> bool:
    return value.is_graph_output() or bool(value.uses())


def _drop_outputs(node: ir.Node, context: Context, version: int) -> int:
    """Leave the optional outputs that nobody reads off the end, and empty among others."""
    optional = _optional_outputs(node.op_type, version) if node.domain in STANDARD_DOMAINS else frozenset()
    if not optional or _outputs_say_how(node, version):
        return 0
    idle = [(index, value) for index, value in enumerate(node.outputs) if index in optional and value.name and not _is_needed(value)]
    dropped = 0
    for _, value in idle:
        if context.ledger.permit(OUTPUT, value.name or ""):
            value.name = ""
            dropped += 1
    count = len(node.outputs)
    while dropped and count > 1 and count - 1 in optional and not node.outputs[count - 1].name:
        count -= 1
    node.resize_outputs(count)
    return dropped


def _outputs_say_how(node: ir.Node, version: int) -> bool:
    """Whether the operator computes something else when it has fewer outputs: BatchNormalization that trains."""
    return node.op_type == "BatchNormalization" and (version < 14 or bool(attribute(node, "training_mode")))


@functools.cache
def _optional_outputs(op_type: str, version: int) -> frozenset[int]:
    try:
        schema = onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return frozenset()
    kind = onnx.defs.OpSchema.FormalParameterOption.Optional
    return frozenset(index for index, formal in enumerate(schema.outputs) if formal.option == kind)


def _remove_initialisers(graph: ir.Graph, context: Context) -> int:
    idle = [value for value in graph.initializers.values() if not (value.is_graph_input() or _is_needed(value))]
    gone = [value for value in idle if context.ledger.permit(INITIALISER, value.name or "")]
    for value in gone:
        del graph.initializers[value.name or ""]
    return len(gone)


def _remove_imports(model: ir.Model, context: Context) -> int:
    """The standard domain stays imported; what a function imports, the model imports too."""
    needed = {"", *STANDARD_DOMAINS, *(node.domain for graph in all_graphs(model) for node in graph)}
    for function in model.functions.values():
        needed.update((function.domain, *function.opset_imports))
    gone = [domain for domain in model.graph.opset_imports if domain not in needed and context.ledger.permit(IMPORT, domain)]
    for domain in gone:
        del model.graph.opset_imports[domain]
    if gone:
        bind_opsets(model)
    return len(gone)
