"""What a model takes and gives, in ONNX Runtime's words: "tensor(float)", "seq(tensor(int64))", "optional(tensor(float))"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto

from ...compiler.core.backend import Port

ELEMENTS: dict[str, tuple[int, np.dtype]] = {
    "float": (TensorProto.FLOAT, np.dtype(np.float32)),
    "double": (TensorProto.DOUBLE, np.dtype(np.float64)),
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
    "int8": (TensorProto.INT8, np.dtype(np.int8)),
    "int16": (TensorProto.INT16, np.dtype(np.int16)),
    "int32": (TensorProto.INT32, np.dtype(np.int32)),
    "int64": (TensorProto.INT64, np.dtype(np.int64)),
    "uint8": (TensorProto.UINT8, np.dtype(np.uint8)),
    "uint16": (TensorProto.UINT16, np.dtype(np.uint16)),
    "uint32": (TensorProto.UINT32, np.dtype(np.uint32)),
    "uint64": (TensorProto.UINT64, np.dtype(np.uint64)),
    "bool": (TensorProto.BOOL, np.dtype(np.bool_)),
    "string": (TensorProto.STRING, np.dtype(object)),
    "complex64": (TensorProto.COMPLEX64, np.dtype(np.complex64)),
    "complex128": (TensorProto.COMPLEX128, np.dtype(np.complex128)),
    "float8e4m3fn": (TensorProto.FLOAT8E4M3FN, np.dtype(ml_dtypes.float8_e4m3fn)),
    "float8e4m3fnuz": (TensorProto.FLOAT8E4M3FNUZ, np.dtype(ml_dtypes.float8_e4m3fnuz)),
    "float8e5m2": (TensorProto.FLOAT8E5M2, np.dtype(ml_dtypes.float8_e5m2)),
    "float8e5m2fnuz": (TensorProto.FLOAT8E5M2FNUZ, np.dtype(ml_dtypes.float8_e5m2fnuz)),
    "float8e8m0": (TensorProto.FLOAT8E8M0, np.dtype(ml_dtypes.float8_e8m0fnu)),
    "float4e2m1": (TensorProto.FLOAT4E2M1, np.dtype(ml_dtypes.float4_e2m1fn)),
    "int4": (TensorProto.INT4, np.dtype(ml_dtypes.int4)),
    "uint4": (TensorProto.UINT4, np.dtype(ml_dtypes.uint4)),
    "int2": (TensorProto.INT2, np.dtype(ml_dtypes.int2)),
    "uint2": (TensorProto.UINT2, np.dtype(ml_dtypes.uint2)),
}
"""ONNX Runtime's name of an element type -> ONNX's number, and the dtype of arrays that hold it."""
NAMES = {number: name for name, (number, _) in ELEMENTS.items()}
FOREIGN = frozenset(name for name, (_, dtype) in ELEMENTS.items() if dtype.type.__module__ == "ml_dtypes")
"""Element types that numpy has not, so that ONNX Runtime does not take or give them as arrays."""


@dataclass(frozen=True)
class Type:
    """A parsed type: ``kind`` tensor, seq, optional, map or sparse_tensor; of ``element``, or of ``inner``."""

    kind: str
    element: str = ""
    inner: Type | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether it holds an element type that numpy has not."""
        return self.inner.is_foreign if self.inner is not None else self.element in FOREIGN


def parse_type(text: str) -> Type:
    """ "seq(tensor(float))" taken apart."""
    kind, _, rest = text.partition("(")
    inside = rest[:-1]
    if kind in ("seq", "optional"):
        return Type(kind, inner=parse_type(inside))
    return Type(kind, element=inside)


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
