"""Models whose shapes are inferred, and run at several sizes to see that the shapes hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime

from graphwright.compiler.core import dims, shapes
from graphwright.compiler.core.graph import all_graphs, bind_opsets, clone_model

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
SIZES = (
    {"N": 3, "M": 5, "K": 4},
    {"N": 1, "M": 1, "K": 1},
    {"N": 2, "M": 1, "K": 7},
    {"N": 1, "M": 4, "K": 1},
    {"N": 0, "M": 3, "K": 2},
    {"N": 4, "M": 0, "K": 3},
)
Feeds = Mapping[str, np.ndarray]
Values = dict[str, object]


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(text if text.startswith("<") else HEAD + text)
    bind_opsets(model)
    return model


def inferred(text: str) -> ir.Model:
    model = read(text)
    shapes.infer_shapes(model)
    return model


def value_of(model: ir.Model, name: str) -> ir.Value:
    found = [value for graph in all_graphs(model) for node in graph for value in node.outputs if value.name == name]
    assert len(found) == 1, name
    return found[0]


def shape_of(model: ir.Model, name: str) -> str:
    return str(value_of(model, name).shape)


def run_everything(model: ir.Model, feeds: Feeds) -> Values:
    """What every tensor of the main graph is at run time, with ONNX Runtime's optimisations off."""
    open_model = clone_model(model)
    shapes.forget_ours(open_model)
    outputs = list(open_model.graph.outputs)
    for node in open_model.graph:
        open_model.graph.outputs.extend(value for value in node.outputs if value.name and isinstance(value.type, ir.TensorType) and value not in outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(ir.to_proto(open_model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def assert_shapes_hold(model: ir.Model, feeds: Feeds) -> None:
    """Compare with a run: ints are equal, a symbol has one value everywhere, known numbers are those in the tensor."""
    real = {**run_everything(model, feeds), **feeds}
    bindings: dict[str, int] = {}
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        array = real.get(value.name or "")
        if isinstance(array, np.ndarray):
            assert_shape_holds(value, array, bindings)
            assert_content_holds(value, array, bindings)


def assert_shape_holds(value: ir.Value, array: np.ndarray, bindings: dict[str, int]) -> None:
    if value.shape is None:
        return
    where = f"{value.name}: {value.shape} is really {array.shape} with {bindings}"
    assert len(value.shape) == array.ndim, where
    for dim, size in zip(value.shape, array.shape, strict=True):
        if isinstance(dim, ir.SymbolicDim) and dims.evaluate(dim, bindings) is None and dim.value in dims.free_symbols(dim):
            bindings[dim.value] = size
        known = dims.evaluate(dim, bindings)
        assert known is None or known == size, where


def assert_content_holds(value: ir.Value, array: np.ndarray, bindings: dict[str, int]) -> None:
    known = shapes.known_ints(value)
    if known is None:
        return
    numbers = [dims.evaluate(item, bindings) for item in known]
    assert len(numbers) == array.size
    assert all(number is None or number == item for number, item in zip(numbers, array.reshape(-1).tolist(), strict=True)), f"{value.name}: {known} is {array}"


def feeds_for(model: ir.Model, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        assert value.dtype is not None and value.shape is not None
        shape = [dim if isinstance(dim, int) else sizes.get(dim.value or "", 2) for dim in value.shape]
        kind = value.dtype.numpy()
        numbers = random.standard_normal(shape) if kind.kind == "f" else random.integers(0, 2, shape)
        feeds[value.name or ""] = numbers.astype(kind)
    return feeds
