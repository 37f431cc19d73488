"""The graphs inside nodes: what they read from outside, copies of them, and writing one out in place of its node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.graph import is_op, subgraphs_of

Values = Mapping[ir.Value, ir.Value]


def body_of(node: ir.Node, name: str = "body") -> ir.Graph:
    """The graph in the attribute ``name``."""
    return node.attributes[name].as_graph()


def branches_of(node: ir.Node) -> tuple[ir.Graph, ir.Graph]:
    """What an If runs when its condition is true, and when it is false."""
    return body_of(node, "then_branch"), body_of(node, "else_branch")


def captured(graph: ir.Graph) -> dict[ir.Value, None]:
    """The values that a graph, or one inside it, reads from outside."""
    inner = list(graph.all_nodes())
    graphs = [graph, *(below for node in inner for below in subgraphs_of(node))]
    own = {value for below in graphs for value in (*below.inputs, *below.initializers.values())}
    own.update(value for node in inner for value in node.outputs)
    read = [value for node in inner for value in node.inputs if value is not None]
    return dict.fromkeys(value for value in [*read, *(value for below in graphs for value in below.outputs)] if value not in own)


def copy_of(graph: ir.Graph) -> ir.Graph:
    """A copy that reads the same values from outside and can be changed freely."""
    return graph.clone(allow_outer_scope_values=True)


def rebind(graph: ir.Graph, known: Values) -> None:
    """Let everything in a graph read what ``known`` says in place of a value from outside."""
    for node in graph.all_nodes():
        for index, value in enumerate(node.inputs):
            if value is not None and value in known:
                node.replace_input_with(index, known[value])


def write_out(op: Build, body: ir.Graph, actual: Values, first: int = 0) -> tuple[ir.Value, ...]:
    """Make the nodes that the outputs of a body, from the ``first`` on, need anew with the pen; its inputs are ``actual``.

    Returns what stands for those outputs.
    """
    known = dict(actual)
    for name, value in body.initializers.items():
        if value.const_value is not None and value not in known:
            known[value] = op.const(value.const_value, name)
    wanted = body.outputs[first:]
    needed = needed_by(body, wanted)
    for node in body:
        if node in needed:
            made = write_node(op, node, known)
            known.update(zip(node.outputs, made.outputs, strict=True))
    return tuple(known.get(value, value) for value in wanted)


def needed_by(body: ir.Graph, wanted: Iterable[ir.Value]) -> set[ir.Node]:
    """The nodes of a body that these values depend on."""
    needed: set[ir.Node] = set()
    stack = list(wanted)
    while stack:
        node = stack.pop().producer()
        if node is not None and node.graph is body and node not in needed:
            needed.add(node)
            stack += reads(node)
    return needed


def reads(node: ir.Node) -> list[ir.Value]:
    """The values that a node, or a graph inside it, reads."""
    return [*(value for value in node.inputs if value is not None), *(value for graph in subgraphs_of(node) for value in captured(graph))]


def write_node(op: Build, node: ir.Node, known: Values) -> ir.Node:
    """Make a node anew with the pen, reading what ``known`` says; the graphs inside it are copied."""
    inputs = tuple(value if value is None else known.get(value, value) for value in node.inputs)
    attributes: dict[str, object] = {name: _attribute(attr, known) for name, attr in node.attributes.items()}
    made = op.node(node.op_type, inputs, attributes, node.domain, len(node.outputs))
    made.resize_inputs(len(inputs))
    made.overload = node.overload
    return made


def _attribute(attr: ir.Attr, known: Values) -> ir.Attr:
    if attr.type == ir.AttributeType.GRAPH and not attr.is_ref():
        copy = copy_of(attr.as_graph())
        rebind(copy, known)
        return ir.AttrGraph(attr.name, copy)
    if attr.type == ir.AttributeType.GRAPHS and not attr.is_ref():
        copies = [copy_of(graph) for graph in attr.as_graphs()]
        for copy in copies:
            rebind(copy, known)
        return ir.AttrGraphs(attr.name, copies)
    return attr


def hand_out(op: Build, values: Iterable[ir.Value]) -> tuple[ir.Value, ...]:
    """The values as replacements: a constant, and a value that stands there a second time, by way of an Identity that can take a name.

    What the pen made for none of them is forgotten.
    """
    seen = set(op.constants)
    result: list[ir.Value] = []
    for value in values:
        result.append(op.node("Identity", (value,), {}).outputs[0] if value in seen else value)
        seen.add(value)
    _forget_unneeded(op, result)
    return tuple(result)


def _forget_unneeded(op: Build, results: Sequence[ir.Value]) -> None:
    made = set(op.nodes)
    needed: set[ir.Node] = set()
    stack = list(results)
    while stack:
        node = stack.pop().producer()
        if node in made and node not in needed:
            needed.add(node)
            stack += reads(node)
    unneeded = Build()
    unneeded.nodes = [node for node in op.nodes if node not in needed]
    op.nodes = [node for node in op.nodes if node in needed]
    unneeded.discard()


def with_body(op: Build, node: ir.Node, body: ir.Graph, inputs: Sequence[ir.Value | None], outputs: int, **attributes: object) -> tuple[ir.Value, ...]:
    """A loop like ``node`` around another body."""
    changed: dict[str, object] = {**node.attributes, "body": ir.AttrGraph("body", body), **attributes}
    made = op.node(node.op_type, tuple(inputs), changed, node.domain, outputs)
    made.resize_inputs(len(inputs))
    return tuple(made.outputs)


def origin(value: ir.Value) -> ir.Value:
    """The value that a chain of Identities hands on."""
    while (node := value.producer()) is not None and is_op(node, "Identity") and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def keep(outputs: Sequence[ir.Value], kept: Sequence[int], made: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
    """Replacements for all outputs of a node: ``made`` for those kept; the others, which nobody reads, stay what they are."""
    result = list(outputs)
    for index, value in zip(kept, made, strict=True):
        result[index] = value
    return tuple(result)


def is_read(value: ir.Value) -> bool:
    """Whether anything needs the value."""
    return bool(value.uses()) or value.is_graph_output()
