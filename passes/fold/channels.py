"""Weights seen by output channel: what scaling and shifting them needs to know."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import attribute, is_op
from ...compiler.core.reasons import Skip, skip


def per_channel(values: np.ndarray, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """``values``, which broadcast against a tensor of ``rank`` dims, as float64 [channels] along ``axis``; None when they vary along another.

    A shape [W] against [N,C,H,W] varies along W, whatever C is.
    """
    if values.ndim > rank:
        return None
    aligned = (1,) * (rank - values.ndim) + values.shape
    axis %= rank
    if any(size != 1 for position, size in enumerate(aligned) if position != axis) or aligned[axis] not in (1, channels):
        return None
    return np.broadcast_to(values.astype(np.float64).reshape(-1), (channels,))


def output_channels(node: ir.Node, weight: np.ndarray) -> int | None:
    """How many output channels a Conv, ConvTranspose, Gemm or MatMul with this weight has; None when the weight's rank is not the usual one."""
    if is_op(node, "Conv"):
        return weight.shape[0] if weight.ndim >= 3 else None
    if is_op(node, "ConvTranspose"):
        return weight.shape[1] * int(attribute(node, "group", 1)) if weight.ndim >= 3 else None  # type: ignore[call-overload]
    if weight.ndim != 2:
        return None
    return weight.shape[0] if is_op(node, "Gemm") and attribute(node, "transB", 0) else weight.shape[1]


def output_rank(node: ir.Node, weight: np.ndarray) -> int | None:
    """The rank of what the node makes, and so how constants align with it; None when it is not known."""
    if is_op(node, "Conv", "ConvTranspose"):
        return weight.ndim
    if is_op(node, "Gemm"):
        return 2
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return len(shape) if shape is not None and len(shape) >= 2 else None


def channel_axis(node: ir.Node) -> int:
    """Where the output channels lie in what the node makes."""
    return 1 if is_op(node, "Conv", "ConvTranspose", "Gemm") else -1


def scaled(node: ir.Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weight with output channel c multiplied by ``scale[c]``; float64."""
    wide = weight.astype(np.float64)
    if is_op(node, "Conv"):
        return wide * scale.reshape(-1, *(1,) * (wide.ndim - 1))
    if is_op(node, "ConvTranspose"):
        return _scaled_transposed(wide, scale, int(attribute(node, "group", 1)))  # type: ignore[call-overload]
    if is_op(node, "Gemm") and attribute(node, "transB", 0):
        return wide * scale[:, None]
    return wide * scale


def _scaled_transposed(wide: np.ndarray, scale: np.ndarray, group: int) -> np.ndarray:
    """ConvTranspose weights are [inputs, outputs / group, ...]; output channel c belongs to group c // (outputs / group)."""
    grouped = wide.reshape(group, wide.shape[0] // group, *wide.shape[1:])
    factors = scale.reshape(group, 1, wide.shape[1], *(1,) * (wide.ndim - 2))
    return (grouped * factors).reshape(wide.shape)


def narrowed(values: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray | Skip:
    """``values`` in ``dtype``, unless that makes a number infinite or NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = values.astype(dtype)
    if not np.isfinite(result.astype(np.float64)).all():
        return skip("the folded %s would not be finite", what)
    return result


def gemm_bias(node: ir.Node, bias: np.ndarray | None, channels: int) -> np.ndarray | None:
    """Gemm's beta * C as float64 [channels]; zeros when it has none, None when C differs from row to row."""
    if bias is None:
        return np.zeros(channels)
    if bias.ndim > 2 or (bias.ndim == 2 and bias.shape[0] != 1) or bias.size not in (1, channels):
        return None
    beta = float(attribute(node, "beta", 1.0))  # type: ignore[arg-type]
    return np.broadcast_to(bias.astype(np.float64).reshape(-1), (channels,)) * (beta if not math.isnan(beta) else np.nan)
