"""Small blocks with coarse scales, and single weights that cost too much kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, closer_steps, fit_steps
from .coded import Affine, Coded, Sum
from .feedback import descend, feed_back
from .gptq import Table
from .grid import Grid
from .halves import halved
from .hessian import DAMP, damped, feedback_factor, importance, moment_of
from .method import Method
from .outliers import greatest, sparse
from .steps import SMALLEST_SCALE, Steps, finite

__all__ = ["Spqr"]

SHARED = 16
"""So many scales of a column share two numbers in half precision."""


@dataclass(frozen=True)
class Spqr(Method):
    """Dettmers et al., "SpQR: A Sparse-Quantized Representation for Near-Lossless LLM Weight Compression" (2023), section 4.

    The scales of the blocks are themselves quantised, to ``scale_bits``, 16 of a column between two half-precision numbers; that makes blocks of 16 rows
    affordable. The ``share`` of the weights with the greatest ``(w - Q(w))^2 / [H^-1]_kk`` (equation 2) stays in half precision, in compressed rows, and the
    blocks are fitted without them. All others go through the loop of GPTQ by falling diag H.
    """

    name: ClassVar[str] = "spqr"
    refines: ClassVar[str | None] = "gptq"
    moments: ClassVar[bool] = True

    share: float = 0.005
    scale_bits: int = 4
    clipping: Clipping = "mse"
    damp: float = DAMP
    sweeps: int = 3

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        weights = importance(moment)
        order = np.argsort(-weights, kind="stable")
        factor = feedback_factor(moment[np.ix_(order, order)], self.damp)
        costs = np.empty(len(weight))
        costs[order] = np.square(factor).sum(axis=0)
        plain = fit_steps(weight, grid, self.clipping, importance=weights)
        mask = greatest(np.square(weight - plain.rounded(weight), dtype=np.float64) / costs[:, None], self.share)
        without = fit_steps(np.where(mask, np.float32(0.0), weight), grid, self.clipping, importance=weights)
        steps, width = _coarse(closer_steps(weight, plain, without, np.where(mask, 0.0, weights[:, None])), self.scale_bits)
        table = Table(steps, len(weight))

        def nearest(row: int, values: np.ndarray) -> np.ndarray:
            return np.where(mask[row], values, table.nearest(row, values))

        rounded = np.empty(weight.shape)
        rounded[order] = feed_back(weight[order], factor, lambda row, ahead: nearest(order[row], ahead[0]))
        rounded = descend(rounded, weight, damped(moment, self.damp), lambda row, ahead: nearest(row, ahead[0]), self.sweeps)
        found = steps.affine(table.codes(rounded))
        dense = Affine(found.codes, found.scales, found.zeros, found.block, found.bits, width)
        return Sum((dense, sparse((rounded - dense.matrix()).astype(np.float32), mask))) if mask.any() else dense


def _coarse(steps: Steps, bits: int) -> tuple[Steps, float]:
    """Steps whose scales are quantised, and what one scale takes; as they are where too few share their two numbers to gain anything."""
    if len(steps.scales) < 4:
        return steps, 32.0
    starts = np.arange(0, len(steps.scales), SHARED)
    low, width_low = halved(np.minimum.reduceat(steps.scales, starts, axis=0))
    step, width_step = halved((np.maximum.reduceat(steps.scales, starts, axis=0) - low) / (2**bits - 1))
    low, step = (np.repeat(part, SHARED, axis=0)[: len(steps.scales)] for part in (low, step))
    codes = np.clip(np.rint((steps.scales - low) / np.where(step > 0, step, 1.0)), 0, 2**bits - 1)
    found = (low + codes * step).astype(np.float32)
    kept = np.where(found > SMALLEST_SCALE, found, np.maximum(step, np.float32(SMALLEST_SCALE))).astype(np.float32)
    return Steps(steps.grid, kept, steps.zeros), bits + (width_low + width_step) * len(starts) / len(steps.scales)
