"""What 16 bits can hold."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ....compiler.core.errors import UsageError

__all__ = ["FORMS", "HALVES", "loss"]

HALVES = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
FORMS = {"float16": "fp16", "bfloat16": "bf16"}
FEW = 64
"""Constants up to this many elements steer a computation (an epsilon, a bound): one that vanishes changes what it is for. In a weight it is nothing."""


def loss(content: np.ndarray, dtype: ir.DataType) -> str | None:
    """Why a float32 constant cannot be stored in 16 bits; None when it can. Infinities stay what they are."""
    if dtype not in HALVES.values():
        raise UsageError(f"{dtype} is no type of 16 bits")
    info = ml_dtypes.finfo(dtype.numpy())
    largest, least = float(info.max), float(info.smallest_subnormal)
    sizes = np.abs(content[np.isfinite(content)].astype(np.float64))
    most = float(sizes.max(initial=0.0))
    if most > largest:
        return f"it holds {most:.3g}, and {dtype.name.lower()} ends at {largest:.3g}"
    vanishing = sizes[(sizes > 0) & (sizes < least)]
    if content.size <= FEW and vanishing.size:
        return f"it holds {vanishing.min():.3g}, which {dtype.name.lower()} rounds to 0"
    return None
