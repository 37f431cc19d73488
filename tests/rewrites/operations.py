"""How many scalar operations a model takes, counted on one run with every unknown dimension 4."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime

SIZE = 4
FREE = (
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Slice", "Split", "Concat", "Gather", "Expand", "Cast", "Constant",
)  # fmt: skip
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")


def operations(model: onnx.ModelProto) -> int:
    """The number for the nodes of the main graph. Operators that only move numbers are free."""
    shapes = shapes_of(model)
    return sum(_operations(node, shapes) for node in model.graph.node)


def shapes_of(model: onnx.ModelProto) -> Mapping[str, tuple[int, ...]]:
    """The shape of every value, from one run with all of them as outputs."""
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in known]
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(open_model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    feeds = {value.name: _ones(value) for value in model.graph.input if value.name not in weights}
    results = session.run(None, feeds)
    made = {output.name: np.shape(value) for output, value in zip(session.get_outputs(), results, strict=True)}
    return {**weights, **{name: array.shape for name, array in feeds.items()}, **made}


def _ones(value: onnx.ValueInfoProto) -> np.ndarray:
    kind = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else SIZE for dim in kind.shape.dim]
    return np.ones(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


def _operations(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if node.op_type in FREE:
        return 0
    made = max((math.prod(shapes.get(name, ())) for name in node.output if name), default=0)
    fed = [shapes.get(name, ()) for name in node.input if name]
    if node.op_type in PRODUCTS:
        return 2 * made * _inner(node, fed[0])
    if node.op_type in ("Conv", "FusedConv"):
        return 2 * made * math.prod(fed[1][1:])
    return max([made, *(math.prod(shape) for shape in fed)])


def _inner(node: onnx.NodeProto, left: tuple[int, ...]) -> int:
    """How many products one element of the result adds up."""
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return left[-2] if turned and len(left) > 1 else left[-1]
