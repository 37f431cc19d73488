"""Fixed books of numbers, scaled to the blocks of a weight."""

from __future__ import annotations

import numpy as np

from .clipping import RATIOS
from .kmeans import nearest_codes
from .steps import SMALLEST_SCALE, reduce_blocks, spread_rows

__all__ = ["book_codes", "fit_scales"]


def fit_scales(weight: np.ndarray, book: np.ndarray, block: int, clip: bool = False, importance: np.ndarray | None = None) -> np.ndarray:
    """Scales float32 [G, M] that bring the greatest magnitude of each block of a weight [K, M] to that of ``book`` [B], whose NaN and infinities do not count.

    ``clip``: a share of that scale where the squared error of the block is less, rows weighted by ``importance`` [K].
    """
    levels = np.sort(book[np.isfinite(book)])
    full = reduce_blocks(np.maximum, np.abs(weight), block).astype(np.float64) / np.abs(levels).max()
    scales = _positive(full)
    if not clip:
        return scales
    least = np.full(full.shape, np.inf)
    for ratio in RATIOS:
        tried = _positive(full * ratio)
        wide = spread_rows(tried, block, len(weight))
        error = np.square(weight - levels[nearest_codes(weight / wide, levels)] * wide, dtype=np.float64)
        loss = reduce_blocks(np.add, error if importance is None else error * importance[:, None], block)
        better = loss < least
        scales, least = np.where(better, tried, scales), np.where(better, loss, least)
    return scales


def book_codes(weight: np.ndarray, book: np.ndarray, scales: np.ndarray, block: int) -> np.ndarray:
    """The entry of ``book`` nearest to each number over its scale, uint8 (uint16 for more than 256 entries) [K, M]."""
    entries = np.flatnonzero(np.isfinite(book))
    entries = entries[np.argsort(book[entries], kind="stable")]
    codes = entries[nearest_codes(weight / spread_rows(scales, block, len(weight)), book[entries])]
    return codes.astype(np.uint8 if len(book) <= 1 << 8 else np.uint16)


def _positive(scales: np.ndarray) -> np.ndarray:
    return np.where(scales < SMALLEST_SCALE, 1.0, scales).astype(np.float32)
