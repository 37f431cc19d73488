"""Codes that are equally likely for normally distributed weights."""

from __future__ import annotations

import statistics as normal
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .books import book_codes, fit_scales
from .coded import SCALE_BITS, Codebook
from .grid import Grid
from .method import Method
from .steps import SMALLEST_SCALE, block_rows, finite

__all__ = ["FLOAT4", "Nf4", "normal_book", "twice_quantised"]

OFFSET = 0.9677083
"""The greatest quantile: halfway between 1 - 1/30 and 1 - 1/32, as bitsandbytes has it."""
FLOAT4 = np.array([0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 0.5, 2 / 12, 0.25], np.float32)
"""The eight magnitudes of bitsandbytes' 4-bit float by code; codes 8 to 15 are their negatives."""
SCALES_A_SCALE = 256


@dataclass(frozen=True)
class Nf4(Method):
    """Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (2023), section 3 and appendix E.

    Each block is divided by its greatest magnitude and goes to the nearest entry of a fixed book. ``book``: "normal" has the quantiles of N(0, 1) brought to
    [-1, 1], with an exact zero and both ends (NF4; other bits the same way); "float" is bitsandbytes' FP4, 4 bits only. ``twice``: the scales are quantised
    too, 256 of them sharing one of 32 bits, as 8-bit floats of their distance to the mean. ``clip``, which is not in
    the paper: the scale is a share of the greatest magnitude where that costs the block less. A block of 0 in the grid is a whole column, -1 the whole weight.
    """

    name: ClassVar[str] = "nf4"
    refines: ClassVar[str | None] = "rtn"

    book: Literal["normal", "float"] = "normal"
    twice: bool = False
    clip: bool = False

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Codebook:
        """As `Method.quantize`. Of ``grid`` the bits and the block count."""
        finite(weight, grid)
        book, bits = (normal_book(grid.bits), grid.bits) if self.book == "normal" else (np.concatenate([FLOAT4, -FLOAT4]), 4)
        scales, width = fit_scales(weight, book, grid.block, self.clip), float(SCALE_BITS)
        if self.twice:
            scales, width = twice_quantised(scales)
        return Codebook(book_codes(weight, book, scales, grid.block), book, bits, scales, block_rows(grid.block, len(weight)), width, book_bits=0)


def normal_book(bits: int) -> np.ndarray:
    """The normal quantiles of a ``bits`` wide book, float32 [2^bits], rising from -1 to 1: half of them above zero, zero itself, one less below."""
    above = 2 ** (bits - 1)
    if bits == 1:
        return np.array([-1.0, 1.0], np.float32)
    quantile = normal.NormalDist().inv_cdf
    upper = [quantile(share) for share in np.linspace(OFFSET, 0.5, above + 1)[:-1]]
    lower = [-quantile(share) for share in np.linspace(OFFSET, 0.5, above)[:-1]]
    book = np.sort(np.array([*upper, 0.0, *lower]))
    return (book / np.abs(book).max()).astype(np.float32)


def twice_quantised(scales: np.ndarray) -> tuple[np.ndarray, float]:
    """Scales as double quantisation leaves them, float32 of the same shape, all positive, and the bits of one.

    The mean of all is subtracted; of what is left every 256 are divided by their greatest and stored as float8 (E4M3).
    """
    import ml_dtypes

    flat = scales.astype(np.float64).ravel()
    mean = float(np.float32(flat.mean()))
    count = -(-len(flat) // SCALES_A_SCALE)
    rest = np.zeros((count, SCALES_A_SCALE))
    rest.flat[: len(flat)] = flat - mean
    unit = np.abs(rest).max(axis=1, keepdims=True) / float(ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max)
    unit = np.where(unit > 0, unit, 1.0).astype(np.float32).astype(np.float64)
    limit = float(ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max)
    codes = np.clip(rest / unit, -limit, limit).astype(ml_dtypes.float8_e4m3fn)
    found = (codes.astype(np.float64) * unit).ravel()[: len(flat)] + mean
    kept = np.where(found > SMALLEST_SCALE, found, flat).reshape(scales.shape).astype(np.float32)
    return kept, 8 + (count + 1) * SCALE_BITS / len(flat)
