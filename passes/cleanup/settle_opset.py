"""The opset a model was lifted from, once nothing needs the later one any more."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.engine import CANONICAL_OPSET, LATEST_LIFT, LIFTED_FROM
from ...compiler.core.graph import bind_opsets, node_label, opset
from ...compiler.core.passes import Context, Pass
from ...compiler.core.target import STANDARD_DOMAINS

RULE = "settle-opset"


@dataclass(frozen=True)
class SettleOpset(Pass):
    """Sets a model that a rule lifted to a later opset back to the earliest one, from where it came on, that has all its operators.

    A model that came with a later opset keeps it.
    """

    name: ClassVar[str] = RULE
    drift: ClassVar[Drift] = Drift.EXACT

    def run(self, model: ir.Model, context: Context) -> int:
        """Change the import in place; returns 1 if it did."""
        before, present = model.graph.meta.get(LIFTED_FROM), opset(model)
        if not isinstance(before, int) or not CANONICAL_OPSET <= before < present <= LATEST_LIFT:
            return 0
        wanted = before
        for node in _standard_nodes(model):
            wanted = max(wanted, _needed(node, before, present))
            if wanted == present:
                _note(context, f"{node_label(node)} needs opset {present}")
                return 0
        if not context.ledger.permit(RULE, next((value.name or "" for value in model.graph.outputs), "")):
            return 0
        for body in _bodies(model):
            for domain in STANDARD_DOMAINS:
                if body.opset_imports.get(domain) == present:
                    body.opset_imports[domain] = wanted
        bind_opsets(model)
        return 1


def _bodies(model: ir.Model) -> tuple[ir.Graph | ir.Function, ...]:
    return (model.graph, *model.functions.values())


def _standard_nodes(model: ir.Model) -> Iterator[ir.Node]:
    for body in _bodies(model):
        yield from (node for node in body.all_nodes() if node.domain in STANDARD_DOMAINS and node.op_identifier() not in model.functions)


def _needed(node: ir.Node, earliest: int, present: int) -> int:
    """The first opset from ``earliest`` on whose form of the operator takes the node; ``present`` when there is none before."""
    return next((version for version in range(earliest, present) if _takes(_form(node.op_type, version), node)), present)


def _takes(form: _Form | None, node: ir.Node) -> bool:
    if form is None or not node.attributes.keys() <= form.attributes:
        return False
    to = node.attributes.get("to")
    if to is not None and not to.is_ref() and ir.DataType(to.as_int()) not in form.outputs.dtypes[0]:
        return False
    return form.inputs.take(node.inputs) and form.outputs.take(node.outputs)


@dataclass(frozen=True)
class _Formals:
    """The dtypes that each operand may have; the last one's hold for all that follow when there may be any number."""

    dtypes: tuple[frozenset[ir.DataType], ...]
    variadic: bool

    def take(self, values: Sequence[ir.Value | None]) -> bool:
        """Whether there may be so many operands of these types."""
        if len(values) > len(self.dtypes) and not self.variadic:
            return False
        tensors = [(place, value) for place, value in enumerate(values) if value is not None and isinstance(value.type, ir.TensorType)]
        return all(value.dtype in self.dtypes[min(place, len(self.dtypes) - 1)] for place, value in tensors)


@dataclass(frozen=True)
class _Form:
    """What an operator takes and makes in one opset."""

    inputs: _Formals
    outputs: _Formals
    attributes: frozenset[str]


@functools.cache
def _form(op_type: str, version: int) -> _Form | None:
    try:
        schema = onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    return _Form(_formals(schema.inputs), _formals(schema.outputs), frozenset(schema.attributes))


def _formals(declared: Sequence[onnx.defs.OpSchema.FormalParameter]) -> _Formals:
    variadic = bool(declared) and declared[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return _Formals(tuple(_dtypes(formal.types) for formal in declared), variadic)


def _dtypes(texts: Iterable[str]) -> frozenset[ir.DataType]:
    names = {text.removeprefix("tensor(").removesuffix(")") for text in texts}
    return frozenset(dtype for dtype in ir.DataType if dtype.name.lower() in names)


def _note(context: Context, reason: str) -> None:
    if context.reasons is not None and context.reasons.wants(RULE):
        context.reasons.note(RULE, "opset", 0, reason)
