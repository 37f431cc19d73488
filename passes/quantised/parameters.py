"""Scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, attribute, is_op

BYTES = (ir.DataType.INT8, ir.DataType.UINT8)
WORDS = (ir.DataType.INT16, ir.DataType.UINT16)
LARGEST_SCALE = 1e30
"""A number of quanta of this size is still no infinity."""


@dataclass(frozen=True)
class Parameters:
    """What a QuantizeLinear or DequantizeLinear does: number = (code - zero) * scale, with codes of ``dtype``."""

    scale: np.ndarray
    zero: np.ndarray
    dtype: ir.DataType
    axis: int
    block: int

    @property
    def per_tensor(self) -> bool:
        """Whether there is one scale for all elements."""
        return self.scale.size == 1 and self.block == 0

    @property
    def lowest(self) -> int:
        """The smallest code."""
        return int(np.iinfo(self.dtype.numpy()).min)

    @property
    def highest(self) -> int:
        """The largest code."""
        return int(np.iinfo(self.dtype.numpy()).max)

    def same_as(self, other: Parameters) -> bool:
        """Whether both mean the same number by the same code."""
        if self.dtype != other.dtype or self.scale.dtype != other.scale.dtype or self.block != other.block:
            return False
        if self.per_tensor and other.per_tensor:
            return bool(self.scale.reshape(()) == other.scale.reshape(()) and self.zero.reshape(()) == other.zero.reshape(()))
        return self.axis == other.axis and np.array_equal(self.scale, other.scale) and np.array_equal(self.zero, other.zero)

    @property
    def reversible(self) -> bool:
        """Whether each code comes back when it is dequantised and quantised again, and larger codes are larger numbers.

        k * s / s is k but for two roundings, and they amount to less than half a code when k * s neither overflows nor is subnormal.
        """
        if self.scale.dtype == np.float32 and self.dtype in (*BYTES, *WORDS):
            least, most = float(np.finfo(np.float32).tiny), LARGEST_SCALE
        elif self.scale.dtype == np.float16 and self.dtype in BYTES:
            least, most = float(np.finfo(np.float16).tiny), float(np.finfo(np.float16).max) / 512
        else:
            return False
        return bool(((self.scale >= least) & (self.scale <= most)).all())


def parameters_of(node: ir.Node | None) -> Parameters | None:
    """The parameters of a QuantizeLinear or DequantizeLinear; None when they are not constant, or of another kind than scales and zero points."""
    if node is None or not is_op(node, "QuantizeLinear", "DequantizeLinear"):
        return None
    codes = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    scale = array(node.inputs[1])
    dtype = codes.dtype if codes is not None else None
    if scale is None or dtype not in (*BYTES, *WORDS):
        return None
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = array(given) if given is not None else np.zeros(scale.shape, dtype.numpy())
    if zero is None or zero.shape != scale.shape or zero.dtype != dtype.numpy() or not scale.size:
        return None
    return Parameters(scale, zero, dtype, _axis(node, scale), int(attribute(node, "block_size", 0)))  # type: ignore[call-overload]


def _axis(node: ir.Node, scale: np.ndarray) -> int:
    axis = int(attribute(node, "axis", 1))  # type: ignore[call-overload]
    source = node.inputs[0]
    rank = len(source.shape) if source is not None and source.shape is not None else None
    return axis if axis >= 0 or rank is None else axis + rank
