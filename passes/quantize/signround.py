"""SignRound (Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent for the Quantization of LLMs", EMNLP 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Affine
from .grid import Grid
from .learned_range import Best, WeightRange
from .method import Method
from .reconstruction import Reconstruction

__all__ = ["SignRound"]

NARROWEST = 0.05
"""No range is clipped to less than this share of the extremes."""


@dataclass(frozen=True)
class SignRound(Method):
    """``W^ = s (clip(round(W / s + V) + z, low, high) - z)`` with s and z from ``a max(W)`` and ``b min(W)``.

    V in [-1/2, 1/2] for each weight, a and b in [0.05, 1] for each block go a step against the *sign* of the gradient of ``tr((W - W^)' H (W - W^))``,
    rounding taken as straight through; the step falls linearly from ``rate`` (the paper: 1 / iterations) to zero. The paper draws batches of inputs; their
    second moment gives the gradient of all of them. Each column keeps the best it has met, and starts from the nearest codes on the range that
    ``clipping`` finds. A symmetric grid has a = b.
    """

    name: ClassVar[str] = "signround"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    iterations: int = 200
    rate: float = 0.005
    clipping: Clipping = "mse"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        """As `Method.quantize`. Raises UsageError without calibration."""
        goal = Reconstruction.of(weight, statistics, grid, self.name)
        best, found = Best(goal, grid), WeightRange.of(goal.weight, grid)
        shares = found.shares(fit_steps(goal.weight, grid, self.clipping, importance=np.diagonal(goal.moment)))
        offset = np.zeros_like(goal.weight)
        for step in range(self.iterations + 1):
            trial = found.trial(shares, offset)
            slope = best.meet(trial.coded)
            pace = np.float32(self.rate * (1.0 - step / max(1, self.iterations)))
            offset = np.clip(offset - pace * np.sign(slope * trial.free), -0.5, 0.5)
            shares = np.clip(shares - pace * np.sign(found.slopes(trial, slope)), NARROWEST, 1.0)
        assert best.coded is not None
        return best.coded
