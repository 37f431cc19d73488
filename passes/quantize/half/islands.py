"""Which operators compute in 16 bits, and which stay wide."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir

from ....compiler.core.graph import array, constant, node_label, opset, producer, subgraphs_of, users
from ....compiler.core.target import PORTABLE, STANDARD_DOMAINS, Target
from .reach import is_beyond, loss

__all__ = ["goes_beyond", "narrowed", "stays_wide"]

SUMS = ("ReduceSum", "ReduceSumSquare", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceProd", "CumSum", "GlobalAveragePool", "MeanVarianceNormalization")
STEEP = ("Exp", "Log", "Pow", "Softmax", "LogSoftmax", "ReduceLogSum", "ReduceLogSumExp", "Softplus", "Reciprocal", "Sqrt", "SoftmaxCrossEntropyLoss")
NORMS = ("LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization", "LpNormalization", "LRN")
ISLANDS = frozenset((*SUMS, *STEEP, *NORMS))
"""Operators whose sums are longer, or whose results are larger or smaller, than 16 bits can follow."""
WIDE_INSIDE = {
    "cuda": frozenset(
        {"LayerNormalization", "RMSNormalization", "BatchNormalization", "InstanceNormalization", "Softmax", "LogSoftmax", "GlobalAveragePool"}
    )
}
"""Device -> those whose kernels there take 16 bits, add up in 32, and make nothing larger than what they were given: no islands."""
BOUND_TO_A_TYPE = frozenset({"Cast", "CastLike", "Constant", "ConstantOfShape", "EyeLike", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
                             "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Range", "LSTM", "GRU", "RNN"})  # fmt: skip


def stays_wide(node: ir.Node, dtype: ir.DataType, wide: Iterable[str], islands: bool, target: Target = PORTABLE) -> str | None:
    """Why a node goes on computing in float32; None when it can compute in 16 bits. ``wide`` names values that 16 bits cannot hold."""
    if node.domain not in STANDARD_DOMAINS or _schema(node) is None:
        return f"{node.domain}::{node.op_type} is no standard operator"
    if subgraphs_of(node) or node.op_type in BOUND_TO_A_TYPE:
        return f"{node.op_type} has no form for 16 bits"
    if _is_quantised(node):
        return "it computes with quantised values"
    if not _has_kernel(node, dtype, target):
        return f"{target.name} has no kernel of {node.op_type} for {dtype.name.lower()}"
    if islands and node.op_type in ISLANDS and node.op_type not in WIDE_INSIDE.get(target.device, ()):
        return f"what {node.op_type} adds up or makes may leave the range of 16 bits"
    operands = narrowed(node, dtype)
    if not any(operands):
        return "it has 16 bits already" if any(value.dtype is dtype for value in node.outputs) else "none of its operands can have 16 bits"
    beyond = next((value.name for value in (*node.inputs, *node.outputs) if value is not None and value.name in set(wide)), None)
    if beyond is not None:
        return f"'{beyond}' leaves the range of 16 bits on the calibration data"
    for content in _constants(node, dtype):
        reason = loss(content, dtype)
        if reason is not None:
            return f"{node_label(node)} reads a constant: {reason}"
    return None


def goes_beyond(node: ir.Node, dtype: ir.DataType) -> bool:
    """Whether a node reads a constant larger than 16 bits can be, so that what it makes may be too."""
    return any(is_beyond(content, dtype) for content in _constants(node, dtype))


def _constants(node: ir.Node, dtype: ir.DataType) -> list[np.ndarray]:
    """What a node reads of constants that would be stored in 16 bits."""
    return [content for index in narrowed(node, dtype)[0] if (content := array(node.inputs[index])) is not None]


def _has_kernel(node: ir.Node, dtype: ir.DataType, target: Target) -> bool:
    """Whether the target computes an operator in 16 bits; where it has no kernel for it at all, whether it is made of other operators."""
    if not target.types or target.takes(node.op_type, dtype):
        return True
    schema = _schema(node)
    if node.op_type in target.types or schema is None:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


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
