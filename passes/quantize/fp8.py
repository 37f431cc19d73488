"""Small floating-point formats for weights: 8 bits and fewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import SiteStatistics
from .books import book_codes, fit_scales
from .coded import Codebook
from .grid import Grid
from .method import Method
from .steps import block_rows, finite

__all__ = ["FORMATS", "Format", "Fp8", "float_book", "float_codes"]

Format = Literal["e4m3", "e5m2", "e3m2", "e2m3", "e2m1"]
FORMATS: dict[Format, tuple[str, int]] = {
    "e4m3": ("float8_e4m3fn", 8),
    "e5m2": ("float8_e5m2", 8),
    "e3m2": ("float6_e3m2fn", 6),
    "e2m3": ("float6_e2m3fn", 6),
    "e2m1": ("float4_e2m1fn", 4),
}
"""The types of ml_dtypes by exponent and mantissa, and their bits."""


@dataclass(frozen=True)
class Fp8(Method):
    """Micikevicius et al., "FP8 Formats for Deep Learning" (2022): E4M3 (to 448) and E5M2 (to 57344); and the 6- and 4-bit formats of the OCP's MX.

    Each block is scaled so that its greatest magnitude is the format's, and every number goes to the nearest one of the format. ``clip``: the scale may be
    smaller where the squared error of the block is less, as in ZeroQuant-FP. Codes are the bit patterns of the format. Its relative error is the same
    for large and small numbers, so it beats evenly spaced codes where a few numbers are much larger than the rest, and not on normal weights.
    """

    name: ClassVar[str] = "fp8"
    refines: ClassVar[str | None] = None

    format: Format = "e4m3"
    clip: bool = False

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Codebook:
        """As `Method.quantize`; raises UsageError for another format. Of ``grid`` only the block counts."""
        finite(weight, grid)
        if self.format not in get_args(Format):
            raise UsageError(f"there is no format '{self.format}'; there are: {', '.join(get_args(Format))}")
        return float_codes(weight, self.format, grid.block, self.clip)


def float_book(form: Format) -> np.ndarray:
    """What each bit pattern stands for, float32 [2^bits], NaN and infinities among them."""
    import ml_dtypes

    name, bits = FORMATS[form]
    return np.arange(2**bits, dtype=np.uint8).view(getattr(ml_dtypes, name)).astype(np.float32)


def float_codes(weight: np.ndarray, form: Format, block: int, clip: bool = False, importance: np.ndarray | None = None) -> Codebook:
    """A weight [K, M] in one format; squared errors of rows count ``importance`` [K] where the scale is searched."""
    book, bits = float_book(form), FORMATS[form][1]
    scales = fit_scales(weight, book, block, clip, importance)
    return Codebook(book_codes(weight, book, scales, block), book, bits, scales, block_rows(block, len(weight)), book_bits=0)
