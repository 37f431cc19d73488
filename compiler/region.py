"""Pieces of a model: inner values as outputs, the nodes in which two versions differ, and those nodes as models of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .core.backend import Array
from .core.graph import bind_opsets, clone_model, constant, is_op, subgraphs_of

__all__ = ["Change", "expose", "find_change", "identical", "values_by_name"]


def values_by_name(model: ir.Model) -> dict[str, ir.Value]:
    """Every value of the main graph that is computed or fed, in topological order."""
    fed = [value for value in model.graph.inputs if not value.is_initializer()]
    return {value.name: value for value in (*fed, *(made for node in model.graph for made in node.outputs)) if value.name}


def expose(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """A copy whose only outputs are the named values of the main graph, in order, called ``exposed_0``, ``exposed_1``, ..."""
    copy = clone_model(model)
    known = values_by_name(copy)
    copy.graph.outputs.clear()
    for place, name in enumerate(names):
        node = ir.node("Identity", [known[name]], name=f"exposed_node_{place}")
        node.outputs[0].name = f"exposed_{place}"
        node.outputs[0].type, node.outputs[0].shape = known[name].type, known[name].shape
        copy.graph.append(node)
        copy.graph.outputs.append(node.outputs[0])
    return copy


@dataclass(frozen=True)
class Change:
    """Where two versions of a model differ: the nodes only one of them has, and the values at the border."""

    before: tuple[ir.Node, ...]
    after: tuple[ir.Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def cut(self, model: ir.Model, fed: Mapping[str, Array]) -> ir.Model:
        """The changed part of either version, as a model from the border's inputs to its outputs; ``fed`` is what flows in."""
        known = values_by_name(model)
        graph = ir.convenience.extract(model.graph, [known[name] for name in self.inputs], [known[name] for name in self.outputs])
        graph.opset_imports.update(model.graph.opset_imports)
        for value in graph.inputs:
            array = fed.get(value.name or "")
            if value.type is None and isinstance(array, np.ndarray):
                value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        piece = ir.Model(graph, ir_version=model.ir_version, functions=[function.clone() for function in model.functions.values()])
        bind_opsets(piece)
        return piece


def find_change(before: ir.Model, after: ir.Model) -> Change:
    """The nodes in which two versions differ, by operator, operands, attributes and what the weights hold; names of nodes do not count."""
    digests: dict[int, bytes] = {}
    olds, news = ({node: _signature(node, digests) for node in model.graph} for model in (before, after))
    kept = set(olds.values()) & set(news.values())
    removed, added = ([node for node, signature in version.items() if signature not in kept] for version in (olds, news))
    known = values_by_name(after)
    inputs = dict.fromkeys(name for nodes in (removed, added) for name in _border(nodes))
    outputs = [value.name for node in removed for value in node.outputs if value.name and value.name in known and _used_outside(value, removed)]
    return Change(tuple(removed), tuple(added), tuple(inputs), tuple(outputs))


def identical(one: ir.Model, other: ir.Model) -> bool:
    """Whether two models have the same nodes and the very same weights, as a model and its clone do."""
    values = [[value.name for value in (*model.graph.inputs, *model.graph.outputs)] for model in (one, other)]
    return values[0] == values[1] and [_signature(node, None) for node in one.graph] == [_signature(node, None) for node in other.graph]


def _signature(node: ir.Node, digests: dict[int, bytes] | None) -> tuple[object, ...]:
    reads = tuple((value.name, _digest(value.const_value, digests) if value.is_initializer() else b"") if value is not None else None for value in node.inputs)
    attributes = tuple((name, _content(attr, digests)) for name, attr in sorted(node.attributes.items()))
    return node.domain, node.op_type, reads, tuple(value.name for value in node.outputs), attributes


def _content(attr: ir.Attr, digests: dict[int, bytes] | None) -> object:
    if attr.type == ir.AttributeType.GRAPH:
        return tuple(_signature(node, digests) for node in attr.as_graph())
    if attr.type == ir.AttributeType.GRAPHS:
        return tuple(tuple(_signature(node, digests) for node in graph) for graph in attr.as_graphs())
    if attr.type == ir.AttributeType.TENSOR:
        return _digest(attr.as_tensor(), digests)
    return attr.value if isinstance(attr.value, int | float | str) else repr(attr.value)


def _digest(tensor: ir.TensorProtocol | None, digests: dict[int, bytes] | None) -> bytes:
    """What tells the contents of two tensors apart; those in files are told apart by their place, without reading them.

    Without ``digests`` only the same tensor object has the same content.
    """
    if tensor is None:
        return b""
    if digests is None:
        return str(id(tensor)).encode()
    if isinstance(tensor, ir.ExternalTensor):
        return f"{tensor.path}:{tensor.offset}:{tensor.length}".encode()
    if id(tensor) not in digests:
        content = repr(tensor.numpy().tolist()).encode() if tensor.dtype is ir.DataType.STRING else tensor.tobytes()
        digests[id(tensor)] = hashlib.blake2b(content, digest_size=16).digest() + repr((tensor.dtype, tuple(tensor.shape))).encode()
    return digests[id(tensor)]


def _border(nodes: Sequence[ir.Node]) -> list[str]:
    """Names of what ``nodes`` read from outside, constants and what is computed from constants alone left out."""
    inside = set(nodes)
    captured = [value for node in nodes for graph in subgraphs_of(node) for inner in graph.all_nodes() for value in inner.inputs]
    read = [value for value in (*(value for node in nodes for value in node.inputs), *captured) if value is not None and value.name]
    main = {node.graph for node in nodes}
    return [
        value.name
        for value in read
        if value.producer() not in inside and not _is_fixed(value) and (value.is_graph_input() or value.graph in main) and value.name
    ]


def _is_fixed(value: ir.Value, depth: int = 8) -> bool:
    if constant(value) is not None or (value.is_initializer() and not value.is_graph_input()):
        return True
    node = value.producer()
    if node is None or depth == 0 or is_op(node, "Shape"):
        return False
    return not subgraphs_of(node) and all(operand is None or _is_fixed(operand, depth - 1) for operand in node.inputs) and bool(node.inputs)


def _used_outside(value: ir.Value, nodes: Sequence[ir.Node]) -> bool:
    inside = set(nodes)
    return value.is_graph_output() or any(user not in inside for user, _ in value.uses())
