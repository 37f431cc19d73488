"""Integer products of data that is rounded to 8 bits when it comes, one scale for the whole tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import STORED, attribute
from ....compiler.core.reasons import Skip, skip
from ....compiler.core.target import Target
from ..coded import Affine
from ..surgery import Place, Recurrent, Way
from .nbits import MICROSOFT, is_plain_product

__all__ = ["convolved_way", "decomposed_way", "integer_way", "recurrent_way"]

BYTE = 8
OPSET = 13


def integer_way(place: Place, coded: Affine, target: Target) -> Way | Skip:
    """Data to uint8, times int8, to float; one kernel for the last two where the target has it. Sites with the same data share its rounding."""
    if not is_plain_product(place) or place.site.weight.dtype is not ir.DataType.FLOAT:
        return skip("only products of float32 data with a weight on the right are computed in integers")
    codes, scales = coded.codes.astype(np.int8), np.ascontiguousarray(np.broadcast_to(coded.scales, (1, coded.codes.shape[1])).reshape(-1))

    def fused(op: Build, data: ir.Value) -> ir.Value:
        rounded, scale, zero = op.DynamicQuantizeLinear(data, _outputs=3)  # type: ignore[misc]
        weight, steps = op.const(codes, "codes"), op.const(scales, "scales")
        bias = None if place.bias is None else op.const(place.bias, "bias")
        return op.MatMulIntegerToFloat(rounded, weight, scale, steps, zero, None, bias, _domain=MICROSOFT)  # type: ignore[return-value]

    def standard(op: Build, data: ir.Value) -> ir.Value:
        rounded, scale, zero = op.DynamicQuantizeLinear(data, _outputs=3)  # type: ignore[misc]
        product = op.Cast(op.MatMulInteger(rounded, op.const(codes, "codes"), zero), to=ir.DataType.FLOAT.value)
        found = op.Mul(product, op.Mul(scale, op.const(scales, "scales")))
        return found if place.bias is None else op.Add(found, op.const(place.bias, "bias"))  # type: ignore[return-value]

    return Way("int8", fused if target.has(MICROSOFT, "MatMulIntegerToFloat") else standard, OPSET)


def decomposed_way(place: Place, coded: Affine, outliers: np.ndarray, kept: np.ndarray, target: Target) -> Way | Skip:
    """LLM.int8(): two products added, ``outliers`` (bool [K]) of the data times their rows of the weight, ``kept`` in 16 bits, and the rest in integers.

    ``coded`` has zeros in the rows of the outliers. The data is rounded with one scale for the whole tensor, which is what kernels take.
    """
    bare = replace(place, added=None, bias=None) if place.site.kind == "MatMul" else place
    inner = integer_way(bare, coded, target)
    if isinstance(inner, Skip):
        return inner
    channels, rest = np.flatnonzero(outliers), np.where(outliers, 0.0, 1.0).astype(np.float32)

    def compose(op: Build, data: ir.Value) -> ir.Value:
        picked = op.Gather(data, op.const(channels.astype(np.int64), "outliers"), axis=-1)
        rows = op.node("Cast", (op.const(kept.astype(np.float16), "kept"),), {"to": ir.DataType.FLOAT.value})
        rows.metadata_props[STORED] = "decodes a weight"
        apart = op.MatMul(picked, rows.outputs[0])
        found = op.Add(inner.compose(op, op.Mul(data, op.const(rest, "rest"))), apart)  # type: ignore[arg-type]
        return op.Add(found, op.const(place.bias, "bias")) if bare is not place and place.bias is not None else found  # type: ignore[return-value]

    return Way("int8", compose, inner.lifts)


def convolved_way(place: Place, coded: tuple[Affine, ...]) -> Way | Skip:
    """ConvInteger; ``coded`` has one part for each group."""
    site = place.site
    if site.kind != "Conv" or site.weight.dtype is not ir.DataType.FLOAT:
        return skip("only convolutions of float32 data are computed in integers")
    if site.bias is not None and place.bias is None:
        return skip("its bias is no constant")
    codes = site.stored(np.stack([part.codes for part in coded])).astype(np.int8)
    across = (-1, *(1,) * (len(site.shape) - 2))
    scales = np.concatenate([part.scales.reshape(-1) for part in coded]).reshape(across)

    def compose(op: Build, data: ir.Value) -> ir.Value:
        rounded, scale, zero = op.DynamicQuantizeLinear(data, _outputs=3)  # type: ignore[misc]
        product = op.node("ConvInteger", (rounded, op.const(codes, "codes"), zero), dict(site.node.attributes)).outputs[0]
        found = op.Mul(op.Cast(product, to=ir.DataType.FLOAT.value), op.Mul(scale, op.const(scales, "scales")))
        return found if place.bias is None else op.Add(found, op.const(place.bias.reshape(across), "bias"))  # type: ignore[return-value]

    return Way("int8", compose, OPSET)


def recurrent_way(place: Recurrent, weights: tuple[np.ndarray, np.ndarray], target: Target) -> Way | Skip:
    """com.microsoft::DynamicQuantizeLSTM. ``weights`` are those of the input and of the state, float32 [directions, 4 hidden, inputs]."""
    node = place.subject
    if not target.has(MICROSOFT, "DynamicQuantizeLSTM"):
        return skip("the target has no kernel DynamicQuantizeLSTM")
    if attribute(node, "layout", 0):
        return skip("DynamicQuantizeLSTM wants the sequence first (layout 0)")
    kept = {name: item for name, item in node.attributes.items() if name != "layout"}
    (inputs, input_scales), (state, state_scales) = map(_by_gate, weights)
    zeros = np.zeros(input_scales.shape, np.int8)

    def compose(op: Build, data: ir.Value) -> tuple[ir.Value, ...]:
        rest = [*node.inputs[3:8], *(None,) * (8 - max(3, len(node.inputs)))]
        steps = [op.const(input_scales, "scales"), op.const(zeros, "zeros"), op.const(state_scales, "state_scales"), op.const(zeros, "state_zeros")]
        operands = (data, op.const(inputs, "codes"), op.const(state, "state_codes"), *rest, *steps)
        return tuple(op.node("DynamicQuantizeLSTM", operands, dict(kept), MICROSOFT, len(node.outputs)).outputs)

    return Way("int8", compose)


def _by_gate(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 [directions, inputs, 4 hidden] and float32 scales [directions, 4 hidden]."""
    turned = np.ascontiguousarray(weight.transpose(0, 2, 1))
    most = np.abs(turned).max(axis=1)
    scales = np.where(most > 0, most / (2 ** (BYTE - 1) - 1), 1.0).astype(np.float32)
    return np.rint(turned / scales[:, None, :]).astype(np.int8), scales
