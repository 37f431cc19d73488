"""Rounding to nearest: what every other method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Affine
from .grid import Grid
from .method import Method

__all__ = ["Rtn"]


@dataclass(frozen=True)
class Rtn(Method):
    """``q = clip(round(w / s) + z)``: each number goes to the nearest step; ``clipping`` says where the steps end (see `fit_steps`)."""

    name: ClassVar[str] = "rtn"

    clipping: Clipping = "minmax"
    percentile: float = 99.9

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        """As `Method.quantize`."""
        steps = fit_steps(weight, grid, self.clipping, self.percentile)
        return steps.affine(steps.codes(weight))
