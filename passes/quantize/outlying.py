"""What rounding the data of a product to 8 bits costs, with one scale for all of it or one for each block of a row."""

from __future__ import annotations

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .activation import rounded_between
from .coded import Affine

__all__ = ["block_error", "tensor_error"]

BITS = 8


def tensor_error(weight: np.ndarray, coded: Affine, statistics: SiteStatistics) -> float:
    """||X W - X' W'|| / ||X W|| for the sampled rows X, X' rounded between the least and the greatest number of all rows; 0 without rows."""
    low, high = statistics.low.min(initial=0.0), statistics.high.max(initial=0.0)
    return _error(weight, coded, statistics.rows, rounded_between(statistics.rows.astype(np.float64), low, high, BITS, False))


def block_error(weight: np.ndarray, coded: Affine, statistics: SiteStatistics) -> float:
    """The same, for X' rounded symmetrically in the blocks of the weight, each row by itself."""
    rows = statistics.rows.astype(np.float64)
    rounded = np.empty_like(rows)
    for start in range(0, rows.shape[1], coded.block):
        part = rows[:, start : start + coded.block]
        most = np.abs(part).max(axis=1, keepdims=True, initial=0.0)
        rounded[:, start : start + coded.block] = rounded_between(part, -most, most, BITS, True)
    return _error(weight, coded, statistics.rows, rounded)


def _error(weight: np.ndarray, coded: Affine, rows: np.ndarray, rounded: np.ndarray) -> float:
    exact = rows.astype(np.float64) @ weight
    size = float(np.linalg.norm(exact))
    return float(np.linalg.norm(rounded @ coded.matrix() - exact)) / size if size > 0 else 0.0
