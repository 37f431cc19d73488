"""Normalisations, spelled out: TVM's own sum squares first, which loses the digits of what is far from 0, and hide exp and erf from its fast forms."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import attribute
from . import Expansion, Pen

FLOAT = ir.DataType.FLOAT
Made = tuple[ir.Value | None, ...] | None
AT_ONCE = 1 << 10
"""Numbers that a running sum adds up without losing more digits than the arithmetic around it."""


def layer_normalization(op: Pen, node: ir.Node) -> Made:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + bias, over the axes from ``axis`` on."""
    x, scale, bias = _three(node)
    axes = _axes_from(x, int(attribute(node, "axis", -1)))  # type: ignore[call-overload]
    if x is None or scale is None or axes is None or x.dtype is None:
        return None
    wide = _widened(op, node, x)
    mean = op.ReduceMean(wide, op.const(axes), keepdims=1)
    off = op.Sub(wide, mean)
    variance = op.ReduceMean(op.Mul(off, off), op.const(axes), keepdims=1)
    root = op.Sqrt(op.Add(variance, float(attribute(node, "epsilon", 1e-5))))  # type: ignore[arg-type]
    scaled = op.Mul(_narrowed(op, op.Div(off, root), wide, x), scale)
    result = scaled if bias is None else op.Add(scaled, bias)
    wanted = [value.name != "" and (bool(value.uses()) or value.is_graph_output()) for value in node.outputs]
    inverse = op.Reciprocal(root) if len(wanted) > 2 and wanted[2] else None
    return (result, mean, inverse)[: len(node.outputs)]


def rms_normalization(op: Pen, node: ir.Node) -> Made:
    """x / sqrt(mean(x^2) + epsilon) * scale, over the axes from ``axis`` on."""
    x, scale, _ = _three(node)
    axes = _axes_from(x, int(attribute(node, "axis", -1)))  # type: ignore[call-overload]
    if x is None or scale is None or axes is None or x.dtype is None:
        return None
    wide = _widened(op, node, x)
    square = op.ReduceMean(op.Mul(wide, wide), op.const(axes), keepdims=1)
    root = op.Sqrt(op.Add(square, float(attribute(node, "epsilon", 1e-5))))  # type: ignore[arg-type]
    return (op.Mul(_narrowed(op, op.Div(wide, root), wide, x), scale),)


def instance_normalization(op: Pen, node: ir.Node) -> Made:
    """Each channel of each sample by its own mean and deviation."""
    x, scale, bias = _three(node)
    if x is None or x.shape is None or scale is None or bias is None:
        return None
    axes = list(range(2, len(x.shape)))
    shape = op.const([1, -1, *[1] * len(axes)])
    wide = op.Cast(x, to=ir.DataType.DOUBLE.value) if x.dtype == FLOAT and _is_long(x, axes) else x
    mean = op.ReduceMean(wide, op.const(axes), keepdims=1)
    off = op.Sub(wide, mean)
    variance = op.ReduceMean(op.Mul(off, off), op.const(axes), keepdims=1)
    root = op.Sqrt(op.Add(_narrowed(op, variance, wide, x), float(attribute(node, "epsilon", 1e-5))))  # type: ignore[arg-type]
    normal = op.Div(op.Sub(x, _narrowed(op, mean, wide, x)), root)
    return (op.Add(op.Mul(normal, op.Reshape(scale, shape)), op.Reshape(bias, shape)),)


def lp_normalization(op: Pen, node: ir.Node) -> Made:
    """x by its norm along an axis, 0 where that is 0."""
    x = node.inputs[0]
    axis = op.const([int(attribute(node, "axis", -1))])  # type: ignore[call-overload]
    if x is None or x.dtype is None:
        return None
    norm = op.ReduceSum(op.Abs(x), axis, keepdims=1) if attribute(node, "p", 2) == 1 else op.Sqrt(op.ReduceSum(op.Mul(x, x), axis, keepdims=1))
    one = op.const(np.array(1, x.dtype.numpy()))
    return (op.Div(x, op.Where(op.Equal(norm, 0.0), one, norm)),)


def _three(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None, ir.Value | None]:
    padded = (*node.inputs, None, None)
    return padded[0], padded[1], padded[2]


def _is_long(x: ir.Value, axes: list[int]) -> bool:
    """Whether so much is added up, or may be, that sums are kept in double: each addition rounds to the digits of the sum so far."""
    sizes = [x.shape[axis] if x.shape is not None else None for axis in axes]
    known = [size for size in sizes if isinstance(size, int)]
    return len(known) < len(sizes) or math.prod(known) > AT_ONCE


def _axes_from(x: ir.Value | None, axis: int) -> list[int] | None:
    if x is None or x.shape is None:
        return None
    rank = len(x.shape)
    return list(range(axis % rank, rank))


def _widened(op: Pen, node: ir.Node, x: ir.Value) -> ir.Value:
    """The input in the type that statistics are kept in."""
    kept = ir.DataType(int(attribute(node, "stash_type", 1)))  # type: ignore[call-overload]
    return x if x.dtype in (kept, ir.DataType.DOUBLE) else op.Cast(x, to=kept.value)


def _narrowed(op: Pen, value: ir.Value, wide: ir.Value, x: ir.Value) -> ir.Value:
    assert x.dtype is not None
    return value if wide is x else op.Cast(value, to=x.dtype.value)


EXPANSIONS: dict[str, Expansion] = {
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "InstanceNormalization": instance_normalization,
    "LpNormalization": lp_normalization,
}
