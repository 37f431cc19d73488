"""A weight as a sum of sign matrices with scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .binary_coding import fit_binaries
from .coded import Binaries
from .grid import Grid
from .hessian import importance
from .method import Method
from .steps import finite

__all__ = ["Bcq", "MOST_PLANES"]

MOST_PLANES = 5
"""With more the 2^planes sums of every number take too long, and even steps are as good."""


@dataclass(frozen=True)
class Bcq(Method):
    """Binary-coding quantisation: ``W ~ sum of a_i B_i`` (Rastegari et al. 2016; fitted as in Xu et al. 2018; Kwon et al., "AlphaTuning", 2022, equation 1).

    As many sign matrices as the grid has bits (at most five), with scales in half precision for each block and column. Where statistics are given, each
    input's errors count by diag H.
    """

    name: ClassVar[str] = "bcq"
    refines: ClassVar[str | None] = "rtn"
    offset: ClassVar[bool] = False
    """Whether each block and column has an offset of its own, too."""

    rounds: int = 15

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Binaries:
        """As `Method.quantize`; ``statistics`` may be None."""
        finite(weight, grid)
        weights = np.ones(len(weight)) if statistics is None else importance(np.asarray(statistics.moment))
        return fit_binaries(weight, min(grid.bits, MOST_PLANES), max(0, grid.block), weights, offset=self.offset, rounds=self.rounds)
