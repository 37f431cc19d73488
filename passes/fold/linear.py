"""Conv, ConvTranspose, Gemm and MatMul by a constant: scaling and shifting what they make, and what they read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.graph import array, attribute, constant, is_op
from ...compiler.core.reasons import Skip, skip
from .arithmetic import FLOATS, aligned, narrowed, trimmed
from .constants import MAX_BYTES

CONVOLUTIONS = ("Conv", "ConvTranspose")
LINEAR = (*CONVOLUTIONS, "Gemm", "MatMul")


@dataclass(frozen=True)
class Linear:
    """A linear operator with a constant weight. ``weight_at`` is 0 for a MatMul whose weight stands on the left."""

    node: ir.Node
    weight_at: int

    @property
    def data(self) -> ir.Value:
        """What it multiplies by its weight."""
        value = self.node.inputs[1 - self.weight_at]
        assert value is not None
        return value

    @property
    def weight(self) -> np.ndarray:
        """The weight as it is stored."""
        found = array(self.node.inputs[self.weight_at])
        assert found is not None
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight, without reading it."""
        tensor = constant(self.node.inputs[self.weight_at])
        assert tensor is not None
        return tuple(tensor.shape.numpy())

    @property
    def bias(self) -> ir.Value | None:
        """The third input."""
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None

    @property
    def group(self) -> int:
        """How many groups of channels are convolved apart."""
        return int(attribute(self.node, "group", 1))  # type: ignore[call-overload]


def linear(node: ir.Node | None) -> Linear | None:
    """``node`` as a linear operator, if its weight, and its bias where it has one, are constants of a floating-point type."""
    if node is None or not is_op(node, *LINEAR) or len(node.inputs) < 2:
        return None
    weight_at = next((index for index in (1, 0) if constant(node.inputs[index]) is not None), None)
    if weight_at is None or (weight_at == 0 and not is_op(node, "MatMul")) or constant(node.inputs[1 - weight_at]) is not None:
        return None
    tensor = constant(node.inputs[weight_at])
    if tensor is None or tensor.dtype not in FLOATS or len(tensor.shape) < (3 if is_op(node, *CONVOLUTIONS) else 2):
        return None
    if is_op(node, "Gemm") and len(tensor.shape) != 2:
        return None
    if node.outputs[0].shape is None or node.inputs[1 - weight_at].shape is None:  # type: ignore[union-attr]
        return None
    if len(node.inputs[1 - weight_at].shape) < 2:  # type: ignore[union-attr,arg-type]
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return Linear(node, weight_at) if bias is None or constant(bias) is not None else None


def is_shared(item: Linear) -> bool:
    """Whether the weight is large and needed elsewhere too, so that a changed copy would be a second weight to store."""
    value = item.node.inputs[item.weight_at]
    tensor = constant(value)
    return value is not None and tensor is not None and len(value.uses()) > 1 and tensor.nbytes > MAX_BYTES


