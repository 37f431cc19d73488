"""What a model takes and gives, in ONNX Runtime's words: "tensor(float)", "seq(tensor(int64))", "optional(tensor(float))"."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnxruntime as ort

from ...compiler.core.backend import Port
from ...compiler.core.elements import ELEMENTS, FOREIGN, NAMES, Type, parse_type

__all__ = ["ELEMENTS", "FOREIGN", "NAMES", "Type", "parse_type", "ports_in", "ports_of", "type_proto", "type_text"]


def type_text(proto: onnx.TypeProto) -> str:
    """A type of a model file as ONNX Runtime writes it; "" when the file does not say."""
    which = proto.WhichOneof("value")
    if which == "tensor_type":
        return f"tensor({NAMES.get(proto.tensor_type.elem_type, 'unknown')})"
    if which == "sparse_tensor_type":
        return f"sparse_tensor({NAMES.get(proto.sparse_tensor_type.elem_type, 'unknown')})"
    if which == "sequence_type":
        return f"seq({type_text(proto.sequence_type.elem_type)})"
    if which == "optional_type":
        return f"optional({type_text(proto.optional_type.elem_type)})"
    if which == "map_type":
        return f"map({NAMES.get(proto.map_type.key_type, 'unknown')},{type_text(proto.map_type.value_type)})"
    return ""


def type_proto(text: str, shape: tuple[int | str | None, ...] | None = None) -> onnx.TypeProto:
    """The opposite of `type_text`, with a shape when it is a tensor's and known."""
    parsed = parse_type(text)
    if parsed.kind == "seq" and parsed.inner is not None:
        return onnx.helper.make_sequence_type_proto(type_proto(text[4:-1]))
    if parsed.kind == "optional" and parsed.inner is not None:
        return onnx.helper.make_optional_type_proto(type_proto(text[9:-1], shape))
    if parsed.kind == "map":
        key, _, value = parsed.element.partition(",")
        return onnx.helper.make_map_type_proto(ELEMENTS[key][0], type_proto(value))
    return onnx.helper.make_tensor_type_proto(ELEMENTS[parsed.element][0], shape)


def ports_of(values: Iterable[onnx.ValueInfoProto]) -> tuple[Port, ...]:
    """The ports that a model file declares."""
    return tuple(Port(value.name, type_text(value.type), _shape(value.type)) for value in values)


def ports_in(nodes: Iterable[ort.NodeArg]) -> tuple[Port, ...]:
    """The ports that a session reports. It writes a scalar's shape and an unknown rank alike; both come out as None."""
    return tuple(Port(node.name, node.type, tuple(node.shape) or None) for node in nodes)


def _shape(proto: onnx.TypeProto) -> tuple[int | str | None, ...] | None:
    if proto.HasField("optional_type"):
        return _shape(proto.optional_type.elem_type)
    if not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    return tuple(_dim(dim) for dim in proto.tensor_type.shape.dim)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or None
