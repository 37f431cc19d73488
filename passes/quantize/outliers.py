"""The few numbers of a weight that are kept in half precision beside the rest."""

from __future__ import annotations

import numpy as np

from .coded import INDEX_BITS, Sparse
from .halves import halved

__all__ = ["greatest", "sparse"]


def greatest(scores: np.ndarray, share: float) -> np.ndarray:
    """Bool mask of the ``share`` of numbers with the highest scores (rounded down)."""
    count = min(int(share * scores.size), scores.size)
    mask = np.zeros(scores.shape, bool)
    if count:
        mask.flat[np.argpartition(-scores, count - 1, axis=None)[:count]] = True
    return mask


def sparse(values: np.ndarray, mask: np.ndarray) -> Sparse:
    """The masked numbers of [K, M], `halved`, with their places in the fewest bits: one number for each, just wide enough for K M; or compressed rows or
    columns, whichever are fewer, with a pointer of 32 bits for each of them and the index along it for each number.
    """
    fewer, other = sorted(values.shape)
    places = np.flatnonzero(mask)
    flat, along = (max(1, (size - 1).bit_length()) for size in (values.size, other))
    bits = min(float(flat), along + (fewer + 1) * INDEX_BITS / max(1, len(places)))
    kept, width = halved(values[mask])
    return Sparse((values.shape[0], values.shape[1]), places, kept, width, bits)
