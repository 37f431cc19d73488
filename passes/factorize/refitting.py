"""The last of several convolutions, fitted to what the one that they stand for gave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import damped
from .factors import Stage, kernel_of

__all__ = ["matrix_of", "refitted"]

DAMP = 1e-3


def matrix_of(kernel: np.ndarray) -> np.ndarray:
    """A kernel [M, C, *taps] as the matrix [C taps, M] that patches are multiplied by."""
    return np.ascontiguousarray(kernel.reshape(len(kernel), -1).T)


def refitted(stages: Sequence[Stage], kernel: np.ndarray, statistics: SiteStatistics | None) -> list[Stage]:
    """The stages, the last (of one tap) by least squares: with L what those before it compute, ``R = (L' H L)^-1 L' H W``. As they are without statistics."""
    if statistics is None or statistics.moment.shape != (kernel[0].size,) * 2 or not np.isfinite(statistics.moment).all():
        return list(stages)
    before = matrix_of(kernel_of(stages[:-1]))
    weighed = damped((statistics.moment + statistics.moment.T) / 2, DAMP) @ before
    wanted = matrix_of(kernel)
    last = np.linalg.lstsq(before.T @ weighed, weighed.T @ wanted, rcond=None)[0]
    return [*stages[:-1], Stage(last.T.reshape(stages[-1].weight.shape), stages[-1].moves, stages[-1].groups)]
