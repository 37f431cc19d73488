"""Numbers that are stored in half precision where it holds them."""

from __future__ import annotations

import numpy as np

from .coded import HALF_BITS, SCALE_BITS

__all__ = ["halved"]

LARGEST, SMALLEST = 65504.0, 6.2e-4
"""Between these the greatest number of a set may lie: what is a thousandth of it then still has digits in half precision."""


def halved(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers as they are stored, float32, and in how many bits each: 16 as half precision has them, or 32 where it would cut them off or lose them."""
    greatest = float(np.abs(values).max(initial=0.0))
    if greatest and not SMALLEST <= greatest <= LARGEST:
        return values.astype(np.float32), SCALE_BITS
    return values.astype(np.float16).astype(np.float32), HALF_BITS
