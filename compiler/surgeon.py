"""A user's own pass: a function on an onnx-graphsurgeon graph, as in the TensorRT world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import onnx_ir as ir

from .core.drift import ROUNDING
from .core.errors import BackendMissing, PassError
from .core.graph import all_graphs, bind_opsets
from .core.names import Names
from .core.passes import Context, Pass

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

SurgeonFunction = Callable[["gs.Graph"], "gs.Graph | None"]


@dataclass(frozen=True)
class Operation:
    """A function on ``gs.Graph``; it may change the graph in place or return another. Reads as its name."""

    function: SurgeonFunction

    def __str__(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__)).replace("_", "-")


@dataclass(frozen=True)
class SurgeonPass(Pass):
    """Runs a user's function on the graph. What it does counts as one rewrite, and is verified as such."""

    name = "graph-surgeon"
    drift = ROUNDING

    function: Operation

    @property
    def label(self) -> str:
        """The function's name."""
        return str(self.function)

    def run(self, model: ir.Model, context: Context) -> int:
        """Returns 1 when the function changed the model. Raises PassError when it fails, or leaves other inputs or outputs than there were."""
        surgeon = _import_surgeon()
        proto = ir.to_proto(model)
        untouched = surgeon.export_onnx(surgeon.import_onnx(proto))
        graph = surgeon.import_onnx(proto)
        try:
            answer = self.function.function(graph)
            changed = surgeon.export_onnx(graph if answer is None else answer)
        except Exception as error:
            raise PassError(f"the pass '{self.label}' failed: {type(error).__name__}: {error}") from error
        if changed == untouched or not context.ledger.permit(self.label, model.graph.outputs[0].name or ""):
            return 0
        _take_over(model, ir.from_proto(changed), self.label)
        return 1


def _import_surgeon() -> ModuleType:
    try:
        import onnx_graphsurgeon
    except ImportError:
        raise BackendMissing("a pass on gs.Graph needs onnx-graphsurgeon: pip install 'graphwright[graphsurgeon]'") from None
    return onnx_graphsurgeon


def _take_over(model: ir.Model, changed: ir.Model, label: str) -> None:
    """Put the changed graph into ``model``, with what graphsurgeon does not carry: overridable initialisers, metadata, unique names."""
    old, new = model.graph, changed.graph
    _restore_inputs(old, new)
    for kind, before, after in (("inputs", old.inputs, new.inputs), ("outputs", old.outputs, new.outputs)):
        names = [value.name for value in before], [value.name for value in after]
        if names[0] != names[1]:
            raise PassError(f"the pass '{label}' changed the model's {kind} from {names[0]} to {names[1]}; a pass may only change what lies between")
    _restore_metadata(old, new)
    model.graph = new
    model.functions.clear()
    model.functions.update(changed.functions)
    bind_opsets(model)
    _rename_copies(model)


def _restore_inputs(old: ir.Graph, new: ir.Graph) -> None:
    """graphsurgeon takes an initialiser that callers may override for a constant: make it an input again, in its place."""
    kept = {value.name for value in new.inputs}
    for position, value in enumerate(old.inputs):
        name = value.name or ""
        if name not in kept and name in new.initializers:
            new.inputs.insert(position, new.initializers[name])


def _restore_metadata(old: ir.Graph, new: ir.Graph) -> None:
    new.doc_string = old.doc_string
    new.metadata_props.update(old.metadata_props)
    before = {node.outputs[0].name: node for node in old.all_nodes() if node.outputs}
    for node in new.all_nodes():
        source = before.get(node.outputs[0].name) if node.outputs else None
        if source is not None and source.op_type == node.op_type:
            node.doc_string = source.doc_string
            node.metadata_props.update(source.metadata_props)


def _rename_copies(model: ir.Model) -> None:
    """graphsurgeon copies an outer initialiser into every branch that reads it, under one name: give each copy its own."""
    names = Names(model)
    seen: set[str] = set()
    for graph in all_graphs(model):
        for name, value in list(graph.initializers.items()):
            if name in seen:
                value.name = names.fresh(name)
            seen.add(value.name or "")
