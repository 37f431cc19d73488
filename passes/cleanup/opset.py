"""One opset for every rule to rely on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.errors import ModelError
from ...compiler.core.graph import all_graphs, bind_opsets, clone_model, node_label, subgraphs_of
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import infer_shapes
from ...compiler.core.target import STANDARD_DOMAINS
from .opset_adapters.climb import OPSET, climb, fits, place, stays_as_it_is, steps_from
from .opset_adapters.step import Pen, Refusal

IR_VERSION = 10
"""The first IR version that opset 21 may be written in."""
Body = ir.Graph | ir.Function


@dataclass(frozen=True)
class NormaliseOpset(Pass):
    """Brings a model of opset 1 to 20, its functions included, to the forms of opset 21; newer models have those forms already.

    All nodes or none: when one has no equal in opset 21, the model keeps its opset and the reason is noted. Also gives the standard
    operators' domain its one spelling, "", and an import where the model has none.

    The outputs keep every bit, with three exceptions due to ONNX Runtime: it sums an AveragePool in another order since opset 19, it
    rounds halves at other places where it computes them as floats, and it had experiments of its own (ScaledTanh, ParametricSoftplus).
    """

    name: ClassVar[str] = "normalise-opset"
    drift: ClassVar[Drift] = Drift.ROUNDING

    def run(self, model: ir.Model, context: Context) -> int:
        """Raise the model; returns how many changes were made: one for the import, one for all nodes together."""
        return _import_standard_domain(model, context) + _raise_model(model, context)


def _import_standard_domain(model: ir.Model, context: Context) -> int:
    """The default domain is imported exactly once, as ""."""
    bodies = [body for body in _bodies(model) if "ai.onnx" in body.opset_imports]
    version = _version_of(model.graph) or _unsaid_version(model)
    missing = version > 0 and not _version_of(model.graph)
    if version == 0:
        _note(context, "import-standard-domain", _where(model), "the model imports no opset, and its nodes do not have today's forms")
    if not (bodies or missing) or not context.ledger.permit("import-standard-domain", _where(model)):
        return 0
    for body in bodies:
        body.opset_imports.setdefault("", body.opset_imports.pop("ai.onnx"))
    if missing:
        model.graph.opset_imports[""] = version
    bind_opsets(model)
    return 1


def _unsaid_version(model: ir.Model) -> int:
    """What a model without the import means: opset 1 in the first two IR versions, today's forms ever since; 0 if its nodes are not so."""
    if model.ir_version is not None and model.ir_version < 3:
        return 1
    return OPSET if all(fits(node) for node in _standard_nodes(model, model.graph)) else 0


def _raise_model(model: ir.Model, context: Context) -> int:
    bodies = [body for body in _bodies(model) if 0 < _version_of(body) < OPSET]
    if not bodies:
        return 0
    plan = _plan(model)
    if plan:
        _learn_types(model, plan)
        copy = clone_model(model)
        refusals = _rewrite(copy, _plan(copy))
        for where, reason in refusals:
            _note(context, "normalise-opset", where, reason)
        if refusals:
            return 0
    if not context.ledger.permit("normalise-opset", _where(model)):
        return 0
    _rewrite(model, plan)
    for body in bodies:
        _stamp(body)
    model.ir_version = max(model.ir_version or 0, IR_VERSION)
    bind_opsets(model)
    return 1


Plan = list[tuple[ir.Node, Body]]


def _plan(model: ir.Model) -> Plan:
    """The nodes whose form changes, or that have no way up, each with the graph or function that says its opset."""
    found: Plan = []
    for body in _bodies(model):
        version = _version_of(body)
        if 0 < version < OPSET:
            found += [(node, body) for node in _standard_nodes(model, body) if not stays_as_it_is(node.op_type, version)]
    return found


def _rewrite(model: ir.Model, plan: Plan) -> list[tuple[str, str]]:
    """Raise the planned nodes; returns where one refused, and why."""
    names = Names(model)
    refusals: list[tuple[str, str]] = []
    for node, body in plan:
        pen = Pen(names)
        try:
            climb(node, _version_of(body), pen)
        except Refusal as refusal:
            refusals.append((_first_output(node), f"{node_label(node)}: {refusal}"))
            continue
        place(pen, node, names, in_function=isinstance(body, ir.Function))
    return refusals


def _learn_types(model: ir.Model, plan: Plan) -> None:
    """Work out dtypes and ranks where an adapter looks at them and the model does not say."""
    looking = (node for node, body in plan if any(step.typed for step in steps_from(node.op_type, _version_of(body))))
    if all(value is None or (value.dtype is not None and value.shape is not None) for node in looking for value in node.inputs):
        return
    copy = clone_model(model)
    try:
        infer_shapes(copy)
    except ModelError:
        return
    for graph, twin in zip(all_graphs(model), all_graphs(copy), strict=True):
        for node, same in zip(graph, twin, strict=True):
            for value, inferred in zip(node.outputs, same.outputs, strict=True):
                _learn(value, inferred)


def _learn(value: ir.Value, inferred: ir.Value) -> None:
    if value.type is None:
        value.type = inferred.type
    if value.shape is None and inferred.shape is not None:
        value.shape = ir.Shape([dim if isinstance(dim, int) else None for dim in inferred.shape])


def _bodies(model: ir.Model) -> tuple[Body, ...]:
    return (model.graph, *model.functions.values())


def _version_of(body: Body) -> int:
    """The version of the standard operators that a graph or function imports; 0 when it imports none."""
    return next((body.opset_imports[name] for name in STANDARD_DOMAINS if name in body.opset_imports), 0)


def _standard_nodes(model: ir.Model, body: Body) -> Iterator[ir.Node]:
    """The nodes of a graph or function that are standard operators, each followed by those of its subgraphs."""
    stack = [iter(body)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        if node.domain in STANDARD_DOMAINS and node.op_identifier() not in model.functions:
            yield node
        stack.extend(iter(graph) for graph in reversed(subgraphs_of(node)))


def _stamp(body: Body) -> None:
    body.opset_imports[""] = OPSET
    for node in body.all_nodes():
        if node.domain in STANDARD_DOMAINS:
            node.version = None


def _where(model: ir.Model) -> str:
    return next((value.name or "" for value in model.graph.outputs), "")


def _first_output(node: ir.Node) -> str:
    return next((value.name for value in node.outputs if value.name), "")


def _note(context: Context, rule: str, where: str, reason: str) -> None:
    if context.reasons is not None and context.reasons.wants(rule):
        context.reasons.note(rule, where, 0, reason)
