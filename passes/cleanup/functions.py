"""Calls of the model's own functions, written out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.graph import all_graphs, bind_opsets, erase, node_label, replace, subgraphs_of
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.target import STANDARD_DOMAINS

RULE = "inline-function"
ADDITIVE_SINCE = 21
"""From this opset on, up to today's, the standard operators' forms only grew: a node of an older one means the same in a newer one."""


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Puts a copy of its body in place of every call of a model-local function, and takes the functions out that are called no more.

    A call is left when the function is recursive, takes a graph as attribute, or was written for another opset than the model's and
    one of its operators differs between the two. Standard operators that are defined as functions are no calls.
    """

    name: ClassVar[str] = "inline-functions"
    drift: ClassVar[Drift] = Drift.EXACT

    def run(self, model: ir.Model, context: Context) -> int:
        """Inline in place; returns how many calls were replaced."""
        if not model.functions:
            return 0
        inlined = _Inliner(model, context).run()
        if inlined:
            for key in uncalled(model):
                del model.functions[key]
            bind_opsets(model)
        return inlined


def uncalled(model: ir.Model) -> list[ir.OperatorIdentifier]:
    """The functions that no graph calls, directly or through another function."""
    called = _reachable(model, (node for graph in all_graphs(model) for node in graph))
    return [key for key in model.functions if key not in called]


def _reachable(model: ir.Model, nodes: Iterator[ir.Node]) -> set[ir.OperatorIdentifier]:
    found: set[ir.OperatorIdentifier] = set()
    stack = [node.op_identifier() for node in nodes]
    while stack:
        key = stack.pop()
        if key in model.functions and key not in found:
            found.add(key)
            stack.extend(node.op_identifier() for node in model.functions[key].all_nodes())
    return found


def _recursive(model: ir.Model) -> set[ir.OperatorIdentifier]:
    """The functions that call themselves, or one that does."""
    calls = {key: {node.op_identifier() for node in function.all_nodes()} & model.functions.keys() for key, function in model.functions.items()}
    callers: dict[ir.OperatorIdentifier, list[ir.OperatorIdentifier]] = {}
    for key, called in calls.items():
        for other in called:
            callers.setdefault(other, []).append(key)
    settled = [key for key, called in calls.items() if not called]
    for key in settled:
        for caller in callers.get(key, ()):
            calls[caller].discard(key)
            if not calls[caller]:
                settled.append(caller)
    return calls.keys() - settled


