"""A match and its replacement, each cut out of the live graph as a small model of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx_ir as ir

from .build import Build
from .graph import constant, subgraphs_of, used_outside
from .rule import Match
from .symbolic.contents import content, note_content


def cut_pieces(model: ir.Model, match: Match, pen: Build, made: Sequence[ir.Value]) -> tuple[ir.Model, ir.Model] | None:
    """(what stands there, what would stand there instead), as models with the same inputs and outputs; None when they cannot stand alone.

    The pen's nodes are in the graph already, and the match's still are. Values inside the match that are needed elsewhere are outputs of both
    pieces, so a node that stays counts on both sides. Constants are the very same tensors, not copies. Inputs keep their symbolic dimensions, and
    what is known of their content. Both are called by the first value that is replaced.
    """
    matched = list(match.nodes)
    here = {*matched, *pen.nodes}
    needed = [(old, new) for old, new in zip(match.outputs, made, strict=True) if old.uses() or old.is_graph_output()]
    kept = [value for node in matched for value in node.outputs if value not in match.outputs and used_outside(value, here)]
    olds, news = [*(old for old, _ in needed), *kept], [*(new for _, new in needed), *kept]
    before, after = _upstream(olds, set(matched)), _upstream(news, here)
    if any(_is_bound(node, model) for node in (*before, *after)):
        return None
    inputs = list(dict.fromkeys([*_read(before, olds), *_read(after, news)]))
    if not all(map(_is_plain, (*inputs, *olds))):
        return None
    idle = {value for node in pen.nodes for value in node.outputs if value not in made and not value.uses()}
    one, other = _model_of(model, before, inputs, olds, ()), _model_of(model, after, inputs, news, idle)
    one.graph.name = other.graph.name = match.outputs[0].name or ""
    return one, other


def _upstream(wanted: Iterable[ir.Value], within: Collection[ir.Node]) -> list[ir.Node]:
    """The nodes ``within`` that the wanted values depend on, each after those that feed it."""
    found: dict[ir.Node, None] = {}
    stack = [(value.producer(), False) for value in wanted]
    while stack:
        node, fed = stack.pop()
        if node is None or node in found or node not in within:
            continue
        if fed:
            found[node] = None
            continue
        stack.append((node, True))
        stack.extend((value.producer(), False) for value in node.inputs if value is not None)
    return list(found)


def _is_bound(node: ir.Node, model: ir.Model) -> bool:
    """Whether the node needs more of its model than its inputs."""
    return bool(subgraphs_of(node)) or node.op_identifier() in model.functions


def _read(nodes: Sequence[ir.Node], wanted: Iterable[ir.Value]) -> list[ir.Value]:
    """What the nodes read from outside, and wanted values that none of them makes, constants left out."""
    inside = set(nodes)
    values = [*(value for node in nodes for value in node.inputs), *wanted]
    return [value for value in values if value is not None and value.producer() not in inside and constant(value) is None]


def _is_plain(value: ir.Value) -> bool:
    """Whether it is a tensor of known type and rank."""
    return isinstance(value.type, ir.TensorType) and value.dtype not in (None, ir.DataType.UNDEFINED) and value.shape is not None


def _model_of(model: ir.Model, nodes: Sequence[ir.Node], inputs: Iterable[ir.Value], outputs: Sequence[ir.Value], idle: Collection[ir.Value]) -> ir.Model:
    """The nodes as a model; its outputs are called ``result_0``, ``result_1``, ... and the outputs of nodes that are ``idle`` have no name."""
    copies: dict[ir.Value, ir.Value] = {}
    initialisers: list[ir.Value] = []
    for value in inputs:
        copies[value] = _copy(value)
        note_content(copies[value], content(value))
    fed = list(copies.values())
    for read in (*(value for node in nodes for value in node.inputs), *outputs):
        if read is not None and read not in copies and (tensor := constant(read)) is not None:
            copies[read] = ir.Value(name=read.name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
            initialisers.append(copies[read])
    body = [_copy_node(node, copies, idle) for node in nodes]
    results: list[ir.Value] = []
    for place, value in enumerate(outputs):
        result = copies[value]
        if result.producer() is None or result in results:
            node = ir.Node("", "Identity", [result], name=f"identity_{place}")
            body.append(node)
            result, node.outputs[0].type, node.outputs[0].shape = node.outputs[0], result.type, result.shape
        result.name = f"result_{place}"
        results.append(result)
    graph = ir.Graph(fed, results, nodes=body, initializers=initialisers, opset_imports=dict(model.graph.opset_imports))
    return ir.Model(graph, ir_version=model.ir_version)


def _copy(value: ir.Value) -> ir.Value:
    return ir.Value(name=value.name, shape=value.shape, type=value.type)


def _copy_node(node: ir.Node, copies: dict[ir.Value, ir.Value], idle: Collection[ir.Value]) -> ir.Node:
    inputs = [None if value is None else copies[value] for value in node.inputs]
    made = [_copy(value) for value in node.outputs]
    for value, copy in zip(node.outputs, made, strict=True):
        copies[value] = copy
        if value in idle:
            copy.name = ""
    return ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=made, name=node.name)
