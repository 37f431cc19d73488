"""Which values of two models are the same: by name, else by how they are computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from .core.graph import subgraphs_of
from .region import values_by_name

__all__ = ["ancestors", "match_values", "nearest"]


def match_values(before: ir.Model, after: ir.Model) -> dict[str, str]:
    """Value of ``before`` -> value of ``after``, for tensors of one dtype, in the order in which ``before`` computes them.

    Values match that have one name, or else those computed alike from the same inputs and from weights of the same form; of several computed
    alike the first matches the first. What a weight holds does not count, so that a weight that was changed does not hide where it is used.
    """
    ours, theirs = values_by_name(before), values_by_name(after)
    named = {name: name for name, value in ours.items() if name in theirs and _alike(value, theirs[name])}
    taken = set(named.values())
    waiting: dict[object, list[str]] = defaultdict(list)
    for name, key in _keys(after, theirs).items():
        if name not in taken:
            waiting[key].append(name)
    found: dict[str, str] = {}
    for name, key in _keys(before, ours).items():
        if name in named:
            found[name] = named[name]
        elif waiting[key] and _alike(ours[name], theirs[waiting[key][0]]):
            found[name] = waiting[key].pop(0)
    return found


def _alike(one: ir.Value, other: ir.Value) -> bool:
    if one.type is not None and not isinstance(one.type, ir.TensorType):
        return False
    return one.dtype is None or other.dtype is None or one.dtype == other.dtype


def _keys(model: ir.Model, values: Mapping[str, ir.Value]) -> dict[str, object]:
    """A number per value that is equal for values computed alike."""
    numbers: dict[object, int] = {}
    keys: dict[ir.Value, int] = {}

    def numbered(content: object) -> int:
        return numbers.setdefault(content, hash(content))

    for value in model.graph.inputs:
        keys[value] = numbered(("input", value.name))
    for value in model.graph.initializers.values():
        tensor = value.const_value
        keys[value] = numbered(("weight", str(value.dtype), tuple(tensor.shape) if tensor is not None else None))
    for node in model.graph:
        operands = tuple(keys.get(value, 0) if value is not None else -1 for value in node.inputs)
        attributes = tuple((name, repr(attr.value)) for name, attr in sorted(node.attributes.items()) if attr.type.value < ir.AttributeType.TENSOR.value)
        inner = tuple(sum(1 for _ in graph) for graph in subgraphs_of(node))
        for place, value in enumerate(node.outputs):
            keys[value] = numbered((node.domain, node.op_type, operands, attributes, inner, place))
    return {name: keys[value] for name, value in values.items() if value in keys}


def ancestors(value: ir.Value) -> dict[ir.Value, None]:
    """Everything in the main graph that ``value`` depends on, itself included."""
    found: dict[ir.Value, None] = {value: None}
    stack = [value]
    while stack:
        for operand in _operands(stack.pop()):
            if operand not in found:
                found[operand] = None
                stack.append(operand)
    return found


def _operands(value: ir.Value) -> list[ir.Value]:
    node = value.producer()
    if node is None:
        return []
    captured = [operand for graph in subgraphs_of(node) for inner in graph.all_nodes() for operand in inner.inputs]
    return [operand for operand in (*node.inputs, *captured) if operand is not None]


def nearest(value: ir.Value, stops: Iterable[str]) -> tuple[list[ir.Value], list[ir.Node]]:
    """Going back from ``value``: the first values met that are among ``stops``, and the nodes passed on the way, in graph order."""
    wanted = set(stops)
    border: dict[ir.Value, None] = {}
    passed: dict[ir.Node, None] = {}
    stack = [value]
    while stack:
        current = stack.pop()
        node = current.producer()
        if node is None or node in passed:
            continue
        passed[node] = None
        for operand in _operands(current):
            if operand.name in wanted:
                border[operand] = None
            else:
                stack.append(operand)
    graph = value.graph
    order = {node: place for place, node in enumerate(graph)} if graph is not None else {}
    return list(border), sorted((node for node in passed if node in order), key=order.__getitem__)
