"""Which operators compute in 16 bits, and which stay wide."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import onnx
import onnx_ir as ir

from ....compiler.core.graph import array, constant, node_label, opset, producer, subgraphs_of, users
from ....compiler.core.target import STANDARD_DOMAINS
from .reach import loss

__all__ = ["narrowed", "stays_wide"]

SUMS = ("ReduceSum", "ReduceSumSquare", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceProd", "CumSum", "GlobalAveragePool", "MeanVarianceNormalization")
STEEP = ("Exp", "Log", "Pow", "Softmax", "LogSoftmax", "ReduceLogSum", "ReduceLogSumExp", "Softplus", "Reciprocal", "Sqrt", "SoftmaxCrossEntropyLoss")
NORMS = ("LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization", "LpNormalization", "LRN")
ISLANDS = frozenset((*SUMS, *STEEP, *NORMS))
"""Operators whose sums are longer, or whose results are larger or smaller, than 16 bits can follow."""
BOUND_TO_A_TYPE = frozenset({"Cast", "CastLike", "Constant", "ConstantOfShape", "EyeLike", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
                             "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Range", "LSTM", "GRU", "RNN"})  # fmt: skip


def stays_wide(node: ir.Node, dtype: ir.DataType, wide: Iterable[str], islands: bool) -> str | None:
    """Why a node goes on computing in float32; None when it can compute in 16 bits. ``wide`` names values that 16 bits cannot hold."""
    if node.domain not in STANDARD_DOMAINS or _schema(node) is None:
        return f"{node.domain}::{node.op_type} is no standard operator"
    if subgraphs_of(node) or node.op_type in BOUND_TO_A_TYPE:
        return f"{node.op_type} has no form for 16 bits"
    if _is_quantised(node):
        return "it computes with quantised values"
    if islands and node.op_type in ISLANDS:
        return f"what {node.op_type} adds up or makes may leave the range of 16 bits"
    operands = narrowed(node, dtype)
    if not any(operands):
        return "it has 16 bits already" if any(value.dtype is dtype for value in node.outputs) else "none of its operands can have 16 bits"
    beyond = next((value.name for value in (*node.inputs, *node.outputs) if value is not None and value.name in set(wide)), None)
    if beyond is not None:
        return f"'{beyond}' leaves the range of 16 bits on the calibration data"
    for index in operands[0]:
        content = array(node.inputs[index])
        reason = loss(content, dtype) if content is not None else None
        if reason is not None:
            return f"{node_label(node)} reads a constant: {reason}"
    return None


def _is_quantised(node: ir.Node) -> bool:
    """Whether its data comes from, or goes to, integers: runtimes have a kernel for all of it."""
    made_of = any(producer(value, "DequantizeLinear") is not None for value in node.inputs)
    return made_of or any(reader.op_type == "QuantizeLinear" for value in node.outputs for reader in users(value))


def narrowed(node: ir.Node, dtype: ir.DataType) -> tuple[list[int], list[int]]:
    """The inputs and the outputs of a node that are float32, and may be ``dtype`` by its schema."""
    schema = _schema(node)
    if schema is None:
        return [], []
    name = f"tensor({dtype.name.lower()})"
    return _fitting(schema, list(schema.inputs), node.inputs, name), _fitting(schema, list(schema.outputs), node.outputs, name)


def _fitting(schema: onnx.defs.OpSchema, formals: list[onnx.defs.OpSchema.FormalParameter], values: Iterable[ir.Value | None], name: str) -> list[int]:
    found = []
    for index, value in enumerate(values):
        if value is None or not formals or _dtype(value) is not ir.DataType.FLOAT:
            continue
        if name in formals[min(index, len(formals) - 1)].types:
            found.append(index)
    return found


def _dtype(value: ir.Value) -> ir.DataType | None:
    tensor = constant(value)
    return tensor.dtype if tensor is not None else value.dtype


def _schema(node: ir.Node) -> onnx.defs.OpSchema | None:
    version = node.version or (opset(node.graph) if node.graph is not None else 0)
    return _schema_of(node.op_type, version) if version else None


@functools.cache
def _schema_of(op_type: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None
