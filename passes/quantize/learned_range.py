"""How the output error of a rounded weight changes with the ends of its range, rounding taken as straight through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .coded import Affine
from .grid import Grid
from .reconstruction import Reconstruction
from .steps import Steps, reduce_blocks, spread_rows, steps_for

__all__ = ["Best", "Trial", "WeightRange"]


@dataclass(frozen=True)
class Trial:
    """One rounding of a weight: its ``steps``, ``codes`` int32 [K, M], which of them were not clipped (``free``), and by how many steps each ``moved``."""

    steps: Steps
    codes: np.ndarray
    free: np.ndarray
    moved: np.ndarray

    @property
    def coded(self) -> Affine:
        """The rounded weight."""
        return self.steps.affine(self.codes)


@dataclass(frozen=True)
class WeightRange:
    """A weight [K, M] to be rounded on ``grid``, and the extremes of its blocks, [2, G, M]: least, greatest. Shares of them, (b, a), are the range."""

    weight: np.ndarray
    grid: Grid
    extremes: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, grid: Grid) -> WeightRange:
        """The extremes are looked up."""
        return cls(weight, grid, np.stack([reduce_blocks(how, weight, grid.block) for how in (np.minimum, np.maximum)]))

    def shares(self, steps: Steps) -> np.ndarray:
        """The shares, [2, G, M], of steps that were found by shrinking both ends alike."""
        whole = steps_for(self.extremes[0], self.extremes[1], self.grid)
        return np.array(np.broadcast_to(steps.scales / whole.scales, self.extremes.shape))

    def shares_of(self, steps: Steps) -> np.ndarray:
        """The shares, [2, G, M], whose `trial` has these steps; 1 for an end that is zero."""
        if steps.zeros is None:
            return self.shares(steps)
        zeros = steps.zeros.astype(np.float64)
        ends = np.stack([(self.grid.low - zeros) * steps.scales, (self.grid.high - zeros) * steps.scales])
        whole = np.stack([np.minimum(self.extremes[0], 0.0), np.maximum(self.extremes[1], 0.0)])
        return np.where(whole == 0.0, 1.0, ends / np.where(whole == 0.0, 1.0, whole)).astype(np.float32)

    def trial(self, shares: np.ndarray, offset: np.ndarray | float = 0.0) -> Trial:
        """The weight rounded to the nearest of the steps that these shares make, after ``offset`` steps are added to each element."""
        rows = len(self.weight)
        steps = steps_for(shares[0] * self.extremes[0], shares[1] * self.extremes[1], self.grid)
        place = self.weight / spread_rows(steps.scales, self.grid.block, rows)
        zeros = np.float32(0) if steps.zeros is None else spread_rows(steps.zeros, self.grid.block, rows).astype(np.float32)
        whole = np.rint(place + offset) + zeros
        codes = np.clip(whole, self.grid.low, self.grid.high)
        return Trial(steps, codes.astype(np.int32), codes == whole, codes - zeros - place)

    def slopes(self, trial: Trial, slope: np.ndarray) -> np.ndarray:
        """The gradient with respect to the shares, [2, G, M], given that with respect to the rounded weight, [K, M].

        What is not clipped moves with its rounding error as the steps widen; what is clipped moves with the end it is clipped to.
        """
        grid = self.grid
        if grid.symmetric:
            both = reduce_blocks(np.add, np.where(trial.free, trial.moved, trial.codes) * slope, grid.block)
            return np.stack([both, both])
        inner = reduce_blocks(np.add, np.where(trial.free, trial.moved, 0.0) * slope, grid.block) / (grid.high - grid.low)
        beyond = [reduce_blocks(np.add, np.where(trial.free | (trial.codes != end), 0.0, slope), grid.block) for end in (grid.low, grid.high)]
        low, high = np.minimum(self.extremes[0], 0.0), np.maximum(self.extremes[1], 0.0)
        return np.stack([low * (beyond[0] - inner), high * (beyond[1] + inner)])


class Best:
    """The best coded weight met so far, column by column where the columns have scales of their own."""

    def __init__(self, goal: Reconstruction, grid: Grid) -> None:
        self._goal, self._together = goal, grid.block == -1
        self._least = np.full(goal.weight.shape[1], np.inf)
        self.coded: Affine | None = None

    def meet(self, found: Affine) -> np.ndarray:
        """Look at a coded weight; returns half the gradient of the error with respect to it, [K, M]."""
        rounded = found.matrix()
        slope = self._goal.slope(rounded)
        errors = ((rounded - self._goal.weight) * slope).sum(axis=0, dtype=np.float64)
        better = np.array([errors.sum() < self._least.sum()]) if self._together else errors < self._least
        self._least = np.where(better, errors, self._least)
        self.coded = found if self.coded is None else _mixed(better, found, self.coded)
        return slope


def _mixed(better: np.ndarray, found: Affine, best: Affine) -> Affine:
    """``found`` in the columns that are better, ``best`` in the others."""
    zeros = None if found.zeros is None or best.zeros is None else np.where(better, found.zeros, best.zeros)
    return Affine(np.where(better, found.codes, best.codes), np.where(better, found.scales, best.scales), zeros, found.block, found.bits)
