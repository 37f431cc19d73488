"""What 16 bits can hold."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ....compiler.core.errors import UsageError

__all__ = ["FORMS", "HALVES", "end_of", "is_beyond", "loss"]

HALVES = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
FORMS = {"float16": "fp16", "bfloat16": "bf16"}
FEW = 64
"""Constants up to this many elements steer a computation (an epsilon, a bound): one that vanishes changes what it is for. In a weight it is nothing."""


def loss(content: np.ndarray, dtype: ir.DataType) -> str | None:
    """Why a float32 constant cannot be stored in 16 bits; None when it can. Infinities stay what they are."""
    if dtype not in HALVES.values():
        raise UsageError(f"{dtype} is no type of 16 bits")
    least = float(ml_dtypes.finfo(dtype.numpy()).smallest_subnormal)
    sizes = np.abs(content[np.isfinite(content)].astype(np.float64))
    if is_beyond(content, dtype):
        return f"it holds {sizes.max():.3g}, and {dtype.name.lower()} ends at {end_of(dtype):.3g}"
    vanishing = sizes[(sizes > 0) & (sizes < least)]
    if content.size <= FEW and vanishing.size:
        return f"it holds {vanishing.min():.3g}, which {dtype.name.lower()} rounds to 0"
    return None


def is_beyond(content: np.ndarray, dtype: ir.DataType) -> bool:
    """Whether a constant holds a finite number that 16 bits make an infinity of."""
    return bool((np.abs(content[np.isfinite(content)].astype(np.float64)) > end_of(dtype)).any())


def end_of(dtype: ir.DataType) -> float:
    """The largest number of a type."""
    return float(ml_dtypes.finfo(dtype.numpy()).max)
