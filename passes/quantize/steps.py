"""Uniform steps: which scale and zero point each block of a weight gets, and the rounding onto them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.core.errors import ModelError, UsageError
from .coded import Affine
from .grid import Grid

__all__ = ["Steps", "block_rows", "block_starts", "finite", "reduce_blocks", "spread_rows", "steps_for"]

MATRIX = 2
MOST_BITS = 16
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below this a float32 scale loses digits; such a block holds nothing but zeros as far as a float32 product can tell."""


@dataclass(frozen=True)
class Steps:
    """A grid with its scales, float32 [G, M], and zero points, int32 [G, M] (None: symmetric). [1, 1] when there is one for the whole weight."""

    grid: Grid
    scales: np.ndarray
    zeros: np.ndarray | None

    def codes(self, weight: np.ndarray) -> np.ndarray:
        """The nearest codes of a weight [K, M], int32."""
        rows = len(weight)
        found = np.rint(weight / spread_rows(self.scales, self.grid.block, rows))
        if self.zeros is not None:
            found += spread_rows(self.zeros, self.grid.block, rows)
        return np.clip(found, self.grid.low, self.grid.high).astype(np.int32)

    def affine(self, codes: np.ndarray) -> Affine:
        """Codes [K, M] with these steps."""
        return Affine(codes, self.scales, self.zeros, block_rows(self.grid.block, len(codes)), self.grid.bits)

    def rounded(self, weight: np.ndarray) -> np.ndarray:
        """A weight [K, M] moved to the nearest steps, in its own dtype."""
        return self.affine(self.codes(weight)).matrix().astype(weight.dtype, copy=False)


def steps_for(low: np.ndarray, high: np.ndarray, grid: Grid) -> Steps:
    """The finest steps of the grid that reach from ``low`` to ``high``, both [G, M]; zero is always a step.

    A symmetric grid reaches one step further down than up, so its scale is the greater of ``high / grid.high`` and ``low / grid.low``.
    """
    low, high = np.minimum(low, 0.0).astype(np.float64), np.maximum(high, 0.0).astype(np.float64)
    if grid.symmetric:
        scales = np.maximum(high / grid.high if grid.high else 0.0, low / grid.low if grid.low else 0.0)
    else:
        scales = (high - low) / (grid.high - grid.low)
    scales = np.where(scales < SMALLEST_SCALE, 1.0, scales).astype(np.float32)
    if grid.symmetric:
        return Steps(grid, scales, None)
    zeros = np.clip(np.rint(-low / scales), grid.low, grid.high).astype(np.int32)
    return Steps(grid, scales, zeros)


def finite(weight: np.ndarray, grid: Grid | None = None) -> np.ndarray:
    """The weight itself. Raises ModelError when it is not a matrix of finite numbers, UsageError when no such grid can be made."""
    if weight.ndim != MATRIX or weight.size == 0:
        raise ModelError(f"a weight of shape {list(weight.shape)} cannot be quantised: it has to be a matrix with at least one element")
    strange = weight.size - int(np.count_nonzero(np.isfinite(weight)))
    if strange:
        raise ModelError(f"{strange} of {weight.size} elements of the weight are NaN or infinite: repair the model before it is quantised")
    if grid is not None and not 1 <= grid.bits <= MOST_BITS:
        raise UsageError(f"there is no grid of {grid.bits} bits: bits go from 1 to {MOST_BITS}")
    if grid is not None and grid.block < -1:
        raise UsageError(f"there is no block of {grid.block} rows: 0 is one scale for each column, -1 one for the whole weight")
    return weight


def block_rows(block: int, rows: int) -> int:
    """How many rows share a scale, for a `Grid.block` on ``rows`` rows."""
    return min(block, rows) if block > 0 else rows


def block_starts(block: int, rows: int) -> np.ndarray:
    """The first row of each block."""
    return np.arange(0, rows, block_rows(block, rows))


def reduce_blocks(how: np.ufunc, values: np.ndarray, block: int) -> np.ndarray:
    """``how`` (np.maximum, np.add, ...) over each block of ``values`` [K, M]: [G, M], or [1, 1] for block -1."""
    if block == -1:
        return np.asarray(how.reduce(values, axis=None)).reshape(1, 1)
    return np.asarray(how.reduceat(values, block_starts(block, len(values)), axis=0))


def spread_rows(groups: np.ndarray, block: int, rows: int) -> np.ndarray:
    """[G, M] as [rows, M], each row repeated for its block; left to broadcast where there is one."""
    return groups if len(groups) == 1 else np.repeat(groups, block, axis=0)[:rows]
