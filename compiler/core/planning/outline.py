"""Blocks as model-local functions, and as small models of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..dims import UNKNOWN, is_ours
from ..graph import constant, opset, release
from ..names import Names
from ..target import STANDARD_DOMAINS
from .plan import Block, border
from .signature import embedded, signature

DOMAIN = "graphwright.block"
"""The domain of the functions that blocks become."""
VERSION = 1
NAMED = 5
"""Operators that the name of a function mentions."""
REASON = "graphwright.reason"
MAPPING = "graphwright.mapping"
"""Metadata of a block's function: why it is as it is, and its mapping type."""


class Outliner:
    """Writes blocks of one model as functions; blocks that do the same share one."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._names = Names(model)
        self._known: dict[str, ir.Function] = {}
        self._taken = {function.name for function in model.functions.values() if function.domain == DOMAIN}

    def outline(self, block: Block) -> ir.Node:
        """Put a call of a function in the place of a block; values keep their names, the graph its outputs. The graph is left to be sorted (`settle`).

        A call's inputs are those of the block that are no part of what it does: computed values, then weights. The nodes of the block are gone afterwards.
        """
        graph = block.nodes[0].graph
        assert graph is not None
        inputs, outputs = border(block.nodes)
        text = signature(block.nodes)
        function = self._known.get(text)
        if function is None:
            function = self._known[text] = self._add(block, inputs, outputs)
        readers = set(block.nodes)
        given = [value for value in inputs if not embedded(value, readers)]
        made = [ir.Value(name=value.name, shape=value.shape, type=value.type) for value in outputs]
        call = ir.Node(DOMAIN, function.name, given, outputs=made, name=self._names.fresh(f"{function.name}_call"))
        graph.insert_after(block.nodes[-1], call)
        for old, new in zip(outputs, made, strict=True):
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        _take_out(graph, block.nodes)
        return call

    def settle(self) -> None:
        """Sort what calls were put into, and import their domain."""
        if self._known:
            self._model.graph.sort()
            self._model.graph.opset_imports[DOMAIN] = VERSION

    def _add(self, block: Block, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Function:
        words = [re.sub(r"\W", "", node.op_type) for node in block.nodes]
        rest = [f"{len(words) - NAMED}_more"] if len(words) > NAMED else []
        name = f"block_{len(self._taken)}_{'_'.join((*words[:NAMED], *rest))}"
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        body = _body(block.nodes, inputs, outputs)
        function = ir.Function(DOMAIN, name, graph=body, attributes=[])
        function.metadata_props[REASON] = block.reason
        function.metadata_props[MAPPING] = block.mapping.title
        self._model.functions[function.identifier()] = function
        return function


def isolate(nodes: Sequence[ir.Node], ir_version: int = 10) -> ir.Model:
    """The nodes as a model of their own: what they read is its inputs, constants are its initialisers; names stay.

    ``nodes`` are of one graph, in topological order, and hold no graphs.
    """
    inputs, outputs = border(nodes)
    computed = [value for value in inputs if constant(value) is None]
    copies = {value: _copy(value) for value in computed}
    weights = []
    for value in inputs:
        tensor = constant(value)
        if tensor is not None:
            copies[value] = ir.Value(name=value.name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
            weights.append(copies[value])
    body = [_copy_node(node, copies) for node in nodes]
    made = [copies[value] for value in outputs]
    graph = ir.Graph([copies[value] for value in computed], made, nodes=body, initializers=weights, opset_imports=_imports(nodes), name="block")
    return ir.Model(graph, ir_version=ir_version)


def is_call(node: ir.Node) -> bool:
    """Whether a node calls a block."""
    return node.domain == DOMAIN


def _body(nodes: Sequence[ir.Node], inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Graph:
    readers = set(nodes)
    copies: dict[ir.Value, ir.Value] = {}
    body: list[ir.Node] = []
    for value in inputs:
        if embedded(value, readers):
            body.append(_constant_node(value))
            copies[value] = body[-1].outputs[0]
        else:
            copies[value] = _copy(value)
    formal = [copies[value] for value in inputs if copies[value].producer() is None]
    body += [_copy_node(node, copies) for node in nodes]
    return ir.Graph(formal, [copies[value] for value in outputs], nodes=body, opset_imports=_imports(nodes))


def _constant_node(value: ir.Value) -> ir.Node:
    tensor = constant(value)
    assert tensor is not None
    content = ir.Tensor(np.array(tensor.numpy()), dtype=tensor.dtype, name=value.name)
    made = ir.Value(name=value.name, shape=ir.Shape(content.shape.numpy()), type=ir.TensorType(tensor.dtype))
    return ir.Node("", "Constant", [], [ir.AttrTensor("value", content)], outputs=[made], name=f"{value.name}_constant")


def _copy(value: ir.Value) -> ir.Value:
    shape = None if value.shape is None else ir.Shape([UNKNOWN if is_ours(dim) else dim for dim in value.shape])
    return ir.Value(name=value.name, shape=shape, type=value.type)


def _copy_node(node: ir.Node, copies: dict[ir.Value, ir.Value]) -> ir.Node:
    inputs = [None if value is None else copies[value] for value in node.inputs]
    made = [_copy(value) for value in node.outputs]
    copies.update(zip(node.outputs, made, strict=True))
    return ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=made, name=node.name)


def _imports(nodes: Sequence[ir.Node]) -> dict[str, int]:
    domains = {"" if node.domain in STANDARD_DOMAINS else node.domain: node for node in nodes}
    imports = {domain: opset(node.graph, domain) for domain, node in domains.items() if node.graph is not None}
    first = nodes[0].graph
    return {"": opset(first), **imports} if first is not None else imports


def _take_out(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    for node in reversed(nodes):
        release(node)
        for value in node.outputs:
            value.name = None
    graph.remove(nodes, safe=True)
