"""Small questions about, and safe changes to, an onnx_ir graph."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir

from .names import Names, subgraphs
from .target import STANDARD_DOMAINS

__all__ = [
    "STORED", "all_graphs", "array", "attribute", "bind_opsets", "clone_model", "constant", "erase", "is_op", "make_constant", "node_label",
    "opset", "producer", "release", "replace", "scalar", "schema_default", "subgraphs_of", "swap_names", "sweep", "used_outside", "users",
]  # fmt: skip


STORED = "graphwright.stored"
"""Metadata of a node that makes a weight of what is stored in fewer bits: what it makes is not stored in its place."""


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph, then every graph nested in its nodes, outer before inner; function bodies are left out."""
    stack = [model.graph]
    while stack:
        graph = stack.pop()
        yield graph
        inner = [sub for node in graph if node.attributes for sub in subgraphs_of(node)]
        stack.extend(reversed(inner))


def subgraphs_of(node: ir.Node) -> list[ir.Graph]:
    """The graphs in a node's attributes (branches, loop bodies)."""
    return [graph for attr in node.attributes.values() for graph in subgraphs(attr)]


def is_op(node: ir.Node | None, *types: str, domain: str = "") -> bool:
    """Whether ``node`` is one of these operators of ``domain`` ("" and "ai.onnx" are one domain)."""
    if node is None or node.op_type not in types:
        return False
    return node.domain == domain or (node.domain in STANDARD_DOMAINS and domain in STANDARD_DOMAINS)


def producer(value: ir.Value | None, *types: str, domain: str = "") -> ir.Node | None:
    """The node that makes ``value``, if it is one of ``types`` (any, when none are given)."""
    node = value.producer() if value is not None else None
    if node is None or not types:
        return node
    return node if is_op(node, *types, domain=domain) else None


def users(value: ir.Value) -> list[ir.Node]:
    """The nodes that read ``value``, each once, in a stable order; nodes inside subgraphs count."""
    return list(dict.fromkeys(node for node, _ in value.uses()))


def used_outside(value: ir.Value, nodes: Iterable[ir.Node]) -> bool:
    """Whether anything but ``nodes`` needs ``value``; being an output of a graph or subgraph counts."""
    inside = nodes if isinstance(nodes, Container) else set(nodes)
    return value.is_graph_output() or any(node not in inside for node, _ in value.uses())


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor ``value`` always holds: a Constant's, or an initialiser's that no caller can override."""
    if value is None:
        return None
    if value.is_initializer():
        return None if value.is_graph_input() else value.const_value
    node = value.producer()
    if node is None or not is_op(node, "Constant"):
        return None
    return value.const_value if value.const_value is not None else _constant_node_tensor(node)


def _constant_node_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    attrs = node.attributes
    if any(attr.is_ref() for attr in attrs.values()):
        return None
    if "value" in attrs:
        return attrs["value"].as_tensor()
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if name in attrs:
            return ir.Tensor(np.array(attrs[name].value, dtype=dtype))
    if "value_string" in attrs:
        return ir.StringTensor([attrs["value_string"].value.encode()], shape=ir.Shape([]))
    if "value_strings" in attrs:
        strings = [text.encode() for text in attrs["value_strings"].value]
        return ir.StringTensor(strings, shape=ir.Shape([len(strings)]))
    return None


def array(value: ir.Value | None, max_bytes: int | None = None) -> np.ndarray | None:
    """The constant ``value`` holds as an array, or None when it is no constant or larger than ``max_bytes``."""
    tensor = constant(value)
    if tensor is None or (max_bytes is not None and tensor.nbytes > max_bytes):
        return None
    return tensor.numpy()


def scalar(value: ir.Value | None) -> float | int | bool | None:
    """The number in a one-element constant of any rank, else None."""
    tensor = constant(value)
    if tensor is None or tensor.size != 1 or tensor.dtype == ir.DataType.STRING:
        return None
    number = tensor.numpy().reshape(())[()]
    if isinstance(number, np.bool_):
        return bool(number)
    return int(number) if isinstance(number, np.integer) else float(number)


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """The value of an attribute; when absent, the operator's own default, else ``default``."""
    attr = node.attributes.get(name)
    if attr is not None:
        return None if attr.is_ref() else attr.value
    declared = schema_default(node, name)
    return default if declared is None else declared


def schema_default(node: ir.Node, name: str) -> object:
    """What the operator's schema says an absent attribute means; None when it says nothing."""
    version = node.version or (opset(node.graph, node.domain) if node.graph is not None else None)
    if version is None:
        return None
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "" if node.domain == "ai.onnx" else node.domain)
    except onnx.defs.SchemaError:
        return None
    declared = schema.attributes.get(name)
    if declared is None or not declared.default_value.name:
        return None
    value = onnx.helper.get_attribute_value(declared.default_value)
    return value.decode() if isinstance(value, bytes) else value


