"""A few nodes as a model of their own, with the constants that they are applied to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from .graph import opset

if TYPE_CHECKING:
    import onnxruntime

_EMBEDDED_BYTES = 4096
"""Constants up to this size stand in the model itself: some kernels want them there."""
_WIDER: Mapping[ir.DataType, ir.DataType] = {
    ir.DataType.BFLOAT16: ir.DataType.FLOAT,
    ir.DataType.FLOAT8E4M3FN: ir.DataType.FLOAT,
    ir.DataType.FLOAT8E4M3FNUZ: ir.DataType.FLOAT,
    ir.DataType.FLOAT8E5M2: ir.DataType.FLOAT,
    ir.DataType.FLOAT8E5M2FNUZ: ir.DataType.FLOAT,
    ir.DataType.INT4: ir.DataType.INT8,
    ir.DataType.UINT4: ir.DataType.UINT8,
}
"""Types that do not pass between ONNX Runtime and numpy, and the type they pass as: every number of the first is one of the second."""
_NARROW_NUMPY = {
    ir.DataType.BFLOAT16: ml_dtypes.bfloat16,
    ir.DataType.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
    ir.DataType.INT4: ml_dtypes.int4,
    ir.DataType.UINT4: ml_dtypes.uint4,
}
_PLAIN_KINDS = "fiub"


class NoKernel(Exception):
    """ONNX Runtime lacks a kernel for one of the nodes."""


class Recipe:
    """Nodes and the constants they read, ready to run as often as wanted, whatever becomes of the graph they came from.

    Small constants stand in the model, large ones are its inputs: weights are read when it runs, and never copied into it.
    """

    def __init__(self, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value], leaves: Mapping[ir.Value, ir.TensorProtocol]) -> None:
        self._names: dict[ir.Value, str] = {}
        self._fed: dict[str, tuple[ir.TensorProtocol, ir.DataType | None]] = {}
        self._graph = onnx.GraphProto(name="constants")
        for value, tensor in leaves.items():
            self._add_leaf(value, tensor)
        for node in nodes:
            self._add_node(node)
        self._dtypes = [value.dtype for value in wanted]
        self._outputs = [self._add_output(value) for value in wanted]
        domains = dict.fromkeys(["", *(_plain_domain(node) for node in nodes)])
        imports = [onnx.helper.make_opsetid(domain, _version(nodes[0], domain)) for domain in domains]
        self._model = onnx.helper.make_model(self._graph, opset_imports=imports, ir_version=onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True))

    def run(self) -> list[ir.TensorProtocol]:
        """The results, from ONNX Runtime with every optimisation off. Raises NoKernel, or what ONNX Runtime raises for inputs that do not fit."""
        return self._as_tensors(self.session().run(self._outputs, self._feeds()))

    def session(self) -> onnxruntime.InferenceSession:
        """A new session. Raises NoKernel, or what ONNX Runtime raises when it refuses the model for another reason."""
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Missing

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(self._model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Missing as error:
            raise NoKernel(str(error)) from error

    def run_reference(self) -> list[ir.TensorProtocol]:
        """The results, from ONNX's reference implementation."""
        from onnx.reference import ReferenceEvaluator

        return self._as_tensors(list(ReferenceEvaluator(self._model).run(self._outputs, self._feeds())))

    def _feeds(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() if wider is None else tensor.numpy().astype(wider.numpy()) for name, (tensor, wider) in self._fed.items()}

    def _name(self, value: ir.Value | None) -> str:
        return "" if value is None else self._names.setdefault(value, f"v{len(self._names)}")

    def _add_leaf(self, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        name = self._name(value)
        if tensor.nbytes <= _EMBEDDED_BYTES:
            proto = ir.serde.serialize_tensor(tensor)
            proto.name = name
            self._graph.initializer.append(proto)
            return
        wider = _WIDER.get(tensor.dtype)
        fed = name if wider is None else f"{name}_wide"
        self._fed[fed] = tensor, wider
        self._graph.input.append(onnx.helper.make_tensor_value_info(fed, int(wider or tensor.dtype), list(tensor.shape.numpy())))
        if wider is not None:
            self._graph.node.append(onnx.helper.make_node("Cast", [fed], [name], to=int(tensor.dtype)))

    def _add_node(self, node: ir.Node) -> None:
        proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=map(self._name, node.inputs), output=map(self._name, node.outputs))
        proto.attribute.extend(map(ir.serde.serialize_attribute, node.attributes.values()))
        self._graph.node.append(proto)

    def _add_output(self, value: ir.Value) -> str:
        name = self._name(value)
        wider = _WIDER.get(value.dtype) if value.dtype is not None else None
        shown = name if wider is None else f"{name}_wide"
        if wider is not None:
            self._graph.node.append(onnx.helper.make_node("Cast", [name], [shown], to=int(wider)))
        self._graph.output.append(onnx.ValueInfoProto(name=shown))
        return shown

    def _as_tensors(self, results: Sequence[object]) -> list[ir.TensorProtocol]:
        return [_as_tensor(result, dtype) for result, dtype in zip(results, self._dtypes, strict=True)]


def _as_tensor(result: object, dtype: ir.DataType | None) -> ir.TensorProtocol:
    array = np.asarray(result)
    if dtype in _NARROW_NUMPY:
        return ir.Tensor(array.astype(_NARROW_NUMPY[dtype]), dtype=dtype)
    if not isinstance(result, np.ndarray | np.generic) or array.dtype.kind not in _PLAIN_KINDS:
        raise TypeError(f"{type(result).__name__} is no tensor of numbers")
    return ir.Tensor(np.ascontiguousarray(array).reshape(array.shape))


def _plain_domain(node: ir.Node) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def _version(node: ir.Node, domain: str) -> int:
    return (opset(node.graph, domain) if node.graph is not None else 0) or 1
