"""Arithmetic with constants: what a node does to its one open operand, as ``x * scale + shift``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import broadcasts_into
from ...compiler.core.graph import array, attribute, constant, is_op

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
MAX_CONSTANT_BYTES = 2**24
"""Constants larger than this are left to themselves: folding reads them in double precision."""


@dataclass(frozen=True)
class Arithmetic:
    """``x * scale + shift``, both float64 and of the rank of ``x``, with size 1 where they do not vary; the result has the shape of ``x``."""

    x: ir.Value
    scale: np.ndarray
    shift: np.ndarray


def arithmetic(node: ir.Node | None) -> Arithmetic | None:
    """What ``node`` computes if it is +, -, *, / with a constant, a negation, or a BatchNormalization at inference; floats only."""
    if node is None or len(node.outputs) != 1 or node.outputs[0].dtype not in FLOATS:
        return None
    if is_op(node, "Neg"):
        return _about(node.inputs[0], -np.ones(()), np.zeros(()))
    if is_op(node, "BatchNormalization"):
        return _normalisation(node)
    return _with_constant(node) if is_op(node, "Add", "Sub", "Mul", "Div") else None


def _with_constant(node: ir.Node) -> Arithmetic | None:
    left, right = node.inputs
    if constant(right) is not None:
        return _right_constant(node, left, right)
    if constant(left) is None or is_op(node, "Div"):
        return None
    number = _content(left, right)
    if number is None:
        return None
    one, zero = np.ones(()), np.zeros(())
    if is_op(node, "Mul"):
        return _about(right, number, zero)
    return None if rounds(right, number) else _about(right, -one if is_op(node, "Sub") else one, number)


def _right_constant(node: ir.Node, x: ir.Value | None, right: ir.Value | None) -> Arithmetic | None:
    number = _content(right, x)
    if number is None or constant(x) is not None:
        return None
    if is_op(node, "Mul"):
        return _about(x, number, np.zeros(()))
    if is_op(node, "Div"):
        return _about(x, 1.0 / number, np.zeros(())) if number.all() else None
    return None if rounds(x, number) else _about(x, np.ones(()), -number if is_op(node, "Sub") else number)


def rounds(x: ir.Value | None, number: np.ndarray) -> bool:
    """Whether adding ``number`` rounds what is below one away: models do so on purpose, and to mask."""
    eps = {ir.DataType.FLOAT: 2.0**-23, ir.DataType.FLOAT16: 2.0**-10, ir.DataType.BFLOAT16: 2.0**-7}.get(x.dtype if x is not None else None, 2.0**-52)  # type: ignore[arg-type]
    return bool((np.abs(number) * eps >= 0.5).any())


def _content(value: ir.Value | None, x: ir.Value | None) -> np.ndarray | None:
    """The constant in double precision, if it cannot make the result larger than ``x``."""
    if value is None or x is None or not broadcasts_into(value.shape, x.shape):
        return None
    content = array(value, MAX_CONSTANT_BYTES)
    return None if content is None or content.size == 0 else content.astype(np.float64)


def _about(x: ir.Value | None, scale: np.ndarray, shift: np.ndarray) -> Arithmetic | None:
    if x is None or x.shape is None:
        return None
    rank = len(x.shape)
    return Arithmetic(x, aligned(scale, rank), aligned(shift, rank))


def _normalisation(node: ir.Node) -> Arithmetic | None:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, by channel."""
    x = node.inputs[0]
    if x is None or x.shape is None or len(x.shape) < 2 or attribute(node, "training_mode", 0):
        return None
    found = [array(value, MAX_CONSTANT_BYTES) for value in node.inputs[1:5]]
    if any(content is None or content.ndim != 1 for content in found):
        return None
    scale, bias, mean, variance = (content.astype(np.float64) for content in found if content is not None)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = scale / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))  # type: ignore[arg-type]
        shift = bias - mean * factor
    tail = (1,) * (len(x.shape) - 2)
    return Arithmetic(x, factor.reshape(1, -1, *tail), shift.reshape(1, -1, *tail))


def aligned(content: np.ndarray, rank: int) -> np.ndarray:
    """``content`` with leading 1s up to ``rank`` dims."""
    return content.reshape((1,) * (rank - content.ndim) + content.shape)


def trimmed(content: np.ndarray) -> np.ndarray:
    """``content`` without leading 1s, as models write what broadcasts."""
    lead = next((axis for axis, size in enumerate(content.shape) if size != 1), content.ndim)
    return content.reshape(content.shape[lead:])


def narrowed(values: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """``values`` in ``dtype``; None when that makes a number infinite or NaN, or loses more to underflow than rounding takes."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        result = values.astype(dtype)
    back = result.astype(np.float64)
    if not np.isfinite(back).all():
        return None
    tolerated = 2.0**-7 if dtype.kind == "V" else float(np.finfo(dtype).eps)
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0:
        return result
    lost = float(np.linalg.norm((back - values) / largest))
    return result if lost <= tolerated * float(np.linalg.norm(values / largest)) else None
