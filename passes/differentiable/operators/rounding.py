"""Quantised values, kept as whole numbers in floating point so that gradients pass through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ..straight_through import round_through
from .call import Call, Operators

if TYPE_CHECKING:
    import torch

__all__ = ["CODES", "operators", "spread"]

CODES = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767), "UINT16": (0, 65535), "INT4": (-8, 7), "UINT4": (0, 15)}


def operators() -> Operators:
    """By operator type."""

    def quantize(call: Call, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None = None) -> torch.Tensor:
        dtype = _code_type(call)
        if dtype not in CODES:
            raise call.refuse(f"the type {dtype}")
        scale, zero = spread(call, x, scale), None if zero is None else spread(call, x, zero)
        codes = round_through(x / scale)
        return (codes if zero is None else codes + zero).clamp(*CODES[dtype])

    def dequantize(call: Call, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None = None) -> torch.Tensor:
        codes = x.to(scale.dtype)
        return (codes if zero is None else codes - spread(call, x, zero)) * spread(call, x, scale)

    return {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}


def _code_type(call: Call) -> str:
    """The type of the codes: that of the zero point, else the attribute's, else UINT8."""
    zero = call.node.inputs[2] if len(call.node.inputs) > 2 else None
    if zero is not None and zero.dtype is not None:
        return zero.dtype.name
    said = call.whole("output_dtype")
    return ir.DataType(said).name if said else "UINT8"


def spread(call: Call, x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Scales or zero points so that they broadcast against ``x``: one for all, for each channel of an axis, or for each block along it."""
    if numbers.numel() == 1:
        return numbers.reshape(())
    axis = call.whole("axis", 1) % x.ndim
    if numbers.ndim == 1:
        return numbers.reshape(-1, *[1] * (x.ndim - axis - 1))
    return numbers.repeat_interleave(call.whole("block_size"), dim=axis).narrow(axis, 0, x.shape[axis])
