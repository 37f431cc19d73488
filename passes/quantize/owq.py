"""A few inputs that the output feels most stay in half precision; the rest takes up less error for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, closer_steps, fit_steps
from .coded import Rows, Sum
from .feedback import descend, feed_back
from .gptq import Table
from .grid import Grid
from .halves import halved
from .hessian import DAMP, damped, feedback_factor, importance, moment_of
from .method import Method
from .steps import finite

__all__ = ["Owq"]


@dataclass(frozen=True)
class Owq(Method):
    """Lee et al., "OWQ: Outlier-Aware Weight Quantization for Efficient Fine-Tuning and Inference of Large Language Models" (2023), equation 4.

    The rows with the greatest ``H_kk |w_k - Q(w_k)|^2`` are weak: they stay in half precision, take their turn last in the loop of GPTQ, and so take up
    what rounding the others has cost. They are a ``share`` of all, at least one; each takes ``16 / K`` bits a weight.
    """

    name: ClassVar[str] = "owq"
    refines: ClassVar[str | None] = "gptq"
    moments: ClassVar[bool] = True

    share: float = 0.01
    clipping: Clipping = "mse"
    damp: float = DAMP
    sweeps: int = 3

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Sum:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        weights = importance(moment)
        steps = fit_steps(weight, grid, self.clipping, importance=weights)
        loss = weights * np.square(weight - steps.rounded(weight), dtype=np.float64).sum(axis=1)
        weak = np.zeros(len(weight), bool)
        weak[np.argsort(-loss, kind="stable")[: min(len(weight), max(1, round(self.share * len(weight))))]] = True
        left = np.where(weak, 0.0, weights)
        steps = closer_steps(weight, steps, fit_steps(np.where(weak[:, None], np.float32(0.0), weight), grid, self.clipping, importance=left), left[:, None])
        table = Table(steps, len(weight))

        def nearest(row: int, values: np.ndarray) -> np.ndarray:
            return values if weak[row] else table.nearest(row, values)

        order = np.lexsort((-weights, weak))
        rounded = np.empty(weight.shape)
        rounded[order] = feed_back(weight[order], feedback_factor(moment[np.ix_(order, order)], self.damp), lambda row, ahead: nearest(order[row], ahead[0]))
        rounded = descend(rounded, weight, damped(moment, self.damp), lambda row, ahead: nearest(row, ahead[0]), self.sweeps)
        kept, bits = halved(rounded[weak])
        dense = steps.affine(table.codes(np.where(weak[:, None], 0.0, rounded)))
        return Sum((dense, Rows((len(weight), weight.shape[1]), np.flatnonzero(weak), kept, bits)))
