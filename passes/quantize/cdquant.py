"""Weights of few rows, rounded together: coordinate descent on the error of the product, from several scales."""

from __future__ import annotations

import numpy as np

from .grid import Grid
from .hessian import DAMP

__all__ = ["descend_columns"]

SHARES = 1.0 + 0.015 * np.arange(10)
"""Scales that are tried, by the finest that reaches everything: each rounds otherwise, and the best of several starts is better than any rule."""
SWEEPS = 8
TINY = float(np.finfo(np.float32).tiny)


def descend_columns(weight: np.ndarray, moments: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Codes int32 [G, K, M] and scales float64 (of float32) [G, M] of weights [G, K, M] on a symmetric grid, given H = X'X / N of each group, [G, K, K].

    Nair and Suggala, "CDQuant: Greedy Coordinate Descent for Accurate LLM Quantization" (2024), with rows taken in turn. All groups and columns are
    done at once; for each column the scale with the least (W^ - W)' H (W^ - W) is kept. Rounding to nearest is among what is tried first, so no
    column is worse than that.
    """
    exact = weight.astype(np.float64)
    mean = np.einsum("gkk->g", moments) / moments.shape[1]
    steady = moments + np.eye(moments.shape[1]) * (DAMP * np.where(mean > 0, mean, 1.0))[:, None, None]
    finest = np.abs(exact).max(axis=1) / grid.high
    finest = np.where(finest < TINY, 1.0, finest)
    least = np.full(finest.shape, np.inf)
    codes, scales = np.zeros(exact.shape, np.int32), finest.astype(np.float32).astype(np.float64)
    for share in SHARES:
        trial = (finest * share).astype(np.float32).astype(np.float64)
        found = _descend(exact, steady, trial, grid)
        error = found * trial[:, None, :] - exact
        loss = (error * (steady @ error)).sum(axis=1)
        better = loss < least
        least = np.where(better, loss, least)
        scales = np.where(better, trial, scales)
        codes = np.where(better[:, None, :], found, codes)
    return codes.astype(np.int32), scales


def _descend(exact: np.ndarray, moments: np.ndarray, scales: np.ndarray, grid: Grid) -> np.ndarray:
    """Codes as numbers, float64 [G, K, M], where no change of a single one makes the error less (or after some sweeps)."""
    codes = np.clip(np.rint(exact / scales[:, None, :]), grid.low, grid.high)
    slope = moments @ (exact - codes * scales[:, None, :])
    curvature = np.maximum(np.einsum("gkk->gk", moments), TINY)
    for _ in range(SWEEPS):
        moved = False
        for row in range(exact.shape[1]):
            wanted = codes[:, row] + slope[:, row] / (curvature[:, row, None] * scales)
            found = np.clip(np.rint(wanted), grid.low, grid.high)
            step = (found - codes[:, row]) * scales
            if step.any():
                moved = True
                codes[:, row] = found
                slope -= moments[:, :, row, None] * step[:, None, :]
        if not moved:
            break
    return codes
