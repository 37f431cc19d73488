"""Types and shapes as ONNX's own operator definitions infer them, one node at a time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from ..dims import UNKNOWN, Dim
from ..errors import ModelError
from ..graph import constant, node_label, opset
from .contents import content

Outcome = tuple[ir.TypeProtocol | None, tuple[Dim, ...] | None]
"""Type and dimensions of one output; None for a type or rank that is not known, `UNKNOWN` for such a dimension."""

Types = list[onnx.TypeProto | None]

_MOST_DATA = 64
_TRIAL_SIZES = (1, 2, 3, 4, 5, 6, 8, 12, 16, 0)
_NO_DATA = frozenset({
    "Add", "Sub", "Mul", "Div", "Pow", "Relu", "Neg", "Abs", "Exp", "Log", "Sqrt", "Erf", "Sigmoid", "Tanh", "Cast", "MatMul", "Gemm", "Conv", "Softmax",
    "LayerNormalization", "BatchNormalization", "Identity", "Where", "Transpose", "Gelu", "Clip", "LeakyRelu", "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip
_TENSOR_KINDS = (ir.TensorType, ir.SparseTensorType)


@dataclass
class StandardInference:
    """Asks ONNX, and remembers the answers: the layers of a network repeat themselves."""

    answers: dict[Hashable, tuple[Outcome, ...] | None] = field(default_factory=dict)

    def outcomes(self, node: ir.Node) -> tuple[Outcome, ...] | None:
        """Type and shape of every output; None when ONNX has no definition of the operator. Raises ModelError when the inputs contradict it."""
        version = version_of(node)
        data = {} if node.op_type in _NO_DATA else _small_data(node)
        attributes = tuple(map(_attribute_key, node.attributes.values()))
        inputs = tuple(None if value is None else (value.type, None if value.shape is None else value.shape.dims) for value in node.inputs)
        contents = tuple((index, array.dtype.str, array.shape, array.tobytes()) for index, array in data.items())
        key = (node.domain, node.op_type, version, attributes, len(node.outputs), inputs, contents)
        if key not in self.answers:
            self.answers[key] = _ask(node, version, data)
        return self.answers[key]


def _attribute_key(attr: ir.Attr) -> Hashable:
    """What tells attributes apart; a tensor or graph is told by which object it is."""
    value = attr.value if isinstance(attr.value, int | float | str | tuple) else id(attr.value)
    return attr.name, attr.type, attr.ref_attr_name, value


def version_of(node: ir.Node) -> int:
    """The operator-set version that a node is read under; a node not yet in a graph has that of its inputs, else the newest."""
    if node.version is not None:
        return node.version
    owners = [node.graph, *(value.graph for value in node.inputs if value is not None)]
    graph = next((owner for owner in owners if owner is not None), None)
    return opset(graph, node.domain) if graph is not None else onnx.defs.onnx_opset_version()


def _small_data(node: ir.Node) -> dict[int, np.ndarray]:
    found = {}
    for index, value in enumerate(node.inputs):
        numbers = None if value is None else _small_array(value)
        if numbers is not None:
            found[index] = numbers
    return found


def _small_array(value: ir.Value) -> np.ndarray | None:
    known = content(value)
    if known is not None:
        if value.dtype is None or not all(isinstance(item, (int, bool)) for item in known.flat):
            return None
        return known.astype(value.dtype.numpy())
    tensor = constant(value)
    if tensor is None or tensor.size > _MOST_DATA or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64, ir.DataType.INT32):
        return None
    return tensor.numpy()


def _ask(node: ir.Node, version: int, data: dict[int, np.ndarray]) -> tuple[Outcome, ...] | None:
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "" if node.domain == "ai.onnx" else node.domain)
    except onnx.defs.SchemaError:
        return None
    types = [None if value is None else type_proto(value.type, value.shape) for value in node.inputs]
    try:
        return _answer(schema, node, version, types, data)
    except onnx.shape_inference.InferenceError as error:
        kinds = _kinds_at_some_size(schema, node, version, types, data)
        if kinds is None:
            raise ModelError(f"the node {node_label(node)} contradicts its inputs: {_reason(error)}") from error
        return kinds


def _answer(schema: onnx.defs.OpSchema, node: ir.Node, version: int, types: Types, data: dict[int, np.ndarray]) -> tuple[Outcome, ...]:
    inputs = ["" if value is None else f"i{index}" for index, value in enumerate(node.inputs)]
    outputs = [f"o{index}" for index in range(len(node.outputs))]
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=inputs, output=outputs)
    proto.attribute.extend(map(ir.serde.serialize_attribute, node.attributes.values()))
    tensors = {f"i{index}": onnx.numpy_helper.from_array(array) for index, array in data.items()}
    imports = [onnx.helper.make_opsetid(node.domain, version)]
    known = {name: proto for name, proto in zip(inputs, types, strict=True) if proto is not None}
    found = onnx.shape_inference.infer_node_outputs(schema, proto, known, tensors, opset_imports=imports)
    return tuple(read_type(found[name]) if name in found else (None, None) for name in outputs)


def _kinds_at_some_size(schema: onnx.defs.OpSchema, node: ir.Node, version: int, types: Types, data: dict[int, np.ndarray]) -> tuple[Outcome, ...] | None:
    """The output types, if some size of the symbols pleases ONNX, which reads the symbols of some operators as 0; else None."""
    if not any(value is not None and value.shape is not None and value.shape.is_dynamic() for value in node.inputs):
        return None
    for size in _TRIAL_SIZES:
        trial = [None if proto is None else _at_size(proto, size) for proto in types]
        try:
            return tuple((kind, None) for kind, _ in _answer(schema, node, version, trial, data))
        except onnx.shape_inference.InferenceError:
            continue
    return None


def _at_size(proto: onnx.TypeProto, size: int) -> onnx.TypeProto:
    result = onnx.TypeProto()
    result.CopyFrom(proto)
    for dim in result.tensor_type.shape.dim if result.HasField("tensor_type") else ():
        if not dim.HasField("dim_value"):
            dim.dim_value = size
    return result


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).removeprefix("[ShapeInferenceError]").removeprefix("[TypeInferenceError]").strip()


def type_proto(kind: ir.TypeProtocol | None, shape: ir.Shape | Sequence[Dim] | None) -> onnx.TypeProto:
    """A value's type and shape as ONNX writes them; empty when the type is not known."""
    proto = onnx.TypeProto()
    _fill(proto, kind, shape)
    return proto


