"""Sign matrices with scales, and an offset, so that even steps are among what they can say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .bcq import Bcq

__all__ = ["LutGemm"]


@dataclass(frozen=True)
class LutGemm(Bcq):
    """Park et al., "LUT-GEMM: Quantized Matrix Multiplication based on LUTs" (2022), equations 3 and 4: ``W ~ sum of a_i B_i + z``.

    With the offset z of each block and column every asymmetric uniform grid is a special case; so from its start the fit is never worse than that grid with
    its ends at the extremes. Otherwise as `bcq`.
    """

    name: ClassVar[str] = "lut_gemm"
    refines: ClassVar[str | None] = "bcq"
    offset: ClassVar[bool] = True
