"""Takes one node up through every version of its operator."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from ....compiler.core.graph import replace
from ....compiler.core.modules import modules_below
from ....compiler.core.names import Names
from .step import EXPERIMENTAL, Pen, Refusal, Step, steps_of

OPSET = 21


@dataclass(frozen=True)
class Form:
    """What a node of an operator may look like in opset 21."""

    least_inputs: int
    most_inputs: int
    attributes: frozenset[str]
    required: frozenset[str]


@functools.cache
def form(op_type: str) -> Form | None:
    """The opset-21 form of a standard operator; None when opset 21 has none of that name."""
    try:
        schema = onnx.defs.get_schema(op_type, OPSET, "")
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    declared = schema.attributes
    required = frozenset(name for name, item in declared.items() if item.required)
    return Form(schema.min_input, schema.max_input, frozenset(declared), required)


def fits(node: ir.Node) -> bool:
    """Whether a node has the form its operator has in opset 21."""
    wanted = form(node.op_type)
    if wanted is None or not wanted.least_inputs <= len(node.inputs) <= wanted.most_inputs:
        return False
    return wanted.required <= node.attributes.keys() <= wanted.attributes


@functools.cache
def adapters() -> dict[tuple[str, int], Step]:
    """Every step at which a form changed, by operator and the version it leads to (`EXPERIMENTAL` for one that was no release)."""
    found: dict[tuple[str, int], Step] = {}
    for module in modules_below("passes.cleanup.opset_adapters"):
        for item in vars(module).values():
            for step in steps_of(item):
                found[step.op, step.version] = step
    return found


@functools.cache
def versions() -> dict[str, tuple[int, ...]]:
    """The versions at which each standard operator changed, up to opset 21, in order."""
    found: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= OPSET:
            found.setdefault(schema.name, set()).add(schema.since_version)
    return {name: tuple(sorted(since)) for name, since in found.items()}


@functools.cache
def steps_from(op_type: str, version: int) -> tuple[Step, ...]:
    """The adapters that a node of this operator and opset meets on its way up, up to where it may change its name."""
    if not _is_released(op_type, version):
        experiment = adapters().get((op_type, EXPERIMENTAL))
        return (experiment,) if experiment is not None else ()
    later = (since for since in versions()[op_type] if since > version)
    return tuple(step for since in later if (step := adapters().get((op_type, since))) is not None)


@functools.cache
def stays_as_it_is(op_type: str, version: int) -> bool:
    """Whether a node of this operator and opset has its opset-21 form already."""
    return _is_released(op_type, version) and form(op_type) is not None and not steps_from(op_type, version)


def _is_released(op_type: str, version: int) -> bool:
    return versions().get(op_type, (OPSET + 1,))[0] <= version


def climb(node: ir.Node, version: int, pen: Pen) -> None:
    """Change one node in place from the form of opset ``version`` to that of opset 21. Raises Refusal when it has none."""
    started_as = node.op_type
    if not _is_released(started_as, version) and not steps_from(started_as, version):
        raise Refusal(f"opset {version} has no operator {started_as}")
    while steps := steps_from(node.op_type, version):
        version = steps[0].adapter(node, pen) or steps[0].version or OPSET
    if form(node.op_type) is None:
        raise Refusal(f"opset {OPSET} has no operator {node.op_type}")
    if not fits(node):
        raise Refusal(f"it has inputs or attributes that {started_as} does not take")


def place(pen: Pen, node: ir.Node, names: Names, *, in_function: bool) -> None:
    """Put what the adapters of a node made right before it; a function, which has no initialisers, gets Constant nodes."""
    graph = node.graph
    if graph is None:
        return
    stem = next((value.name for value in node.outputs if value.name), None) or node.op_type
    for value in pen.constants:
        value.name = names.fresh(f"{stem}_{value.meta['hint']}")
        if not in_function:
            graph.register_initializer(value)
    for made in pen.nodes:
        made.name = names.fresh(f"{stem}_{made.op_type}")
        for value in made.outputs:
            value.name = names.fresh(f"{stem}_{made.op_type.lower()}")
    holders = [_constant_node(value, names) for value in pen.constants] if in_function else []
    graph.insert_before(node, [*holders, *pen.nodes])
    for old, new in pen.replaced:
        replace(old, new, names)
        node.resize_outputs(old.index() or 0)


def _constant_node(value: ir.Value, names: Names) -> ir.Node:
    held = value.const_value
    output = ir.Value(name=names.fresh(f"{value.name}_held"), type=value.type, shape=value.shape)
    node = ir.Node("", "Constant", [], [ir.Attr("value", ir.AttributeType.TENSOR, held)], outputs=[output], name=names.fresh(f"{value.name}_node"))
    value.replace_all_uses_with(output)
    return node
