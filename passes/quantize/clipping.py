"""Where the steps of a weight end: at its extremes, at a percentile, or where an error is least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from ...compiler.core.errors import UsageError
from .grid import Grid
from .steps import Steps, block_rows, block_starts, finite, reduce_blocks, spread_rows, steps_for

__all__ = ["Clipping", "closer_steps", "fit_steps"]

Clipping = Literal["minmax", "percentile", "mse", "entropy"]

RATIOS = np.concatenate([np.linspace(1.0, 0.3, 29), np.geomspace(0.27, 0.03, 12)])
"""Shares of the full range that are tried, widest first: a weight that is on the grid already keeps it."""
BINS = 512
CHUNK = 1 << 20


def fit_steps(weight: np.ndarray, grid: Grid, clipping: Clipping = "minmax", percentile: float = 99.9, importance: np.ndarray | None = None) -> Steps:
    """Steps of ``grid`` for a weight [K, M].

    ``minmax`` reaches the extremes of each block; ``percentile`` the given percentile of what lies above and below zero; ``mse`` the share of the extremes
    with the least squared error, each row weighted by ``importance`` [K] where given (diag H: the error of the output, were the inputs independent);
    ``entropy`` the one with the least Kullback-Leibler divergence between the histogram of the weights and of what they are rounded to (Migacz, "8-bit
    inference with TensorRT", 2017). Raises ModelError for weights that are not finite, UsageError for another name.
    """
    finite(weight, grid)
    if clipping not in get_args(Clipping):
        raise UsageError(f"there is no clipping '{clipping}'; there are: {', '.join(get_args(Clipping))}")
    low, high = reduce_blocks(np.minimum, weight, grid.block), reduce_blocks(np.maximum, weight, grid.block)
    if clipping == "minmax":
        return steps_for(low, high, grid)
    if clipping == "percentile":
        return steps_for(*_percentiles(weight, grid, percentile), grid)
    ratios = _best_ratios(weight, grid, low, high, importance) if clipping == "mse" else _closest_ratios(weight, grid, low, high)
    return steps_for(low * ratios, high * ratios, grid)


def closer_steps(weight: np.ndarray, first: Steps, second: Steps, weights: np.ndarray) -> Steps:
    """For each block those of two steps of one grid with the smaller squared error of ``weight`` [K, M], each number weighted by ``weights`` [K, M]."""
    errors = [reduce_blocks(np.add, weights * np.square(weight - steps.rounded(weight), dtype=np.float64), first.grid.block) for steps in (first, second)]
    better = errors[1] < errors[0]
    zeros = None if first.zeros is None or second.zeros is None else np.where(better, second.zeros, first.zeros)
    return Steps(first.grid, np.where(better, second.scales, first.scales), zeros)


def _percentiles(weight: np.ndarray, grid: Grid, percentile: float) -> tuple[np.ndarray, np.ndarray]:
    if not 50.0 < percentile <= 100.0:
        raise UsageError(f"percentile {percentile:g} leaves nothing of a weight: give more than 50, up to 100")
    if grid.block == -1:
        below, above = np.percentile(weight, [100.0 - percentile, percentile])
        return np.array([[below]]), np.array([[above]])
    step = block_rows(grid.block, len(weight))
    found = [np.percentile(weight[start : start + step], [100.0 - percentile, percentile], axis=0) for start in block_starts(grid.block, len(weight))]
    return np.stack([pair[0] for pair in found]), np.stack([pair[1] for pair in found])


def _best_ratios(weight: np.ndarray, grid: Grid, low: np.ndarray, high: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """[G, M]: for each block the ratio with the least squared error, columns taken a few at a time so that they stay in the cache."""
    if grid.block == -1:
        column = Grid(grid.bits, grid.symmetric, 0, grid.narrow)
        each = None if importance is None else np.repeat(importance, weight.shape[1])
        return _best_ratios(weight.reshape(-1, 1), column, low, high, each)
    best = np.ones(low.shape)
    for columns in _column_chunks(weight):
        part, least = weight[:, columns], np.full(low[:, columns].shape, np.inf)
        for ratio in RATIOS:
            steps = steps_for(low[:, columns] * ratio, high[:, columns] * ratio, grid)
            error = np.square(part - steps.rounded(part), dtype=np.float64)
            loss = reduce_blocks(np.add, error if importance is None else error * importance[:, None], grid.block)
            better = loss < least
            least[better] = loss[better]
            best[:, columns][better] = ratio
    return best


def _closest_ratios(weight: np.ndarray, grid: Grid, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[G, M]: for each block the ratio with the least divergence from the histogram of its weights."""
    if grid.block == -1:
        return _closest_ratios(weight.reshape(-1, 1), Grid(grid.bits, grid.symmetric, 0, grid.narrow), low, high)
    best = np.ones(low.shape)
    for columns in _column_chunks(weight):
        counts, centres = _histograms(weight[:, columns], low[:, columns], high[:, columns], grid)
        least = np.full(counts.shape[1:], np.inf)
        for ratio in RATIOS:
            steps = steps_for(low[:, columns] * ratio, high[:, columns] * ratio, grid)
            loss = _divergence(counts, centres, steps)
            better = loss < least
            least[better] = loss[better]
            best[:, columns][better] = ratio
    return best


def _histograms(weight: np.ndarray, low: np.ndarray, high: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Counts and bin centres of each block, both [BINS, G, M]."""
    rows, (groups, columns) = len(weight), low.shape
    width = np.maximum(high.astype(np.float64) - low, np.finfo(np.float64).tiny)
    share = (weight - spread_rows(low, grid.block, rows)) / spread_rows(width, grid.block, rows)
    bins = np.clip((share * BINS).astype(np.int64), 0, BINS - 1)
    group = np.arange(rows) // block_rows(grid.block, rows)
    flat = (bins * groups + group[:, None]) * columns + np.arange(columns)
    counts = np.bincount(flat.ravel(), minlength=BINS * groups * columns).reshape(BINS, groups, columns)
    centres = low + width * ((np.arange(BINS) + 0.5) / BINS)[:, None, None]
    return counts.astype(np.float64), centres


def _divergence(counts: np.ndarray, centres: np.ndarray, steps: Steps) -> np.ndarray:
    """KL(P, Q) of each block, [G, M]: P has the clipped weights in its outermost bins, Q spreads what falls on one step evenly over the bins it came from.

    As in the paper, Q is made of what lies inside the range only; so every weight that is clipped away costs.
    """
    scales, zeros = steps.scales.astype(np.float64), steps.zeros if steps.zeros is not None else np.zeros(steps.scales.shape)
    codes = np.rint(centres / scales) + zeros
    inside = (codes >= steps.grid.low) & (codes <= steps.grid.high)
    codes = np.clip(codes, steps.grid.low, steps.grid.high).astype(np.int64)
    kept = np.where(inside, counts, 0.0)
    first = inside.argmax(axis=0)
    last = len(inside) - 1 - inside[::-1].argmax(axis=0)
    clipped = counts - kept
    places = np.arange(len(counts))[:, None, None]
    true = kept.copy()
    np.put_along_axis(true, first[None], np.take_along_axis(true, first[None], 0) + np.where(places < first, clipped, 0).sum(0), 0)
    np.put_along_axis(true, last[None], np.take_along_axis(true, last[None], 0) + np.where(places > last, clipped, 0).sum(0), 0)
    guess = _evened(kept, codes - steps.grid.low, steps.grid.levels)
    total = np.maximum(true.sum(axis=0), 1.0)
    true, guess = true / total, guess / np.maximum(guess.sum(axis=0), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(true > 0, true * np.log(true / np.maximum(guess, 1e-9)), 0.0)
    return np.asarray(terms.sum(axis=0))


def _evened(kept: np.ndarray, codes: np.ndarray, levels: int) -> np.ndarray:
    """What falls on one code, spread evenly over the bins of that code that hold anything."""
    flat, keys = kept.reshape(len(kept), -1), codes.reshape(len(codes), -1)
    columns = flat.shape[1]
    keys = keys * columns + np.arange(columns)
    mass = np.bincount(keys.ravel(), weights=flat.ravel(), minlength=levels * columns)
    filled = np.bincount(keys.ravel(), weights=(flat > 0).ravel(), minlength=levels * columns)
    share = mass / np.maximum(filled, 1.0)
    return np.where(flat > 0, share[keys], 0.0).reshape(kept.shape)


def _column_chunks(weight: np.ndarray) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, len(weight), BINS))
    return (slice(start, start + step) for start in range(0, weight.shape[1], step))
