"""The second moment H = X'X / N of a site's inputs, and the factor of its inverse that error feedback needs."""

from __future__ import annotations

import numpy as np

from ...compiler.core.errors import InputError, UsageError
from ...compiler.core.statistics import SiteStatistics

__all__ = ["damped", "feedback_factor", "importance", "moment_of", "output_error", "upper_factor"]

DAMP = 0.01
GROWTH = 10.0


def moment_of(statistics: SiteStatistics | None, weight: np.ndarray, method: str) -> np.ndarray:
    """H, float64 [K, K], symmetric. Raises UsageError without statistics, InputError when they are not finite or belong to another weight."""
    if statistics is None:
        raise UsageError(f"{method} needs calibration data: it looks at what a weight is multiplied by")
    moment = np.asarray(statistics.moment, np.float64)
    if moment.shape != (len(weight), len(weight)):
        raise InputError(f"{method}: a second moment of shape {list(moment.shape)} does not belong to a weight of {len(weight)} input channels")
    if not np.isfinite(moment).all():
        raise InputError(f"{method}: the inputs of this site held NaN or infinite numbers on the calibration data")
    return (moment + moment.T) / 2


def importance(moment: np.ndarray) -> np.ndarray:
    """diag H, float64 [K]: what an error in each row of the weight costs, were the inputs independent. All ones when no input was ever different from zero."""
    diagonal = np.maximum(np.diagonal(moment), 0.0)
    return diagonal if diagonal.any() else np.ones_like(diagonal)


def damped(moment: np.ndarray, damp: float = DAMP) -> np.ndarray:
    """H with ``damp`` times its mean diagonal added to the diagonal. A channel that was always zero so counts a little: its weights are rounded to nearest."""
    mean = float(np.diagonal(moment).mean())
    if not mean > 0:
        return np.eye(len(moment))
    return moment + np.diag(np.full(len(moment), damp * mean))


def upper_factor(moment: np.ndarray, damp: float = DAMP) -> np.ndarray:
    """The upper triangular R with RR' = H + damp, float64; the damping grows tenfold until the Cholesky factorisation works."""
    while True:
        try:
            return np.linalg.cholesky(damped(moment, damp)[::-1, ::-1])[::-1, ::-1]
        except np.linalg.LinAlgError:
            damp = max(damp, 1e-6) * GROWTH


def feedback_factor(moment: np.ndarray, damp: float = DAMP) -> np.ndarray:
    """The upper triangular U with U'U = (H + damp)^-1, float64: the inverse of `upper_factor`, which takes one factorisation less than inverting H first."""
    return np.triu(np.linalg.inv(upper_factor(moment, damp)))


def output_error(difference: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """``|| X d ||^2 / N`` of each column d of ``difference`` [K, M]: float64 [M]."""
    wide = difference.astype(np.float64)
    return np.asarray(np.einsum("km,km->m", wide, moment @ wide))
