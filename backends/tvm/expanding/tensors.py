"""Operators whose conversion in TVM misreads an attribute or a type, brought to a form that it reads right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import array, attribute
from ....compiler.core.shapes import static_shape
from . import Expansion, Pen

Made = tuple[ir.Value | None, ...] | None


def padded_explicitly(op: Pen, node: ir.Node) -> Made:
    """A convolution or pooling with ``auto_pad`` says its pads instead; the sizes must be known."""
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return None
    pads = _pads(node, str(mode))
    if pads is None:
        return None
    made = op.node(node.op_type, tuple(node.inputs), {**node.attributes, "auto_pad": None, "pads": pads}, outputs=len(node.outputs))
    return tuple(made.outputs)


def _pads(node: ir.Node, mode: str) -> list[int] | None:
    x, weights = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    if x is None or x.shape is None or attribute(node, "ceil_mode", 0):
        return None
    kernel: Any = attribute(node, "kernel_shape", None) or (weights.shape[2:] if weights is not None and weights.shape is not None else None)
    sizes = list(x.shape)[2:]
    if kernel is None or not all(isinstance(size, int) for size in kernel):
        return None
    if mode == "VALID":
        return [0] * 2 * len(sizes)
    if not all(isinstance(size, int) for size in sizes):
        return None
    strides: Any = attribute(node, "strides", None) or [1] * len(sizes)
    dilations: Any = attribute(node, "dilations", None) or [1] * len(sizes)
    totals = [
        max((-(-size // stride) - 1) * stride + (width - 1) * spread + 1 - size, 0)
        for size, width, stride, spread in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return [*small, *large] if mode == "SAME_UPPER" else [*large, *small]


def resized_to(op: Pen, node: ir.Node) -> Made:
    """Resize says the size of its result instead of scales, where these lead to whole sizes: TVM reads nothing else."""
    x, (given, wanted) = node.inputs[0], (*node.inputs[2:4], None, None)[:2]
    before, after = static_shape(x), static_shape(node.outputs[0])
    scales = array(given) if given is not None else None
    told = (given is None or (scales is not None and not scales.size)) and array(wanted) is not None and given is None
    if told or before is None or after is None or attribute(node, "axes", None) is not None:
        return None
    if scales is not None and scales.size and any(abs(a * b - c) > 1e-5 * c for a, b, c in zip(before, scales.tolist(), after, strict=True)):
        return None
    made = op.node("Resize", (x, None, None, op.const(list(after))), dict(node.attributes))
    return (made.outputs[0],)


def wide_indices(op: Pen, node: ir.Node) -> Made:
    """TVM wants indices of int64."""
    data, indices = node.inputs[:2]
    if indices is None or indices.dtype in (None, ir.DataType.INT64):
        return None
    return (op.node(node.op_type, (data, op.Cast(indices, to=ir.DataType.INT64.value), *node.inputs[2:]), dict(node.attributes)).outputs[0],)


def one_infinity(op: Pen, node: ir.Node) -> Made:
    """IsInf of one sign."""
    x = node.inputs[0]
    positive, negative = attribute(node, "detect_positive", 1), attribute(node, "detect_negative", 1)
    if x is None or x.dtype is None or (positive and negative):
        return None
    if not positive and not negative:
        return (op.And(op.IsInf(x), op.Not(op.IsInf(x))),)
    return (op.Equal(x, op.const(np.array(np.inf if positive else -np.inf).astype(x.dtype.numpy()))),)


EXPANSIONS: dict[str, Expansion] = {
    "Conv": padded_explicitly,
    "AveragePool": padded_explicitly,
    "MaxPool": padded_explicitly,
    "LpPool": padded_explicitly,
    "GatherND": wide_indices,
    "IsInf": one_infinity,
    "Resize": resized_to,
}
