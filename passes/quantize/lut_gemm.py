"""Sign matrices with scales, and an offset, so that even steps are among what they can say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .bcq import MOST_PLANES
from .binary_coding import fit_binaries
from .coded import Binaries
from .grid import Grid
from .hessian import importance
from .method import Method
from .steps import finite

__all__ = ["LutGemm"]


@dataclass(frozen=True)
class LutGemm(Method):
    """Park et al., "LUT-GEMM: Quantized Matrix Multiplication based on LUTs" (2022), equations 3 and 4: ``W ~ sum of a_i B_i + z``.

    With the offset z of each block and column every asymmetric uniform grid is a special case; so from its start the fit is never worse than that grid with
    its ends at the extremes. Otherwise as `bcq`.
    """

    name: ClassVar[str] = "lut_gemm"
    refines: ClassVar[str | None] = "bcq"

    rounds: int = 15

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Binaries:
        """As `Method.quantize`; ``statistics`` may be None."""
        finite(weight, grid)
        weights = np.ones(len(weight)) if statistics is None else importance(np.asarray(statistics.moment))
        return fit_binaries(weight, min(grid.bits, MOST_PLANES), max(0, grid.block), weights, offset=True, rounds=self.rounds)
