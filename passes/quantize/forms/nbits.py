"""com.microsoft::MatMulNBits: a product with a weight of 2, 4 or 8 bits, in blocks of input channels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import attribute
from ....compiler.core.reasons import Skip, skip
from ....compiler.core.target import Target
from ..coded import Affine
from ..surgery import Place, Way
from .packing import kernel_bits, pack, unsigned

__all__ = ["MICROSOFT", "is_plain_product", "nbits_way"]

MICROSOFT = "com.microsoft"
SMALLEST_BLOCK = 16
WHOLE = 128
"""Block for a weight with one scale for each column: the kernel rounds its inputs block by block too, and larger ones are no faster."""
ACCURACY_LEVELS = (0, 1, 2, 3, 4)


def is_plain_product(place: Place) -> bool:
    """Whether it is the data times the weight, plus a bias: what kernels for products compute."""
    site = place.site
    if site.kind == "MatMul":
        return site.weight_at == 1
    if site.kind != "Gemm" or attribute(site.node, "alpha", 1.0) != 1:
        return False
    return site.bias is None or (place.bias is not None and attribute(site.node, "beta", 1.0) == 1)


def nbits_way(place: Place, coded: Affine, target: Target, accuracy_level: int) -> Way | Skip:
    """The weight as MatMulNBits takes it; ``accuracy_level`` 4 lets the kernel round its inputs to 8 bits, block by block, 0 keeps them as they are."""
    if not target.has(MICROSOFT, "MatMulNBits"):
        return skip("the target has no kernel MatMulNBits")
    if not is_plain_product(place):
        return skip("MatMulNBits only multiplies data by a weight on the right")
    if place.site.weight.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return skip("MatMulNBits has no kernel for %s", place.site.weight.dtype)
    bits = kernel_bits(coded.bits)
    found = unsigned(coded, bits)
    if isinstance(found, Skip):
        return found
    rows, columns = coded.codes.shape
    block = kernel_block(coded.block, rows)
    if block is None:
        return skip("MatMulNBits takes blocks of 16, 32, 64, ... channels, not of %d", coded.block)
    repeats = -(-min(coded.block, rows) // block) if len(coded.scales) == 1 else 1
    groups = -(-rows // block)
    scales, zeros = (np.repeat(np.broadcast_to(part, (len(part), columns)), repeats, axis=0)[:groups] for part in (found.scales, found.zeros))
    padded = np.concatenate([found.codes, np.zeros((groups * block - rows, columns), np.uint8)])
    blobs = pack(np.ascontiguousarray(padded.T).reshape(columns, groups, block), bits)
    dtype = place.site.weight.dtype.numpy()

    def compose(op: Build, data: ir.Value) -> ir.Value:
        weight, scale = op.const(blobs, "codes"), op.const(np.ascontiguousarray(scales.T).astype(dtype), "scales")
        zero = None if found.middle else op.const(pack(np.ascontiguousarray(zeros.T), bits), "zeros")
        bias = None if place.bias is None else op.const(place.bias.astype(dtype), "bias")
        return op.MatMulNBits(
            data, weight, scale, zero, None, bias, K=rows, N=columns, bits=bits, block_size=block, accuracy_level=accuracy_level, _domain=MICROSOFT
        )  # type: ignore[return-value]

    return Way(f"int{coded.bits}", compose)


def kernel_block(block: int, rows: int) -> int | None:
    """The block to tell the kernel: that of the codes, or one that each of theirs is made of."""
    if block >= rows:
        return next(size for size in (16, 32, 64, WHOLE) if size >= min(rows, WHOLE))
    return block if block >= SMALLEST_BLOCK and block & (block - 1) == 0 else None
