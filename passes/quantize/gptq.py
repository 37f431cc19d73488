"""Rounding that makes good in later rows what it costs in earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Affine
from .feedback import LAZY, descend, feed_back
from .grid import Grid
from .hessian import DAMP, damped, feedback_factor, importance, moment_of
from .method import Method
from .steps import Steps, finite

__all__ = ["Gptq"]

PRUNED = 0.1
"""A weight of which at least this part is zero was pruned: zeros are rare otherwise."""


@dataclass(frozen=True)
class Gptq(Method):
    """Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2022), algorithm 1.

    Rows (input channels) are rounded in order, by falling diag H with ``act_order``; the error of each is spread over the rest through the Cholesky factor of
    (H + damp)^-1. The steps of a block are fitted when its turn comes, to the rows as the errors before have moved them, or beforehand when
    ``static_groups`` (always so with ``act_order``, where a block's rows do not come one after the other). ``sweeps`` of coordinate descent
    on the same error follow (`feedback.descend`), which the paper does not have; 0 leaves them out. Where a weight was pruned its zeros stay zeros, as in
    Frantar and Alistarh, "SparseGPT" (2023), section 3.5.
    """

    name: ClassVar[str] = "gptq"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    clipping: Clipping = "mse"
    act_order: bool = True
    static_groups: bool = True
    damp: float = DAMP
    sweeps: int = 3

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        if self.act_order or self.static_groups or grid.block <= 0:
            return self.on_steps(weight, moment, fit_steps(weight, grid, self.clipping, importance=importance(moment)), pruned_of(weight))
        return self._fitting(weight, moment, grid)

    def on_steps(self, weight: np.ndarray, moment: np.ndarray, steps: Steps, gone: np.ndarray | None) -> Affine:
        """``weight`` [K, M] on these steps; what is ``gone`` (bool [K, M]) becomes zero."""
        order = np.argsort(-np.diagonal(moment), kind="stable") if self.act_order else np.arange(len(weight))
        table = Table(steps, len(weight), gone)
        rounded = np.empty(weight.shape)
        factor = feedback_factor(moment[np.ix_(order, order)], self.damp)
        rounded[order] = feed_back(weight[order], factor, lambda row, ahead: table.nearest(order[row], ahead[0]))
        rounded = descend(rounded, weight, damped(moment, self.damp), lambda row, ahead: table.nearest(row, ahead[0]), self.sweeps)
        return steps.affine(table.codes(rounded))

    def _fitting(self, weight: np.ndarray, moment: np.ndarray, grid: Grid) -> Affine:
        whole, weights, fitted = Grid(grid.bits, grid.symmetric, 0, grid.narrow), importance(moment), []
        gone = pruned_of(weight)

        def round_row(row: int, ahead: np.ndarray) -> np.ndarray:
            if row % grid.block == 0:
                fitted.append(fit_steps(ahead[: grid.block], whole, self.clipping, importance=weights[row : row + len(ahead[: grid.block])]))
            return Table(fitted[-1], 1, None if gone is None else gone[row : row + 1]).nearest(0, ahead[0])

        lazy = grid.block * -(-LAZY // grid.block)
        rounded = feed_back(weight, feedback_factor(moment, self.damp), round_row, lazy)
        zeros = None if grid.symmetric else np.concatenate([each.zeros for each in fitted if each.zeros is not None])
        steps = Steps(grid, np.concatenate([each.scales for each in fitted]), zeros)
        table = Table(steps, len(weight), gone)
        rounded = descend(rounded, weight, damped(moment, self.damp), lambda row, ahead: table.nearest(row, ahead[0]), self.sweeps)
        return steps.affine(table.codes(rounded))


def pruned_of(weight: np.ndarray) -> np.ndarray | None:
    """The zeros of a weight of which so much is zero that it was pruned, bool [K, M]; None for any other."""
    gone = weight == 0
    return gone if gone.mean() >= PRUNED else None


class Table:
    """Steps laid out for rounding one row after the other; what is ``gone`` (bool [rows, M]) is rounded to zero."""

    def __init__(self, steps: Steps, rows: int, gone: np.ndarray | None = None) -> None:
        self._gone = gone
        self.low, self.high = steps.grid.low, steps.grid.high
        self.group = np.arange(rows) // max(1, -(-rows // len(steps.scales)) if steps.grid.block <= 0 else steps.grid.block)
        self.scales = steps.scales.astype(np.float64)
        self.zeros = np.zeros(steps.scales.shape) if steps.zeros is None else steps.zeros.astype(np.float64)

    def nearest(self, row: int, values: np.ndarray) -> np.ndarray:
        """The steps nearest to ``values`` [M] as numbers of that row."""
        scales, zeros = self.scales[self.group[row]], self.zeros[self.group[row]]
        found = (np.clip(np.rint(values / scales) + zeros, self.low, self.high) - zeros) * scales
        return np.asarray(found if self._gone is None else np.where(self._gone[row], 0.0, found))

    def codes(self, rounded: np.ndarray) -> np.ndarray:
        """The codes int32 of numbers [K, M] that lie on the steps."""
        found = np.rint(rounded / self.scales[self.group]) + self.zeros[self.group]
        return np.clip(found, self.low, self.high).astype(np.int32)
