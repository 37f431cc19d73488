"""The rank that a noisy matrix has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["rank_of"]

NEVER = 2.5129
"""sqrt(alpha) times this is where a component is worth its place (equation 16)."""
STEPS = 60
GOLDEN = (5**0.5 - 1) / 2


def rank_of(matrix: np.ndarray) -> int:
    """How many singular values stand out of the noise, at least one.

    Nakajima et al., "Global Analytic Solution of Fully-observed Variational Bayesian Matrix Factorization" (JMLR 2013), theorem 2 with the noise
    variance by minimising the free energy (equation 21).
    """
    rows, columns = sorted(matrix.shape)
    alpha = rows / columns
    values = np.linalg.svd(matrix, compute_uv=False)
    if not values[0] > 0:
        return 1
    worth = NEVER * np.sqrt(alpha)
    least = (1 + worth) * (1 + alpha / worth)
    energies = np.maximum(np.square(values), np.square(values[0]) * np.finfo(np.float64).eps) / columns
    tail = energies[min(int(np.ceil(rows / (1 + alpha))) - 1, rows - 1) :]
    low, high = float(max(tail[0] / least, tail.mean() * np.finfo(np.float64).eps)), float(energies.sum() / rows)
    noise = _lowest(lambda log: _free_energy(energies / np.exp(log), alpha, least), np.log(min(low, high)), np.log(high))
    return max(1, int((energies > np.exp(noise) * least).sum()))


def _free_energy(ratios: np.ndarray, alpha: float, least: float) -> float:
    """Up to constants, of a model that keeps the components whose ``ratios`` to the noise are above ``least``."""
    kept, gone = ratios[ratios > least], ratios[ratios <= least]
    shift = kept - (1 + alpha)
    tau = (shift + np.sqrt(np.maximum(np.square(shift) - 4 * alpha, 0.0))) / 2
    told = float((kept - tau).sum() + np.log((tau + 1) / kept).sum() + alpha * np.log(tau / alpha + 1).sum())
    return float((gone - np.log(gone)).sum()) + told


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one number is least between two others: the best of a grid, then golden sections around it."""
    grid = np.linspace(low, high, STEPS)
    best = int(np.argmin([function(float(point)) for point in grid]))
    one, other = grid[max(best - 1, 0)], grid[min(best + 1, STEPS - 1)]
    for _ in range(STEPS):
        inner, outer = other - GOLDEN * (other - one), one + GOLDEN * (other - one)
        if function(float(inner)) < function(float(outer)):
            other = outer
        else:
            one = inner
    return float((one + other) / 2)
