"""Models of which something is pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from graphwright.compiler.core.graph import bind_opsets

HEADER = '<ir_version: 8, opset_import: ["" : {opset}]>\n'


def model_of(text: str, opset: int = 17, seed: int = 0) -> ir.Model:
    """A model from ONNX text; inputs whose names start with a capital letter become random weights."""
    proto = onnx.parser.parse_model(HEADER.format(opset=opset) + text)
    rng = np.random.default_rng(seed)
    for value in [value for value in proto.graph.input if value.name[0].isupper()]:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), value.name))
        proto.graph.input.remove(value)
    onnx.checker.check_model(proto, full_check=True)
    model = ir.from_proto(proto)
    bind_opsets(model)
    return model


def outputs_of(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime makes of it with every optimisation off."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return list(ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, dict(feeds)))


def feeds_of(model: ir.Model, seed: int = 1, free: int = 3) -> dict[str, np.ndarray]:
    """Random feeds; every symbol is ``free``; integers count up."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        shape = [dim if isinstance(dim, int) else free for dim in value.shape or ()]
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        real = np.issubdtype(dtype, np.floating)
        feeds[value.name or ""] = rng.normal(0, 1, shape).astype(dtype) if real else np.array(np.arange(np.prod(shape)).reshape(shape) % 4).astype(dtype)
    return feeds


def zero(model: ir.Model, places: Iterable[tuple[str, int, np.ndarray]]) -> None:
    """Put zeros at these indices of an axis of a weight."""
    for name, axis, indices in places:
        value = model.graph.initializers[name]
        content = np.array(value.const_value.numpy())
        content[(slice(None),) * axis + (indices,)] = 0
        value.const_value = ir.tensor(content, name=name)
