"""Operators that ONNX itself defines by others: their definition takes their place."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import opset, schema_default


def defined(op: Build, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """The operator's definition in the ONNX standard, for its attributes and the types of its inputs."""
    proto = definition(node)
    if proto is None:
        return None
    outputs = list(proto.output)
    made = {name for inner in proto.node for name in inner.output} | set(proto.input)
    del proto.output[:]
    proto.output.extend(name for name in outputs if name in made)
    function = ir.serde.deserialize_function(proto)
    results = dict(zip(proto.output, function.outputs, strict=True))
    given = dict(zip(function.inputs, (*node.inputs, *[None] * len(function.inputs)), strict=False))
    nodes = list(function)
    function.graph.remove(nodes)
    for inner in nodes:
        for index, value in enumerate(inner.inputs):
            if value in given:
                inner.replace_input_with(index, given[value])
        _bind_attributes(inner, node)
    op.nodes.extend(nodes)
    return tuple(given.get(value, value) if (value := results.get(name)) is not None else None for name in outputs)


def definition(node: ir.Node) -> onnx.FunctionProto | None:
    """What ONNX says that a node computes; None where an operator is primitive."""
    if node.graph is None:
        return None
    version = node.version or opset(node.graph)
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        return schema.function_body
    if not schema.has_context_dependent_function:
        return None
    types = [_type(value) for value in node.inputs]
    return _read(schema.get_context_dependent_function(ir.to_proto(node).SerializeToString(), types))


def _read(content: bytes) -> onnx.FunctionProto | None:
    if not content:
        return None
    proto = onnx.FunctionProto()
    proto.ParseFromString(content)
    return proto


def _type(value: ir.Value | None) -> bytes:
    proto = onnx.TypeProto()
    if value is not None and value.dtype is not None:
        dims = None if value.shape is None else [dim if isinstance(dim, int) else None for dim in value.shape]
        proto.CopyFrom(onnx.helper.make_tensor_type_proto(value.dtype.value, dims))
    return proto.SerializeToString()


def _bind_attributes(inner: ir.Node, outer: ir.Node) -> None:
    """Give attributes that refer to those of the operator their values."""
    for name, attr in list(inner.attributes.items()):
        if not attr.is_ref():
            continue
        source = attr.ref_attr_name or name
        given = outer.attributes.get(source)
        default = schema_default(outer, source) if given is None else None
        del inner.attributes[name]
        if given is not None:
            inner.attributes[name] = ir.Attr(name, given.type, given.value)
        elif default is not None:
            inner.attributes[name] = ir.convenience.convert_attribute(name, default)  # type: ignore[arg-type]


EXPANSIONS = dict.fromkeys(
    (
        "Attention", "BlackmanWindow", "CausalConvWithState", "Celu", "CenterCropPad", "HammingWindow", "HannWindow",
        "NegativeLogLikelihoodLoss", "RotaryEmbedding", "SoftmaxCrossEntropyLoss", "SwiGLU", "Swish",
    ),
    defined,
)  # fmt: skip
