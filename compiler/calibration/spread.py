"""How the numbers of a value are spread, without keeping them: a histogram whose range doubles when a number falls outside."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..core.statistics import Histogram, Range

__all__ = ["BINS", "Spread"]

BINS = 4096
"""A finished histogram has more than half as many from its first filled bin to its last (fewer only when a value took few numbers far apart)."""
PIECE = 1 << 16
"""Numbers that are looked at together; a few hundred KiB stay in the processor's cache."""
EPSILON = float(np.finfo(np.float32).eps)
LARGEST = 1e300
"""Numbers beyond count as infinite: the width of a range between two of them has no number."""


class Spread:
    """Collects a `Range` from arrays of any real type and shape. What is held does not grow with what was added."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.strange = 0
        self._counts: np.ndarray | None = None
        self._start = self._width = 0.0

    def add(self, array: np.ndarray) -> None:
        """Count the numbers of an array."""
        for piece in _pieces(array):
            numbers = self._plain(piece)
            if numbers.size:
                low, high = float(numbers.min()), float(numbers.max())
                self.low, self.high = min(self.low, low), max(self.high, high)
                self._count(numbers, low, high)

    def range(self) -> Range | None:
        """What was found; None when there was no finite number."""
        if self._counts is None:
            return None
        filled = np.flatnonzero(self._counts)
        first, last = int(filled[0]), int(filled[-1]) + 1
        edges = self._start + self._width * np.arange(first, last + 1, dtype=np.float64)
        edges[0], edges[-1] = min(edges[0], self.low), max(edges[-1], self.high)
        return Range(self.low, self.high, Histogram(self._counts[first:last].copy(), edges), self.strange)

    def _plain(self, piece: np.ndarray) -> np.ndarray:
        """The finite numbers as float32 or float64."""
        numbers = piece if piece.dtype in (np.float32, np.float64) else piece.astype(np.float64 if piece.dtype.kind in "biu" else np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            extreme = float(np.max(np.abs(numbers)) if numbers.dtype == np.float64 else numbers.max() - numbers.min())
        if extreme < LARGEST:
            return numbers
        finite = numbers[np.abs(numbers) < (LARGEST if numbers.dtype == np.float64 else np.inf)]
        self.strange += numbers.size - finite.size
        return finite

    def _count(self, numbers: np.ndarray, low: float, high: float) -> None:
        if self._counts is None:
            self._begin(low, high)
        elif low < self._start or high > self._start + BINS * self._width:
            self._widen(low, high)
        assert self._counts is not None
        reach = max(abs(self._start), abs(self._start + BINS * self._width))
        is_coarse = numbers.dtype == np.float32 and reach * EPSILON < 1e-3 * self._width and self._width > 1e-30 and reach < 1e30
        places = numbers - self._start if is_coarse else numbers.astype(np.float64) - self._start
        places *= 1 / self._width
        np.clip(places, 0, BINS - 1, out=places)
        self._counts += np.bincount(places.astype(np.intp), minlength=BINS)

    def _begin(self, low: float, high: float) -> None:
        self._counts = np.zeros(BINS, np.int64)
        if high > low:
            self._start, self._width = low, max((high - low) / BINS, 1e-300)
            return
        self._width = max(abs(low) * 1e-6, 1e-60) / BINS
        self._start = low - self._width * BINS / 2

    def _widen(self, low: float, high: float) -> None:
        """Merge neighbouring bins until both ends fit; bins are only ever added up, so no count is ever in the wrong one."""
        assert self._counts is not None
        left = max(0, math.ceil((self._start - low) / self._width))
        right = max(0, math.ceil((high - self._start) / self._width) - BINS)
        shift = max(1, math.ceil(math.log2((BINS + left + right) / BINS)))
        while _rounded(left, shift) + right > (2**shift - 1) * BINS:
            shift += 1
        ahead = _rounded(left, shift)
        counts = np.zeros(BINS, np.int64)
        np.add.at(counts, [(place + ahead) >> shift for place in range(BINS)], self._counts)
        self._counts = counts
        self._start -= ahead * self._width
        self._width *= 2.0**shift


def _rounded(bins: int, shift: int) -> int:
    """Up to whole merged bins."""
    return -(-bins >> shift) << shift


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    flat = array.reshape(-1)
    for start in range(0, flat.size, PIECE):
        yield flat[start : start + PIECE]
