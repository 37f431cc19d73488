"""Half-precision models, computed in float32: their runtimes compute so anyway, and integer kernels have float32 scales."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import all_graphs, constant, swap_names
from ...compiler.core.names import Names
from ...compiler.core.shapes import settle_shapes

__all__ = ["is_half", "widen"]

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def is_half(model: ir.Model) -> bool:
    """Whether the model computes in float16 throughout: some constants do, none in float32, and there is nothing nested in it."""
    kinds = {tensor.dtype for value in model.graph.initializers.values() if (tensor := constant(value)) is not None and tensor.size > 1}
    return HALF in kinds and FLOAT not in kinds and sum(1 for _ in all_graphs(model)) == 1 and not model.functions


def widen(model: ir.Model) -> None:
    """Let everything inside compute in float32; inputs and outputs keep their type."""
    graph, names = model.graph, Names(model)
    for value in list(graph.initializers.values()):
        tensor = constant(value)
        if tensor is not None and tensor.dtype == HALF:
            value.const_value = ir.tensor(tensor.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(FLOAT)
    for node in list(graph):
        _widen_attributes(node)
    outputs = list(graph.outputs)
    for value in (one for node in list(graph) for one in node.outputs):
        if value.dtype == HALF:
            value.type = ir.TensorType(FLOAT)
            if value in outputs:
                _narrow_output(graph, value, names)
    for value in graph.inputs:
        if value.dtype == HALF:
            _cast_input(graph, value, names)
    graph.sort()
    settle_shapes(model)


def _widen_attributes(node: ir.Node) -> None:
    if node.op_type == "Cast" and node.attributes["to"].as_int() == HALF:
        node.attributes["to"] = ir.AttrInt64("to", int(FLOAT))
    tensor = node.attributes.get("value")
    if tensor is not None and tensor.type == ir.AttributeType.TENSOR and tensor.as_tensor().dtype == HALF:
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(tensor.as_tensor().numpy().astype(np.float32)))


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, names: Names) -> ir.Value:
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(dtype))])
    made = node.outputs[0]
    made.name, made.type, made.shape = names.fresh("cast"), ir.TensorType(dtype), value.shape
    graph.append(node)
    return made


def _cast_input(graph: ir.Graph, value: ir.Value, names: Names) -> None:
    readers = list(value.uses())
    made = _cast(graph, value, FLOAT, names)
    for user, index in readers:
        user.replace_input_with(index, made)


def _narrow_output(graph: ir.Graph, value: ir.Value, names: Names) -> None:
    made = _cast(graph, value, HALF, names)
    for place, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[place] = made
    swap_names(value, made, names)
