"""Weights put side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

IN_MEMORY_BYTES = 2**26
"""Larger ones are put together whenever they are read, so that the weights of a large model are never all in memory."""


def side_by_side(parts: Sequence[np.ndarray], axis: int) -> np.ndarray | ir.TensorProtocol:
    """All parts as one tensor, one after the other along ``axis``."""
    if sum(part.nbytes for part in parts) <= IN_MEMORY_BYTES:
        return np.concatenate(parts, axis=axis)
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    dtype = ir.DataType.from_numpy(parts[0].dtype)
    return ir.LazyTensor(lambda: ir.Tensor(np.concatenate(parts, axis=axis)), dtype=dtype, shape=ir.Shape(shape))