def refuses_output(item: Linear, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
    """Why the result of a linear operator cannot be scaled and shifted by these constants within its weight and bias."""
    rank = scale.ndim
    if (scale != 1).any() and is_shared(item):
        return skip("the weight '%s' is large and needed elsewhere too", item.node.inputs[item.weight_at].name)  # type: ignore[union-attr]
    if is_op(item.node, *CONVOLUTIONS):
        fits = all(_varies_only(content, 1) for content in (scale, shift))
        return None if fits else skip("the constant has shape %s, not one value per channel", trimmed(scale * shift).shape)
    if is_op(item.node, "Gemm"):
        return None if _varies_only(scale, 1) else skip("the constant has shape %s, not one value per column", trimmed(scale).shape)
    shape = (1,) * (rank - len(item.shape)) + item.shape
    summed = rank - 2 if item.weight_at == 1 else rank - 1
    fits = scale.shape[summed] == 1 and all(size in (1, whole) for size, whole in zip(scale.shape, shape, strict=True))
    return None if fits else skip("the constant has shape %s, the weight %s", trimmed(scale).shape, item.shape)


def _varies_only(content: np.ndarray, axis: int) -> bool:
    return all(size == 1 for index, size in enumerate(content.shape) if index != axis)


def with_output(op: Build, item: Linear, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
    """The operator making ``result * scale + shift``; a MatMul is followed by an Add where ``shift`` is not 0."""
    dtype = item.weight.dtype
    kept = bool((scale == 1).all())
    weight = None if kept else narrowed(_scaled_output(item, scale), dtype)
    if weight is None and not kept:
        return skip("the folded weight would overflow, or lose digits")
    new_weight = item.node.inputs[item.weight_at] if weight is None else op.const(weight, "weight")
    if is_op(item.node, "MatMul"):
        product = op.MatMul(*((item.data, new_weight) if item.weight_at else (new_weight, item.data)))
        return shifted(op, product, shift, dtype)  # type: ignore[arg-type]
    bias = _bias(item, scale, shift)
    narrow = None if bias is None else narrowed(bias, dtype)
    if bias is not None and narrow is None:
        return skip("the folded bias would overflow, or lose digits")
    changed = {"beta": None} if is_op(item.node, "Gemm") else {}
    new_bias = None if narrow is None else op.const(narrow, "bias")
    return op.like(item.node, item.data, new_weight, new_bias, **changed)  # type: ignore[return-value]


def shifted(op: Build, value: ir.Value, shift: np.ndarray, dtype: np.dtype) -> ir.Value | Skip:
    """``value + shift``, or ``value`` where ``shift`` is all 0."""
    if not shift.any():
        return value
    narrow = narrowed(trimmed(shift), dtype)
    return skip("the folded bias would overflow, or lose digits") if narrow is None else op.Add(value, op.const(narrow, "bias"))  # type: ignore[return-value]


def _scaled_output(item: Linear, scale: np.ndarray) -> np.ndarray:
    wide = item.weight.astype(np.float64)
    if is_op(item.node, "MatMul"):
        return wide * scale.reshape(scale.shape[-wide.ndim :])
    factors = scale.reshape(-1)
    if is_op(item.node, "Conv"):
        return wide * factors.reshape(-1, *(1,) * (wide.ndim - 1))
    if is_op(item.node, "ConvTranspose"):
        return _by_group(wide, np.broadcast_to(factors, (item.group * wide.shape[1],)), item.group)
    return wide * (factors[:, None] if attribute(item.node, "transB", 0) else factors)


def _by_group(wide: np.ndarray, factors: np.ndarray, group: int) -> np.ndarray:
    """[a, b, ...] with its second axis scaled, where channel c of ``factors`` is entry c % b of group c // b, and the groups split the first axis."""
    grouped = wide.reshape(group, wide.shape[0] // group, *wide.shape[1:])
    return (grouped * factors.reshape(group, 1, wide.shape[1], *(1,) * (wide.ndim - 2))).reshape(wide.shape)


def _bias(item: Linear, scale: np.ndarray, shift: np.ndarray) -> np.ndarray | None:
    """bias * scale + shift in double precision; None when there was none and is none."""
    before = array(item.bias)
    if before is None and not shift.any():
        return None
    wide = np.zeros(()) if before is None else before.astype(np.float64)
    if is_op(item.node, "Gemm"):
        beta = float(attribute(item.node, "beta", 1.0))  # type: ignore[arg-type]
        return trimmed(aligned(wide * beta, 2) * scale + shift)
    channels = output_channels(item)
    return np.broadcast_to(wide.reshape(-1) * scale.reshape(-1) + shift.reshape(-1), (channels,))


def output_channels(item: Linear) -> int:
    """How many channels a Conv or ConvTranspose makes."""
    return item.shape[0] if is_op(item.node, "Conv") else item.shape[1] * item.group


def refuses_input(item: Linear, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
    """Why what a linear operator reads cannot be scaled and shifted by these constants within its weight and bias."""
    node, rank = item.node, scale.ndim
    axis = 1 if is_op(node, *CONVOLUTIONS) else contracted_axis(item, rank)
    if not (_varies_only(scale, axis) and _varies_only(shift, axis)):
        return skip("the constant has shape %s, not one value per input channel", trimmed(scale * shift).shape)
    if is_shared(item):
        return skip("the weight '%s' is large and needed elsewhere too", node.inputs[item.weight_at].name)  # type: ignore[union-attr]
    if is_op(node, "MatMul") and len(item.shape) != 2 and (scale.size > 1 or shift.any()):
        return skip("the weight has shape %s", item.shape)
    if shift.any() and (is_op(node, "ConvTranspose") or item.weight_at == 0 or (is_op(node, "Conv") and pads_zeros(node))):
        return skip("what is added reaches the borders only in part")
    return None


def contracted_axis(item: Linear, rank: int) -> int:
    """The axis of a matrix product's data that it sums over."""
    if is_op(item.node, "Gemm"):
        return 0 if attribute(item.node, "transA", 0) else 1
    return rank - 1 if item.weight_at == 1 else rank - 2


def pads_zeros(node: ir.Node) -> bool:
    """Whether a Conv reads beyond the border; one of a single tap that keeps the size does not."""
    if attribute(node, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        weight = node.inputs[1]
        return weight is None or weight.shape is None or any(size != 1 for size in list(weight.shape)[2:])
    return attribute(node, "auto_pad", "NOTSET") == "NOTSET" and any(attribute(node, "pads") or ())  # type: ignore[arg-type]


def with_input(op: Build, item: Linear, data: ir.Value, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
    """The operator applied to ``data * scale + shift``, reading ``data``."""
    node, dtype = item.node, item.weight.dtype
    weight = narrowed(_scaled_input(item, scale), dtype)
    if weight is None:
        return skip("the folded weight would overflow, or lose digits")
    new_weight = op.const(weight, "weight")
    added = _added_by(item, shift) if shift.any() else None
    if is_op(node, "MatMul"):
        product = op.MatMul(*((data, new_weight) if item.weight_at else (new_weight, data)))
        return product if added is None else shifted(op, product, added, dtype)  # type: ignore[arg-type,return-value]
    if added is None:
        return op.like(node, data, new_weight, item.bias)  # type: ignore[return-value]
    before = array(item.bias)
    beta = float(attribute(node, "beta", 1.0)) if is_op(node, "Gemm") else 1.0  # type: ignore[arg-type]
    bias = narrowed(added if before is None else before.astype(np.float64) * beta + added, dtype)
    if bias is None:
        return skip("the folded bias would overflow, or lose digits")
    return op.like(node, data, new_weight, op.const(bias, "bias"), **({"beta": None} if is_op(node, "Gemm") else {}))  # type: ignore[return-value]


def _scaled_input(item: Linear, scale: np.ndarray) -> np.ndarray:
    wide, factors = item.weight.astype(np.float64), scale.reshape(-1)
    if factors.size == 1:
        return wide * factors[0]
    if is_op(item.node, "Conv"):
        return _by_group(wide, factors, item.group)
    if is_op(item.node, "ConvTranspose"):
        return wide * factors.reshape(-1, *(1,) * (wide.ndim - 1))
    left = item.weight_at == 0 or (is_op(item.node, "Gemm") and attribute(item.node, "transB", 0))
    return wide * (factors if left else factors[:, None])


def _added_by(item: Linear, shift: np.ndarray) -> np.ndarray:
    """What a constant added to every input channel adds to every output channel, in double precision."""
    wide = item.weight.astype(np.float64)
    if is_op(item.node, "Conv"):
        taps = wide.reshape(item.group, wide.shape[0] // item.group, wide.shape[1], -1).sum(axis=-1)
        spread = np.broadcast_to(shift.reshape(-1), (item.group * wide.shape[1],)).reshape(item.group, wide.shape[1], 1)
        return (taps @ spread).reshape(-1)
    matrix = wide.T if is_op(item.node, "Gemm") and attribute(item.node, "transB", 0) else wide
    alpha = float(attribute(item.node, "alpha", 1.0)) if is_op(item.node, "Gemm") else 1.0  # type: ignore[arg-type]
    return alpha * (np.broadcast_to(shift.reshape(-1), (matrix.shape[0],)) @ matrix)