def opset(owner: ir.Model | ir.Graph | ir.Function, domain: str = "") -> int:
    """The version of ``domain`` that the model imports; 0 when it imports none.

    Without an import of the default domain, version 1 of it is meant. Subgraphs carry their model's imports (`bind_opsets`).
    """
    imports = owner.graph.opset_imports if isinstance(owner, ir.Model) else owner.opset_imports
    if domain in STANDARD_DOMAINS:
        return next((imports[name] for name in STANDARD_DOMAINS if name in imports), 1)
    return imports.get(domain, 0)


def bind_opsets(model: ir.Model) -> None:
    """Give every subgraph its model's opset imports; call it after loading, cloning or changing them."""
    for graph in all_graphs(model):
        if graph is not model.graph:
            graph.opset_imports.clear()
            graph.opset_imports.update(model.graph.opset_imports)


def clone_model(model: ir.Model) -> ir.Model:
    """A copy that can be changed freely; the weights are shared, not copied."""
    copy = model.clone()
    bind_opsets(copy)
    return copy


def node_label(node: ir.Node) -> str:
    """How messages call a node: its name, or its operator and first output."""
    if node.name:
        return f"'{node.name}' ({node.op_type})"
    first = next((value.name for value in node.outputs if value.name), "no output")
    return f"{node.op_type} -> '{first}'"


def make_constant(graph: ir.Graph, content: np.ndarray | ir.TensorProtocol, name: str) -> ir.Value:
    """Add an initialiser called ``name`` to ``graph``."""
    tensor = ir.tensor(content, name=name) if isinstance(content, np.ndarray) else content
    value = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def replace(old: ir.Value, new: ir.Value, names: Names) -> None:
    """Let every use of ``old`` read ``new``; the graph keeps its output names.

    When ``old`` is a graph output and ``new`` cannot take its name (an input, an initialiser, an output already,
    or a value of another graph), an Identity stands between.
    """
    graph = old.graph
    if not old.is_graph_output() or graph is None:
        old.replace_all_uses_with(new)
        return
    node = new.producer()
    takes_name = node is not None and node.graph is graph and not new.is_graph_output() and not new.is_initializer()
    if not takes_name:
        for user, index in old.uses():
            user.replace_input_with(index, new)
        new = _identity_of(graph, new, old, names)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    swap_names(old, new, names)
    new.type = new.type if new.type is not None else old.type
    if new.shape is None:
        new.shape = old.shape


def _identity_of(graph: ir.Graph, source: ir.Value, old: ir.Value, names: Names) -> ir.Value:
    output = ir.Value(name=names.fresh(f"{old.name}_copy"), type=source.type or old.type, shape=source.shape or old.shape)
    graph.append(ir.Node("", "Identity", [source], outputs=[output], name=names.fresh(f"{old.name}_identity")))
    return output


def swap_names(old: ir.Value, new: ir.Value, names: Names) -> None:
    """Give ``new`` the name of ``old``, which goes on under a fresh one."""
    kept = old.name
    old.name = names.fresh(f"{kept}_before")
    new.name = kept


def erase(node: ir.Node) -> None:
    """Take a node whose outputs nobody uses out of its graph, with everything in its subgraphs."""
    release(node)
    if node.graph is not None:
        node.graph.remove(node, safe=True)


def sweep(candidates: Iterable[ir.Node]) -> int:
    """Remove the candidates whose outputs are all unused and, following inputs, every producer that becomes so.

    Returns how many nodes went. A node with subgraphs goes with everything in them.
    """
    stack = list(candidates)
    removed = 0
    while stack:
        node = stack.pop()
        if node.graph is None or any(value.is_graph_output() or value.uses() for value in node.outputs):
            continue
        feeding = [value.producer() for value in node.inputs if value is not None]
        feeding += [made for graph in subgraphs_of(node) for made in _captured(graph)]
        erase(node)
        removed += 1
        stack.extend(before for before in feeding if before is not None)
    return removed


def _captured(graph: ir.Graph) -> list[ir.Node]:
    inner = list(graph.all_nodes())
    made = (value.producer() for node in inner for value in node.inputs if value is not None)
    return [node for node in dict.fromkeys(made) if node is not None and node not in set(inner)]


def release(node: ir.Node) -> None:
    """Take apart the subgraphs of a node about to be removed: what is in them reads nothing any more, and is in no graph."""
    for graph in subgraphs_of(node):
        for inner in list(graph.all_nodes()):
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)
            if inner.graph is not None:
                inner.graph.remove(inner)
