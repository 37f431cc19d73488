"""The few numbers of a weight that are kept in half precision beside the rest."""

from __future__ import annotations

import numpy as np

from .coded import INDEX_BITS, Sparse
from .halves import halved

__all__ = ["greatest", "sparse"]

WIDEST = 1 << 16


def greatest(scores: np.ndarray, share: float) -> np.ndarray:
    """Bool mask of the ``share`` of numbers with the highest scores (rounded down)."""
    count = min(int(share * scores.size), scores.size)
    mask = np.zeros(scores.shape, bool)
    if count:
        mask.flat[np.argpartition(-scores, count - 1, axis=None)[:count]] = True
    return mask


def sparse(values: np.ndarray, mask: np.ndarray) -> Sparse:
    """The masked numbers of [K, M], `halved`, as compressed rows: 16 bits of column index each (32 for more than 65536 columns), 32 for each row."""
    places = np.flatnonzero(mask)
    index = INDEX_BITS // 2 if values.shape[1] <= WIDEST else INDEX_BITS
    bits = index + (len(values) + 1) * INDEX_BITS / max(1, len(places))
    kept, width = halved(values[mask])
    return Sparse((values.shape[0], values.shape[1]), places, kept, width, bits)
