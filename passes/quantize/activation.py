"""The grid that activations are rounded to, simulated in floating point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.core.errors import UsageError

__all__ = ["ActivationGrid", "Ranges", "rounded_between"]

MOST_BITS = 16
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Ranges:
    """Where inputs lie, as calibration saw them: ``low`` and ``high`` float64, [K] with equal numbers for channels that share a scale, or [1] for all."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class ActivationGrid:
    """Uniform steps for inputs [n, K]: ``bits`` wide, ``symmetric`` around zero or with a zero point.

    ``token`` takes the range of each row when it comes (dynamic, one scale for each token); otherwise the ranges are those of calibration, and what lies
    outside is clipped.
    """

    bits: int = 8
    symmetric: bool = False
    token: bool = False

    def rounded(self, inputs: np.ndarray, ranges: Ranges) -> np.ndarray:
        """``inputs`` [n, K] moved to the nearest steps, float64. Raises UsageError for a width that is none."""
        if not 1 < self.bits <= MOST_BITS:
            raise UsageError(f"there is no grid of {self.bits} bits for activations: bits go from 2 to {MOST_BITS}")
        wide = inputs.astype(np.float64)
        if not self.token:
            return rounded_between(wide, ranges.low, ranges.high, self.bits, self.symmetric)
        return rounded_between(wide, wide.min(axis=1, keepdims=True), wide.max(axis=1, keepdims=True), self.bits, self.symmetric)


def rounded_between(inputs: np.ndarray, low: np.ndarray, high: np.ndarray, bits: int, symmetric: bool) -> np.ndarray:
    """``inputs`` on 2^bits steps from ``low`` to ``high`` (broadcast against them); zero is always a step. A symmetric grid leaves its lowest code out."""
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    if symmetric:
        most = 2 ** (bits - 1) - 1
        scale = _steps(np.maximum(-low, high) / most)
        return np.asarray(np.clip(np.rint(inputs / scale), -most, most) * scale)
    scale = _steps((high - low) / (2**bits - 1))
    zero = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(inputs / scale) + zero, 0, 2**bits - 1) - zero) * scale)


def _steps(scale: np.ndarray) -> np.ndarray:
    return np.where(scale < TINY, 1.0, scale)
