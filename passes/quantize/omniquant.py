"""OmniQuant (Shao et al., ICLR 2024): clipping and equivalent transform are learned instead of found by rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..differentiable.descent import Adam
from ..differentiable.torch_there import device, need_torch
from .clipping import fit_steps
from .coded import Affine
from .equivalent import FURTHEST, Equivalence, Equivalent, rounded_after
from .fake_weight import as_blocks, block_ends, fake_weight
from .grid import Grid
from .joint import Precision, Rounded, product_error, row_extremes, some_columns
from .learned_range import Best, WeightRange
from .method import Method
from .outlier_suppression import OutlierSuppressionPlus
from .reconstruction import Reconstruction
from .smoothquant import SmoothQuant

if TYPE_CHECKING:
    import torch

__all__ = ["LearnedClipping", "OmniQuant"]

NARROWEST = 0.05
FEWEST = 8
"""Rows below this say nothing about an error."""
CHECK = 10
"""Every so many steps the transform is judged on the rows it does not learn from."""
MOMENTUM, SPREAD = 0.9, 0.999


@dataclass(frozen=True)
class LearnedClipping(Method):
    """``s`` and ``z`` from ``a max(W)`` and ``b min(W)`` with a, b in [0.05, 1] learned for each block by Adam (equation 2), rounding straight through.

    What is minimised is ``tr((W - W^)' H (W - W^))``. It starts from the least squared error weighted by diag H, and each column keeps the best it met.
    """

    name: ClassVar[str] = "omniquant"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    iterations: int = 100
    rate: float = 0.03

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        """As `Method.quantize`. Raises UsageError without calibration."""
        goal = Reconstruction.of(weight, statistics, grid, self.name)
        best, found = Best(goal, grid), WeightRange.of(goal.weight, grid)
        best.meet(found.trial(np.ones_like(found.extremes)).coded)
        shares = found.shares(fit_steps(goal.weight, grid, "mse", importance=np.diagonal(goal.moment)))
        first, second = np.zeros_like(shares), np.zeros_like(shares)
        for step in range(1, self.iterations + 2):
            trial = found.trial(shares)
            slope = found.slopes(trial, best.meet(trial.coded))
            first += (1 - MOMENTUM) * (slope - first)
            second += (1 - SPREAD) * (np.square(slope) - second)
            size = np.sqrt(second / (1 - SPREAD**step)) + np.finfo(np.float32).tiny
            pace = self.rate * (1.0 - step / (self.iterations + 2))
            shares = np.clip(shares - pace / (1 - MOMENTUM**step) * first / size, NARROWEST, 1.0).astype(np.float32)
        assert best.coded is not None
        return best.coded


@dataclass(frozen=True)
class OmniQuant(Equivalence):
    """``X' = (X - shift) / scale``, ``W' = diag(scale) W`` with both learned by Adam against the error of the rounded product (equation 4).

    Clipping of the weight is learned along with them, and again for all columns when the weight is rounded. Starts from whichever is best of no transform,
    smoothquant and outlier-suppression+; learns from one half of the rows and keeps what is best on the other, so it is never worse there than where it
    started. The paper learns a whole transformer block at a time. Needs torch.
    """

    name: ClassVar[str] = "omniquant"
    refines: ClassVar[str] = "smoothquant"
    moments: ClassVar[bool] = True
    rows: ClassVar[int] = 512

    iterations: int = 100
    rate: float = 0.005

    def find(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, gain: np.ndarray | None = None) -> Equivalent:
        """As `Equivalence.find`. Raises BackendMissing without torch."""
        need_torch("the method omniquant")
        inputs, rows = row_extremes(weight, statistics)
        starts = [way.find(weight, statistics, precision, gain) for way in (SmoothQuant(), OutlierSuppressionPlus())]
        starts.append(Equivalent.none(len(inputs)))
        if len(statistics.rows) < FEWEST:
            return starts[0]
        weight, unseen = some_columns(weight), statistics.rows[1::2]

        def judge(change: Equivalent) -> float:
            return product_error(rounded_after(change, weight, statistics, replace(precision, method="rtn")), weight, unseen)

        best = min(starts, key=judge)
        return _learned(self, best, weight, statistics, precision, judge) if (inputs > 0).any() and (rows > 0).any() else best

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
        """As `Equivalence.apply`: weights that would be rounded to nearest get their clipping learned."""
        change = self.find(weight, statistics, precision)
        clipped = replace(precision, method=LearnedClipping.name) if precision.method == "rtn" and statistics.moment.size else precision
        return rounded_after(change, weight, statistics, clipped)


def _learned(
    how: OmniQuant, start: Equivalent, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, judge: Callable[[Equivalent], float]
) -> Equivalent:
    """The transform that is best on the rows not learned from, of those met on the way from ``start``."""
    import torch

    site = _Site(weight, statistics, precision)
    scale, shift = (site.tensor(part) for part in (np.log(start.scale), start.shift))
    clip = torch.full((2, *as_blocks(site.weight, precision.weight).shape[::2]), 4.0, device=site.where)
    reach = site.tensor(np.maximum(statistics.high - statistics.low, 1e-12))
    drift = torch.zeros_like(shift)  # The shift is learned in units of its channel's range.
    descent = Adam([(scale, how.rate), (drift, how.rate), (clip, 2 * how.rate)])
    best, least = start, judge(start)
    for step in range(1, how.iterations + 1):
        descent.step(site.error(torch.exp(scale), shift + drift * reach, torch.sigmoid(clip)))
        if step % CHECK == 0:
            with torch.no_grad():
                scale.clamp_(-np.log(FURTHEST), np.log(FURTHEST))
                found = Equivalent(*(part.double().cpu().numpy() for part in (torch.exp(scale), shift + drift * reach)))
            error = judge(found)
            if error < least:
                best, least = found, error
    return best


class _Site:
    """What the error of a rounded product is computed from, on the device, in float32."""

    def __init__(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> None:
        self.where, self.precision = device(), precision
        self.rows, self.weight = self.tensor(statistics.rows[::2]), self.tensor(weight)
        self.low, self.high = self.tensor(statistics.low), self.tensor(statistics.high)
        self.wanted = self.rows @ self.weight

    def tensor(self, numbers: np.ndarray) -> torch.Tensor:
        """A copy in float32."""
        import torch

        return torch.tensor(numbers, dtype=torch.float32, device=self.where)

    def error(self, scale: torch.Tensor, shift: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """The relative squared error of the output; ``shares`` [2, G, M] are of the least and the greatest weight of each block."""
        grid, weight = self.precision.weight, self.weight * scale[:, None]
        low, high = block_ends(weight, grid)
        rounded = fake_weight(weight, shares[0] * low, shares[1] * high, grid)
        found = self._inputs((self.rows - shift) / scale, scale, shift) @ rounded + shift @ self.weight
        return (found - self.wanted).square().sum() / self.wanted.square().sum().clamp(min=1e-30)

    def _inputs(self, rows: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        from ..differentiable.straight_through import rounded_between

        grid = self.precision.inputs
        if grid.token:
            return rounded_between(rows, rows.amin(1, keepdim=True), rows.amax(1, keepdim=True), grid.bits, grid.symmetric)
        low, high = ((self.low - shift) / scale).amin(), ((self.high - shift) / scale).amax()
        return rounded_between(rows, low, high, grid.bits, grid.symmetric)