def _fill(proto: onnx.TypeProto, kind: ir.TypeProtocol | None, shape: ir.Shape | Sequence[Dim] | None) -> None:
    if isinstance(kind, ir.SequenceType):
        _fill(proto.sequence_type.elem_type, kind.elem_type, shape)
    elif isinstance(kind, ir.OptionalType):
        _fill(proto.optional_type.elem_type, kind.elem_type, shape)
    elif isinstance(kind, _TENSOR_KINDS):
        tensor = proto.sparse_tensor_type if isinstance(kind, ir.SparseTensorType) else proto.tensor_type
        tensor.elem_type = int(kind.dtype)
        if shape is not None:
            tensor.shape.SetInParent()
            for dim in shape:
                _fill_dim(tensor.shape.dim.add(), dim)


def _fill_dim(proto: onnx.TensorShapeProto.Dimension, dim: Dim) -> None:
    if isinstance(dim, int):
        proto.dim_value = dim
    elif dim.value is not None:
        proto.dim_param = dim.value


def read_type(proto: onnx.TypeProto) -> Outcome:
    """Type and dimensions from ONNX's form."""
    field_name = proto.WhichOneof("value")
    if field_name in ("sequence_type", "optional_type"):
        inner, dims = read_type(getattr(proto, field_name).elem_type)
        if inner is None:
            return None, None
        return (ir.SequenceType(inner) if field_name == "sequence_type" else ir.OptionalType(inner)), dims
    if field_name not in ("tensor_type", "sparse_tensor_type"):
        return None, None
    tensor = getattr(proto, field_name)
    kind = ir.TensorType if field_name == "tensor_type" else ir.SparseTensorType
    dims = tuple(map(_read_dim, tensor.shape.dim)) if tensor.HasField("shape") else None
    return (kind(ir.DataType(tensor.elem_type)) if tensor.elem_type else None), dims


def _read_dim(proto: onnx.TensorShapeProto.Dimension) -> Dim:
    kind = proto.WhichOneof("value")
    if kind == "dim_value":
        return proto.dim_value
    return ir.SymbolicDim(proto.dim_param) if kind == "dim_param" and proto.dim_param else UNKNOWN
