"""DequantizeLinear before an operator that stays: standard, and what runtimes look for when they choose kernels for narrow weights."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.reasons import Skip, skip
from ....compiler.core.sites import Site, fold_matrices
from ..coded import Affine, Codebook, Coded
from ..surgery import Place, Way

__all__ = ["as_steps", "code_type", "dequantized", "float_way", "pair_way", "storage"]

BLOCKED, PER_CHANNEL = 21, 13
NIBBLE, BYTE = 4, 8
FLOAT8 = (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
SCALES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def storage(bits: int, signed: bool) -> np.dtype | None:
    """The integer type that ONNX stores codes of ``bits`` in; None when there is none."""
    if bits <= NIBBLE:
        return np.dtype(ml_dtypes.int4 if signed else ml_dtypes.uint4)
    if bits <= BYTE:
        return np.dtype(np.int8 if signed else np.uint8)
    return np.dtype(np.int16 if signed else np.uint16) if bits <= 2 * BYTE else None


def code_type(coded: Affine) -> np.dtype | None:
    """The type that its codes are stored in: that of 8-bit floats where they are such; None when there is none."""
    return coded.codes.dtype if coded.codes.dtype in FLOAT8 else storage(coded.bits, coded.zeros is None)


def pair_way(place: Place, coded: Sequence[Affine]) -> Way | Skip:
    """The operator of the place on a dequantised weight; ``coded`` has one part for each group of the site."""
    first, dtype = coded[0], place.site.weight.dtype
    if storage(first.bits, True) is None:
        return skip("DequantizeLinear takes no codes of %d bits", first.bits)
    whole = len(first.scales) == 1
    narrow = first.bits <= NIBBLE or not whole or first.bits > BYTE or dtype is not ir.DataType.FLOAT
    return _refusal(place, whole) or _way(place, coded, f"int{first.bits}", BLOCKED if narrow else PER_CHANNEL)


def float_way(place: Place, coded: Sequence[Coded]) -> Way | Skip:
    """The same for codes that are bit patterns of an 8-bit float, as ONNX has it."""
    parts = [as_steps(part) for part in coded]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return skip("its codes are no 8-bit floats")
    return _refusal(place, len(known[0].scales) == 1) or _way(place, known, "fp8", BLOCKED)


def as_steps(coded: Coded) -> Affine | None:
    """8-bit floats times scales, the floats in place of codes; None for anything else."""
    if not isinstance(coded, Codebook) or coded.bits != BYTE or coded.scales is None:
        return None
    for kind in FLOAT8:
        floats = np.arange(2**BYTE, dtype=np.uint8).view(kind)
        if np.array_equal(floats.astype(np.float32), coded.book, equal_nan=True):
            return Affine(coded.codes.astype(np.uint8).view(kind), coded.scales, None, coded.block, BYTE)
    return None


def _refusal(place: Place, whole: bool) -> Skip | None:
    site = place.site
    if site.weight.dtype not in SCALES:
        return skip("DequantizeLinear makes no %s", site.weight.dtype)
    if not whole and site.kind not in ("MatMul", "Gemm"):
        return skip("DequantizeLinear takes blocks along an axis of the weight, and the inputs of a convolution lie along three")
    if whole and site.kind == "ConvTranspose":
        return skip("the output channels of a transposed convolution are not those of its matrix")
    return None


def _way(place: Place, coded: Sequence[Affine], form: str, lifts: int) -> Way:
    site = place.site

    def compose(op: Build, data: ir.Value) -> ir.Value:
        made = _computed(op, place, data, coded)
        if place.added is None or place.bias is None:
            return made  # type: ignore[return-value]
        return op.Add(made, op.const(place.bias.astype(site.weight.dtype.numpy()), "bias"))  # type: ignore[return-value, union-attr]

    return Way(form, compose, lifts)


def _computed(op: Build, place: Place, data: ir.Value, coded: Sequence[Affine]) -> ir.Value | tuple[ir.Value, ...]:
    """The operator of the place; a Gemm gets its weight upright, as which ONNX Runtime has a kernel for both."""
    node = place.site.node
    upright = place.site.kind == "Gemm" and place.site.flipped
    weight = dequantized(op, place.site, coded, upright)
    return op.like(node, *place.operands(data, weight), transB=None) if upright else op.like(node, *place.operands(data, weight))


def dequantized(op: Build, site: Site, coded: Sequence[Affine], upright: bool = False) -> ir.Value:
    """The weight of a site made from codes, in its stored layout, or ``upright`` as [K, M]."""
    first = coded[0]
    dtype = code_type(first)
    assert dtype is not None and site.weight.dtype is not None
    codes = (first.codes if upright else fold_matrices(np.stack([part.codes for part in coded]), site)).astype(dtype)
    channels = 1 if upright else site.channel_axis
    scales = _laid_out([part.scales for part in coded], site, channels).astype(site.weight.dtype.numpy())
    zeros = [part.zeros for part in coded if part.zeros is not None]
    zero = op.const(_laid_out(zeros, site, channels).astype(dtype), "zeros") if zeros else None
    stored, scale = op.const(codes, "codes"), op.const(scales, "scales")
    if scales.ndim == 0:
        return op.DequantizeLinear(stored, scale, zero)  # type: ignore[return-value]
    if scales.ndim == 1:
        return op.DequantizeLinear(stored, scale, zero, axis=channels)  # type: ignore[return-value]
    return op.DequantizeLinear(stored, scale, zero, axis=1 - channels, block_size=first.block)  # type: ignore[return-value]


def _laid_out(parts: Sequence[np.ndarray], site: Site, axis: int) -> np.ndarray:
    """[G, M] of each group as DequantizeLinear wants it: a number, one for each channel, or one for each block and channel."""
    if len(parts[0]) > 1:
        return np.ascontiguousarray(parts[0].T if axis == 0 else parts[0])
    channels = site.shape[site.channel_axis]
    if parts[0].shape[1] == 1 and channels != len(parts):
        return np.asarray(parts[0].reshape(())) if len(parts) == 1 else np.repeat(np.concatenate(parts).reshape(-1), channels // len(parts))
    return np.concatenate([part.reshape(-1) for part in parts])
