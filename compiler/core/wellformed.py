"""The graph verifier: what has to hold after every pass, whatever the pass was."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from .errors import PassError
from .graph import node_label, subgraphs_of
from .target import STANDARD_DOMAINS

OWN_TO_RUNTIMES = ("LayerNormalization", "SimplifiedLayerNormalization")
"""Operators that ONNX Runtime takes in the default domain although the opset, or ONNX, does not have them; its own optimizer writes such files."""


def check(model: ir.Model) -> None:
    """Raise PassError, naming the node or value, unless the model is well formed.

    Checked: every value is made once and before it is used, names are unique in what a node can see, every operator's domain is imported
    and its schema's arity, attributes and types are kept, initialisers hold what they declare, graph outputs exist.
    """
    imports = {("" if domain in STANDARD_DOMAINS else domain): version for domain, version in model.graph.opset_imports.items()}
    local = {(function.domain, function.name) for function in model.functions.values()}
    _check_graph(model.graph, {}, imports, local)


def _check_graph(graph: ir.Graph, outer: dict[str, ir.Value], imports: dict[str, int], local: set[tuple[str, str]]) -> None:
    visible = dict(outer)
    here: set[str] = set()
    for value in graph.inputs:
        _declare(value, visible, here, "input")
    for name, value in graph.initializers.items():
        if value.name != name:
            raise PassError(f"the initialiser '{value.name}' is filed under the name '{name}'")
        if not value.is_graph_input():
            _declare(value, visible, here, "initialiser")
        _check_initializer(value)
    for node in graph:
        _check_node(node, visible, imports, local)
        for value in node.outputs:
            if value.name:
                _declare(value, visible, here, f"output of {node_label(node)}")
            elif value.uses() or value.is_graph_output():
                raise PassError(f"an output of {node_label(node)} is used but has no name")
    for value in graph.outputs:
        if visible.get(value.name or "") is not value:
            raise PassError(f"the graph output '{value.name}' is made by no node of the graph")


def _declare(value: ir.Value, visible: dict[str, ir.Value], here: set[str], what: str) -> None:
    name = value.name
    if not name:
        raise PassError(f"an {what} has no name")
    if name in here:
        raise PassError(f"two values are called '{name}' (the second is an {what})")
    here.add(name)
    visible[name] = value


def _check_initializer(value: ir.Value) -> None:
    tensor = value.const_value
    if tensor is None:
        raise PassError(f"the initialiser '{value.name}' holds no tensor")
    if value.dtype is not None and value.dtype != tensor.dtype:
        raise PassError(f"the initialiser '{value.name}' is declared {value.dtype} but holds {tensor.dtype}")
    if value.shape is not None and not _holds(value.shape, tuple(tensor.shape)):
        raise PassError(f"the initialiser '{value.name}' is declared {value.shape} but holds {tuple(tensor.shape)}")


def _holds(declared: ir.Shape, actual: tuple[object, ...]) -> bool:
    return len(declared) == len(actual) and all(not isinstance(want, int) or want == have for want, have in zip(declared, actual, strict=True))


def _check_node(node: ir.Node, visible: dict[str, ir.Value], imports: dict[str, int], local: set[tuple[str, str]]) -> None:
    for value in node.inputs:
        if value is None:
            continue
        if not value.name:
            raise PassError(f"{node_label(node)} reads a value that has no name and is in no graph")
        if visible.get(value.name) is not value:
            what = "is used before it is made" if value.name not in visible else "is another value of the same name"
            raise PassError(f"'{value.name}' {what} ({node_label(node)})")
    _check_schema(node, imports, local)
    for graph in subgraphs_of(node):
        _check_graph(graph, visible, imports, local)


def _check_schema(node: ir.Node, imports: dict[str, int], local: set[tuple[str, str]]) -> None:
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    if (node.domain, node.op_type) in local:
        return
    if domain not in imports and domain:
        raise PassError(f"{node_label(node)} is of the domain '{domain}', which the model does not import")
    try:
        schema = onnx.defs.get_schema(node.op_type, imports.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        if not domain and node.op_type not in OWN_TO_RUNTIMES:
            raise PassError(f"there is no operator {node.op_type} in opset {imports.get(domain, 1)} ({node_label(node)})") from None
        return
    if not schema.min_input <= len(node.inputs) <= schema.max_input:
        raise PassError(f"{node_label(node)} has {len(node.inputs)} inputs; the operator takes {schema.min_input} to {schema.max_input}")
    if not schema.min_output <= len(node.outputs) <= schema.max_output:
        raise PassError(f"{node_label(node)} has {len(node.outputs)} outputs; the operator makes {schema.min_output} to {schema.max_output}")
    _check_attributes(node, schema)
    _check_dtypes(node, schema)


def _check_attributes(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    declared = schema.attributes
    for name, attr in node.attributes.items():
        if name not in declared:
            raise PassError(f"{node_label(node)} has the attribute '{name}', which {node.op_type} does not take")
        wanted = ir.AttributeType(declared[name].type.value)  # type: ignore[attr-defined]
        if attr.type is not wanted:
            raise PassError(f"the attribute '{name}' of {node_label(node)} is a {attr.type.name}, not a {wanted.name}")
    for name, attribute in declared.items():
        if attribute.required and name not in node.attributes:
            raise PassError(f"{node_label(node)} lacks the attribute '{name}', which {node.op_type} requires")


def _check_dtypes(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    """Operands that the schema types with one type variable must agree."""
    bound: dict[str, ir.DataType] = {}
    formals = schema.inputs
    for position, value in enumerate(node.inputs):
        formal = formals[min(position, len(formals) - 1)] if formals else None
        if value is None or formal is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
            continue
        if formal.option == onnx.defs.OpSchema.FormalParameterOption.Variadic and not formal.is_homogeneous:
            continue
        known = bound.setdefault(formal.type_str, value.dtype)
        if known != value.dtype and not formal.type_str.startswith("tensor("):
            raise PassError(f"{node_label(node)} mixes {known} and {value.dtype} where {node.op_type} wants one type")
