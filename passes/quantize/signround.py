"""SignRound (Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent for the Quantization of LLMs", EMNLP 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Affine
from .grid import Grid
from .method import Method
from .reconstruction import Reconstruction, better_columns
from .steps import Steps, reduce_blocks, spread_rows, steps_for

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
        extremes = np.stack([reduce_blocks(how, goal.weight, grid.block) for how in (np.minimum, np.maximum)])
        shares = self._first_shares(goal, extremes, grid)
        offset = np.zeros_like(goal.weight)
        best: Affine | None = None
        least = np.full(weight.shape[1], np.inf)
        for step in range(self.iterations + 1):
            steps = steps_for(shares[0] * extremes[0], shares[1] * extremes[1], grid)
            trial = _round(goal.weight, offset, steps)
            found = steps.affine(trial.codes)
            rounded = found.matrix()
            slope = goal.slope(rounded)
            errors = ((rounded - goal.weight) * slope).sum(axis=0, dtype=np.float64)
            better = better_columns(errors, least, grid)
            best, least = found if best is None else _mixed(better, found, best), np.where(better, errors, least)
            pace = np.float32(self.rate * (1.0 - step / max(1, self.iterations)))
            offset = np.clip(offset - pace * np.sign(slope * trial.free), -0.5, 0.5)
            shares = np.clip(shares - pace * np.sign(_range_slopes(trial, slope, steps, extremes)), NARROWEST, 1.0)
        assert best is not None
        return best

    def _first_shares(self, goal: Reconstruction, extremes: np.ndarray, grid: Grid) -> np.ndarray:
        """Where (b, a) start, [2, G, M]."""
        start = fit_steps(goal.weight, grid, self.clipping, importance=np.diagonal(goal.moment)).scales / steps_for(extremes[0], extremes[1], grid).scales
        return np.clip(np.broadcast_to(start, extremes.shape), NARROWEST, 1.0)


@dataclass(frozen=True)
class _Trial:
    """``codes`` int32 [K, M], which of them were not clipped (``free``), and by how many steps rounding moved each weight (``moved``)."""

    codes: np.ndarray
    free: np.ndarray
    moved: np.ndarray


def _round(weight: np.ndarray, offset: np.ndarray, steps: Steps) -> _Trial:
    place = weight / spread_rows(steps.scales, steps.grid.block, len(weight))
    whole = np.rint(place + offset)
    zeros = np.float32(0) if steps.zeros is None else spread_rows(steps.zeros, steps.grid.block, len(weight)).astype(np.float32)
    codes = np.clip(whole + zeros, steps.grid.low, steps.grid.high)
    return _Trial(codes.astype(np.int32), codes == whole + zeros, codes - zeros - place)


def _range_slopes(trial: _Trial, slope: np.ndarray, steps: Steps, extremes: np.ndarray) -> np.ndarray:
    """The gradient with respect to (b, a), [2, G, M]: what is not clipped moves with the rounding error, what is clipped with the end it is clipped to."""
    grid = steps.grid
    if grid.symmetric:
        along = np.where(trial.free, trial.moved, trial.codes) * slope
        whole = reduce_blocks(np.add, along, grid.block)
        return np.stack([whole, whole])
    inner = reduce_blocks(np.add, np.where(trial.free, trial.moved, 0.0) * slope, grid.block) / (grid.high - grid.low)
    beyond = [reduce_blocks(np.add, np.where(trial.free | (trial.codes != end), 0.0, slope), grid.block) for end in (grid.low, grid.high)]
    low, high = np.minimum(extremes[0], 0.0), np.maximum(extremes[1], 0.0)
    return np.stack([low * (beyond[0] - inner), high * (beyond[1] + inner)])


def _mixed(better: np.ndarray, found: Affine, best: Affine) -> Affine:
    """``found`` in the columns that are better, ``best`` in the others."""
    zeros = None if found.zeros is None or best.zeros is None else np.where(better, found.zeros, best.zeros)
    scales = np.where(better, found.scales, best.scales)
    return Affine(np.where(better, found.codes, best.codes), scales, zeros, found.block, found.bits)
