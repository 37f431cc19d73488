"""Writes the graph as protobuf; what becomes of each tensor is for the caller to say."""

from __future__ import annotations

from typing import Protocol

import onnx
import onnx_ir as ir
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from .core.shapes import PLAIN_TO_SEE, outward_shape

_VALUE_INFO_IN_FUNCTIONS = 10


class TensorStore(Protocol):
    """Where tensors go."""

    def initializer(self, proto: GraphProto, graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        """Write an initialiser of ``graph``, whose protobuf form is ``proto``, and what it holds."""
        ...

    def attribute(self, proto: TensorProto, tensor: ir.TensorProtocol) -> None:
        """Write a tensor that is an attribute."""
        ...

    def replaces(self, proto: GraphProto, graph: ir.Graph, node: ir.Node) -> bool:
        """Whether the store has taken care of a whole node, which is then left out."""
        ...


class ProtoWriter:
    """Writes models, graphs and nodes. ``renamed`` gives values another name than their own."""

    def __init__(self, store: TensorStore, renamed: dict[ir.Value, str] | None = None) -> None:
        self._store = store
        self._renamed = renamed if renamed is not None else {}

    def model(self, model: ir.Model) -> ModelProto:
        """The whole model, functions included."""
        proto = ModelProto(ir_version=model.ir_version)
        for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
            if getattr(model, field):
                setattr(proto, field, getattr(model, field))
        _write_imports(proto.opset_import, model.opset_imports)
        _write_texts(proto.metadata_props, model.metadata_props)
        self._graph(proto.graph, model.graph)
        for function in model.functions.values():
            self._function(proto.functions.add(), function, model.ir_version)
        return proto

    def _name(self, value: ir.Value | None) -> str:
        if value is None:
            return ""
        return self._renamed.get(value) or value.name or ""

    def _graph(self, proto: GraphProto, graph: ir.Graph) -> None:
        proto.name = graph.name or "graph"
        if graph.doc_string:
            proto.doc_string = graph.doc_string
        _write_texts(proto.metadata_props, graph.metadata_props)
        for value in graph.inputs:
            self._value(proto.input.add(), value)
        for value in graph.initializers.values():
            if value.const_value is not None:
                self._store.initializer(proto, graph, value, value.const_value)
        for node in graph:
            if self._store.replaces(proto, graph, node):
                continue
            self._node(proto.node.add(), node)
            for value in () if node.op_type in PLAIN_TO_SEE else node.outputs:
                if value.name and value.type is not None and not value.is_graph_output():
                    self._value(proto.value_info.add(), value)
        for value in graph.outputs:
            self._value(proto.output.add(), value)

    def _function(self, proto: FunctionProto, function: ir.Function, ir_version: int) -> None:
        proto.domain, proto.name = function.domain, function.name
        if function.overload:
            proto.overload = function.overload
        if function.doc_string:
            proto.doc_string = function.doc_string
        _write_imports(proto.opset_import, function.opset_imports)
        _write_texts(proto.metadata_props, function.metadata_props)
        proto.input.extend(self._name(value) for value in function.inputs)
        proto.output.extend(self._name(value) for value in function.outputs)
        for attr in function.attributes.values():
            if attr.value is None:
                proto.attribute.append(attr.name)
            else:
                self._attribute(proto.attribute_proto.add(), attr)
        for node in function:
            self._node(proto.node.add(), node)
        if ir_version >= _VALUE_INFO_IN_FUNCTIONS:
            for value in (*function.inputs, *(value for node in function for value in node.outputs)):
                if value.name and value.type is not None:
                    self._value(proto.value_info.add(), value)

    def _value(self, proto: onnx.ValueInfoProto, value: ir.Value) -> None:
        proto.name = self._name(value)
        write_type(proto.type, value.type, outward_shape(value))
        if value.doc_string:
            proto.doc_string = value.doc_string
        _write_texts(proto.metadata_props, value.metadata_props)

    def _node(self, proto: NodeProto, node: ir.Node) -> None:
        proto.op_type = node.op_type
        for field in ("name", "domain", "overload", "doc_string"):
            if getattr(node, field):
                setattr(proto, field, getattr(node, field))
        _write_texts(proto.metadata_props, node.metadata_props)
        proto.input.extend(self._name(value) for value in node.inputs)
        outputs = [self._name(value) for value in node.outputs]
        while outputs and not outputs[-1]:
            outputs.pop()
        proto.output.extend(outputs)
        for attr in node.attributes.values():
            self._attribute(proto.attribute.add(), attr)

    def _attribute(self, proto: AttributeProto, attr: ir.Attr) -> None:
        if attr.is_ref():
            ir.serde.serialize_reference_attribute_into(proto, attr)
            return
        proto.name = attr.name
        if attr.doc_string:
            proto.doc_string = attr.doc_string
        if attr.type == ir.AttributeType.GRAPH:
            proto.type = AttributeProto.GRAPH
            self._graph(proto.g, attr.as_graph())
        elif attr.type == ir.AttributeType.GRAPHS:
            proto.type = AttributeProto.GRAPHS
            for graph in attr.as_graphs():
                self._graph(proto.graphs.add(), graph)
        elif attr.type == ir.AttributeType.TENSOR:
            proto.type = AttributeProto.TENSOR
            self._store.attribute(proto.t, attr.as_tensor())
        elif attr.type == ir.AttributeType.TENSORS:
            proto.type = AttributeProto.TENSORS
            for tensor in attr.as_tensors():
                self._store.attribute(proto.tensors.add(), tensor)
        else:
            ir.serde.serialize_attribute_into(proto, attr)


def write_type(proto: onnx.TypeProto, kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> None:
    """A type, and the shape of the tensors in it when it is known."""
    if kind is None:
        return
    ir.serde.serialize_type_into(proto, kind)
    if shape is not None:
        ir.serde.serialize_shape_into(proto, shape)


def write_tensor(proto: TensorProto, name: str, tensor: ir.TensorProtocol, with_data: bool = True) -> None:
    """A tensor under a name, with its bytes in the file."""
    if name:
        proto.name = name
    proto.data_type = tensor.dtype.value
    proto.dims.extend(tensor.shape.numpy())
    if tensor.doc_string:
        proto.doc_string = tensor.doc_string
    if not with_data:
        return
    if tensor.dtype == ir.DataType.STRING:
        proto.string_data.extend(texts(tensor))
    else:
        proto.raw_data = tensor.tobytes()


def texts(tensor: ir.TensorProtocol) -> list[bytes]:
    """The elements of a tensor of texts."""
    held = tensor.string_data() if isinstance(tensor, ir.StringTensor) else tensor.numpy().reshape(-1).tolist()
    return [text if isinstance(text, bytes) else str(text).encode() for text in held]


def _write_imports(target: object, imports: dict[str, int]) -> None:
    for domain, version in imports.items():
        target.add(domain=domain, version=version)  # type: ignore[attr-defined]


def _write_texts(target: object, entries: dict[str, str]) -> None:
    for key in sorted(entries):
        target.add(key=key, value=entries[key])  # type: ignore[attr-defined]
