"""com.microsoft::MatMulBnb4: a product with a weight of normal quantiles (nf4), its blocks running along the rows of the transposed weight."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.reasons import Skip, skip
from ....compiler.core.target import Target
from ..coded import Codebook, Coded
from ..surgery import Place, Way
from .nbits import MICROSOFT, is_plain_product

__all__ = ["NF4", "bnb4_way"]

NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)  # fmt: skip
"""The codebook that the kernel has built in (Dettmers et al., "QLoRA", 2023, appendix E)."""
QUANT_TYPE = 1
SMALLEST_BLOCK = 16
CLOSE = 1e-6


def bnb4_way(place: Place, coded: Coded, target: Target) -> Way | Skip:
    """The weight as MatMulBnb4 takes it."""
    if not target.has(MICROSOFT, "MatMulBnb4"):
        return skip("the target has no kernel MatMulBnb4")
    if not is_plain_product(place) or place.site.weight.dtype is not ir.DataType.FLOAT:
        return skip("MatMulBnb4 only multiplies float32 data by a weight on the right")
    if not isinstance(coded, Codebook) or coded.scales is None or coded.book.shape != NF4.shape or not np.allclose(coded.book, NF4, rtol=0, atol=CLOSE):
        return skip("MatMulBnb4 only knows the codebook of nf4")
    (rows, columns), block, scales = coded.codes.shape, coded.block, coded.scales
    if block < SMALLEST_BLOCK or block & (block - 1) or rows % block:
        return skip("MatMulBnb4 takes no blocks of %d for %d input channels", block, rows)
    flat = np.ascontiguousarray(coded.codes.T).astype(np.uint8).reshape(-1)
    if len(flat) % 2:
        flat = np.concatenate([flat, np.zeros(1, np.uint8)])

    def compose(op: Build, data: ir.Value) -> ir.Value:
        packed = op.const((flat[0::2] << np.uint8(4)) | flat[1::2], "codes")
        absmax = op.const(np.ascontiguousarray(scales.T).reshape(-1).astype(np.float32), "absmax")
        made = op.MatMulBnb4(data, packed, absmax, K=rows, N=columns, block_size=block, quant_type=QUANT_TYPE, _domain=MICROSOFT)
        return made if place.bias is None else op.Add(made, op.const(place.bias, "bias"))  # type: ignore[return-value]

    return Way("nf4", compose)
