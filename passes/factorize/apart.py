"""Weights that may share something, or each have its own: whichever loses less of what they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..quantize.hessian import output_error
from .factors import Factors

__all__ = ["lost", "nearest"]


def nearest(weights: Sequence[np.ndarray], moments: Sequence[np.ndarray], *ways: list[Factors]) -> list[Factors]:
    """The way, of some of equal size, in which weights [K, M] lose least of their outputs; ``moments`` [K, K] are those of their inputs."""
    return min(ways, key=lambda parts: lost(weights, parts, moments))


def lost(weights: Sequence[np.ndarray], parts: Sequence[Factors], moments: Sequence[np.ndarray]) -> float:
    """The share of the outputs' energy that is lost, added up over the weights."""
    total = 0.0
    for weight, part, moment in zip(weights, parts, moments, strict=True):
        whole = float(output_error(weight, moment).sum())
        total += float(output_error(weight - part.matrix(), moment).sum()) / whole if whole > 0 else 0.0
    return total