class _Inliner:
    """Writes out the calls of one model."""

    def __init__(self, model: ir.Model, context: Context) -> None:
        self.model = model
        self.context = context
        self.names = Names(model)
        self.recursive = _recursive(model)

    def run(self) -> int:
        inlined = 0
        stack = self._calls(node for graph in all_graphs(self.model) for node in graph)
        while stack:
            node = stack.pop()
            reason = self._refusal(node)
            where = next((value.name for value in node.outputs if value.name), None) or ""
            if reason is not None:
                self._note(where, f"{node_label(node)}: {reason}")
            elif self.context.ledger.permit(RULE, where):
                body = self._inline(node)
                stack += self._calls(inner for made in body for inner in _with_nested(made))
                inlined += 1
        return inlined

    def _calls(self, nodes: Iterator[ir.Node]) -> list[ir.Node]:
        """The calls among ``nodes``, last one first."""
        return [node for node in nodes if node.op_identifier() in self.model.functions][::-1]

    def _note(self, where: str, reason: str) -> None:
        if self.context.reasons is not None and self.context.reasons.wants(RULE):
            self.context.reasons.note(RULE, where, 0, reason)

    def _refusal(self, node: ir.Node) -> str | None:
        """Why a call stays, or None."""
        key = node.op_identifier()
        function = self.model.functions[key]
        if key in self.recursive:
            return "the function calls itself, or one that does"
        if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
            return "it has more inputs or outputs than the function"
        if subgraphs_of(node) or any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in function.attributes.values()):
            return "the function takes a graph as attribute"
        return self._clash(function)

    def _clash(self, function: ir.Function) -> str | None:
        """The first operator of the body that is another one in the model's opset."""
        for node in function.all_nodes():
            if node.op_identifier() in self.model.functions:
                continue
            wanted, present = (_version(imports, node.domain) for imports in (function.opset_imports, self.model.opset_imports))
            if present and wanted != present and not _means_the_same(node.op_type, node.domain, wanted, present):
                return f"it uses {node.op_type} of opset {wanted}, and the model imports opset {present}"
        return None

    def _inline(self, node: ir.Node) -> list[ir.Node]:
        """Replace one call; returns the nodes that stand for it."""
        function = self.model.functions[node.op_identifier()]
        self._import_what_it_uses(function)
        copy = function.clone().graph
        inner = list(copy.all_nodes())
        for made in inner:
            _resolve_attributes(made, node, function)
            made.metadata_props.update({key: text for key, text in node.metadata_props.items() if key not in made.metadata_props})
            self._rename(made)
        actual = dict(zip(copy.inputs, [*node.inputs, *[None] * (len(copy.inputs) - len(node.inputs))], strict=True))
        results = [actual.get(value, value) for value in copy.outputs]
        copy.outputs.clear()
        for formal, given in actual.items():
            _bind(formal, given)
        body = list(copy)
        copy.remove(body)
        if node.graph is not None:
            node.graph.insert_before(node, body)
        for old, new in zip(node.outputs, results, strict=False):
            self._hand_over(old, new, set(inner))
        erase(node)
        return body

    def _import_what_it_uses(self, function: ir.Function) -> None:
        for domain in dict.fromkeys(node.domain for node in function.all_nodes()):
            version = _version(function.opset_imports, domain)
            if version and not _version(self.model.opset_imports, domain):
                self.model.opset_imports[domain] = version

    def _rename(self, node: ir.Node) -> None:
        """Give a copied node, its outputs and the values of its subgraphs names of their own; forget symbols, which are the function's."""
        node.name = self.names.fresh(node.name) if node.name else None
        owned = [*node.outputs]
        for graph in subgraphs_of(node):
            owned += [*graph.inputs, *list(graph.initializers.values())]
        for value in owned:
            if value.name:
                value.name = self.names.fresh(value.name)
            if value.shape is not None:
                value.shape = ir.Shape([dim if isinstance(dim, int) else None for dim in value.shape])

    def _hand_over(self, old: ir.Value, new: ir.Value | None, inner: set[ir.Node]) -> None:
        """Let the readers of an output of the call read what the body made of it; it keeps its name where it can."""
        if new is None:
            _bind(old, None)
            return
        made_here = new.producer() in inner
        if made_here and new.type is None:
            new.type = old.type
        if made_here and old.shape is not None:
            new.shape = old.shape
        output = old.is_graph_output()
        replace(old, new, self.names)
        if made_here and not output and old.name and not new.is_graph_output():
            new.name, old.name = old.name, new.name


def _with_nested(node: ir.Node) -> Iterator[ir.Node]:
    yield node
    for graph in subgraphs_of(node):
        yield from graph.all_nodes()


def _resolve_attributes(node: ir.Node, call: ir.Node, function: ir.Function) -> None:
    """Put the call's attributes, or the function's defaults, where the body refers to them; what neither gives is left out."""
    for name, attr in list(node.attributes.items()):
        if not attr.is_ref():
            continue
        del node.attributes[name]
        wanted = attr.ref_attr_name or ""
        given = call.attributes.get(wanted) or function.attributes.get(wanted)
        if given is not None and given.value is not None:
            node.attributes[name] = ir.Attr(name, given.type, given.value)


def _bind(formal: ir.Value, given: ir.Value | None) -> None:
    """Let every reader of ``formal`` read ``given``; an input that is not given is left out."""
    for user, index in formal.uses():
        user.replace_input_with(index, given)
        if given is None:
            _trim(user)


def _trim(node: ir.Node) -> None:
    count = len(node.inputs)
    while count and node.inputs[count - 1] is None:
        count -= 1
    node.resize_inputs(count)


def _version(imports: dict[str, int], domain: str) -> int:
    names: Sequence[str] = STANDARD_DOMAINS if domain in STANDARD_DOMAINS else (domain,)
    return next((imports[name] for name in names if name in imports), 0)


def _means_the_same(op_type: str, domain: str, wanted: int, present: int) -> bool:
    """Whether an operator of opset ``wanted`` is the same in opset ``present``."""
    older, newer = _since(op_type, domain, wanted), _since(op_type, domain, present)
    if older is None or newer is None:
        return False
    return older == newer or (domain in STANDARD_DOMAINS and ADDITIVE_SINCE <= wanted <= present)


@functools.cache
def _since(op_type: str, domain: str, version: int) -> int | None:
    try:
        return onnx.defs.get_schema(op_type, version, "" if domain in STANDARD_DOMAINS else domain).since_version
    except onnx.defs.SchemaError:
        return None
