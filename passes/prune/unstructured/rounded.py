"""SparseGPT with rounding: what goes is chosen and what stays is rounded in one sweep."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from ...quantize.clipping import Clipping, fit_steps
from ...quantize.coded import Affine
from ...quantize.feedback import descend, feed_back
from ...quantize.gptq import Gptq, Table
from ...quantize.grid import Grid
from ...quantize.hessian import DAMP, damped, feedback_factor, importance, moment_of
from ...quantize.method import Method
from ...quantize.steps import Steps, finite
from .pattern import Pattern, kept
from .sparsegpt import Masks, SparseGpt

__all__ = ["SparseAndRounded"]


@dataclass(frozen=True)
class SparseAndRounded(Method):
    """Frantar and Alistarh, "SparseGPT" (2023), section 3.5: `sparsegpt`, with each row of what stays rounded to the grid when its turn comes, so that the
    rows behind make good for both, and the choice of what goes there knows of both.

    The steps of a block of rows are fitted to what will stay of it, as the rows before have moved it; those of a grid without blocks to what `SparseGpt`
    leaves. What the paper does not have: what stays is then solved for, by ``solves`` of coordinate descent, and rounded once more, by falling diag H
    (`gptq`, with ``sweeps``).
    """

    name: ClassVar[str] = "sparsegpt"
    moments: ClassVar[bool] = True

    pattern: Pattern = Pattern()
    clipping: Clipping = "mse"
    damp: float = DAMP
    solves: int = 3
    sweeps: int = 3

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        factor, weights = feedback_factor(moment, self.damp), importance(moment)
        masks = Masks(np.diagonal(factor), self.pattern)
        whole, rows = Grid(grid.bits, grid.symmetric, 0, grid.narrow), grid.block if grid.block > 0 else len(weight)
        fitted: list[Steps] = []

        def fit(row: int, part: np.ndarray) -> Steps:
            if grid.block <= 0:
                part = SparseGpt(damp=self.damp, sweeps=0).pruned(weight, statistics, self.pattern, None)
                return fit_steps(part.astype(np.float32), grid, self.clipping, importance=weights)
            price = np.square(part) / np.square(np.diagonal(factor)[row : row + len(part), None])
            stays = kept(price, replace(self.pattern, run=0), "weight")
            return fit_steps(np.where(stays, part, 0.0).astype(np.float32), whole, self.clipping, importance=weights[row : row + len(part)])

        def round_row(row: int, ahead: np.ndarray) -> np.ndarray:
            if row % rows == 0:
                fitted.append(fit(row, ahead[:rows]))
            left = masks.round_row(row, ahead)
            return np.where(masks.stays[row], Table(fitted[-1], 1).nearest(0, left), 0.0)

        swept = feed_back(weight, factor, round_row, math.lcm(masks.lazy, rows) if grid.block > 0 else masks.lazy)
        stays, gram = np.stack(masks.stays), damped(moment, self.damp)
        left = descend(swept, weight, gram, lambda row, ahead: np.where(stays[row], ahead[0], 0.0), self.solves).astype(np.float32)
        return Gptq(damp=self.damp, sweeps=self.sweeps).on_steps(left, moment, fit_steps(left, grid, self.clipping, importance=weights), ~stays)
