"""From what calibration saw of a value to the range its codes cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import Histogram, Range
from .grid import Grid
from .steps import Steps, steps_for

__all__ = ["RangeMethod", "fit_range", "hull"]

RangeMethod = Literal["minmax", "percentile", "mse", "entropy"]
SHARES = np.concatenate([np.linspace(1.0, 0.5, 41), np.geomspace(0.48, 0.05, 20)])
"""Shares of the extremes that are tried, widest first."""
ROUNDS = 2


def fit_range(found: Range, grid: Grid, how: str, percentile: float = 99.99, slope: float = 1.0) -> Steps:
    """One scale and zero point for a value, [1, 1] each.

    ``minmax`` reaches what calibration saw; ``percentile`` leaves out that part of the numbers above and below together; ``mse`` ends where rounding and
    clipping together cost the least squared error; ``entropy`` where the histogram of what comes out diverges least from that of what went in
    (Migacz, "8-bit inference with TensorRT", 2017). Both ends are looked for apart: most activations lean to one side. Raises UsageError for another
    name, or a percentile outside 50 to 100.
    """
    if how not in get_args(RangeMethod):
        raise UsageError(f"there is no way '{how}' to choose ranges; there are: {', '.join(get_args(RangeMethod))}")
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    total = found.histogram.counts.sum()
    if how == "minmax" or high <= low or total == 0:
        return _steps(low, high, grid)
    if how == "percentile":
        below, above = _percentiles(found, percentile)
        return _steps(max(low, min(below, 0.0)), min(high, max(above, 0.0)), grid)
    if how == "mse":
        return _search(low, high, grid, lambda steps: _squared_error(found.histogram, steps, slope))
    return _search(low, high, grid, lambda steps: _divergence(found.histogram, steps))


def hull(ranges: list[Range]) -> Range:
    """The range of several values that share their codes."""
    if len(ranges) == 1:
        return ranges[0]
    low, high = min(item.low for item in ranges), max(item.high for item in ranges)
    bins = max(len(item.histogram.counts) for item in ranges)
    edges = np.linspace(low, high, bins + 1)
    counts = np.zeros(bins, np.int64)
    for item in ranges:
        places = np.clip(np.searchsorted(edges, _centres(item.histogram), side="right") - 1, 0, bins - 1)
        np.add.at(counts, places, item.histogram.counts)
    return Range(low, high, Histogram(counts, edges), sum(item.strange for item in ranges))


def _steps(low: float, high: float, grid: Grid) -> Steps:
    return steps_for(np.array([[low]]), np.array([[high]]), grid)


def _centres(histogram: Histogram) -> np.ndarray:
    return (histogram.edges[:-1] + histogram.edges[1:]) / 2


def _percentiles(found: Range, percentile: float) -> tuple[float, float]:
    if not 50.0 < percentile <= 100.0:
        raise UsageError(f"percentile {percentile:g} leaves nothing of a value: give more than 50, up to 100")
    counts, edges = found.histogram.counts, found.histogram.edges
    reached = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    left_out = (1.0 - percentile / 100.0) / 2
    return float(np.interp(left_out, reached, edges)), float(np.interp(1.0 - left_out, reached, edges))


def _search(low: float, high: float, grid: Grid, loss: Callable[[Steps], float]) -> Steps:
    """The best share of each end, the other held."""
    best = [1.0, 1.0]
    for _ in range(ROUNDS):
        for end, extreme in enumerate((low, high)):
            if extreme == 0.0:
                continue
            trials = [(share if end == 0 else best[0], share if end == 1 else best[1]) for share in SHARES]
            losses = [loss(_steps(low * one, high * other, grid)) for one, other in trials]
            best[end] = float(SHARES[int(np.argmin(losses))])
    return _steps(low * best[0], high * best[1], grid)


def _codes(values: np.ndarray, steps: Steps) -> tuple[np.ndarray, float, int]:
    scale = float(steps.scales[0, 0])
    zero = 0 if steps.zeros is None else int(steps.zeros[0, 0])
    return np.rint(values / scale) + zero, scale, zero


def _squared_error(histogram: Histogram, steps: Steps, slope: float) -> float:
    """Sum of squared errors of the middles of the bins, those of negative numbers times ``slope``."""
    centres = _centres(histogram)
    codes, scale, zero = _codes(centres, steps)
    error = centres - (np.clip(codes, steps.grid.low, steps.grid.high) - zero) * scale
    return float((histogram.counts * np.square(np.where(centres < 0, slope * error, error))).sum())


def _divergence(histogram: Histogram, steps: Steps) -> float:
    """KL(P, Q): P has what is clipped in its outermost bins, Q spreads what falls on one code evenly over the bins that hold anything.

    The bin of 0 is left out of that: a Relu puts half of all numbers there, and 0 has a code of its own.
    """
    codes, _, _ = _codes(_centres(histogram), steps)
    inside = np.flatnonzero((codes >= steps.grid.low) & (codes <= steps.grid.high))
    if not len(inside):
        return float("inf")
    first, last = int(inside[0]), int(inside[-1]) + 1
    counts = histogram.counts.astype(np.float64)
    kept, keys = counts[first:last], (codes[first:last] - codes[first]).astype(np.int64)
    keys[(histogram.edges[first:last] <= 0.0) & (histogram.edges[first + 1 : last + 1] >= 0.0)] = keys.max() + 1
    if not kept.sum():
        return float("inf")
    true = kept.copy()
    true[0] += counts[:first].sum()
    true[-1] += counts[last:].sum()
    filled = np.bincount(keys, weights=kept > 0)
    guess = np.where(kept > 0, (np.bincount(keys, weights=kept) / np.maximum(filled, 1.0))[keys], 0.0)
    true, guess = true / true.sum(), guess / guess.sum()
    some = true > 0
    return float((true[some] * np.log(true[some] / np.maximum(guess[some], 1e-9))).sum())
