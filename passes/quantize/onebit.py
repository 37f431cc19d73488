"""A matrix of signs between two vectors of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .coded import Binaries
from .feedback import descend
from .grid import Grid
from .halves import halved
from .hessian import DAMP, damped, importance, moment_of
from .method import Method
from .steps import finite

__all__ = ["OneBit", "fit_columns", "fit_rows"]

POWER_STEPS = 30


@dataclass(frozen=True)
class OneBit(Method):
    """Xu et al., "OneBit: Towards Extremely Low-bit Large Language Models" (2024), equations 3 to 5: ``W ~ sign(W) * (g h')``.

    g and h start from the best rank one of ``|W|`` (the paper's sign-value-independent decomposition), rows weighted by the root of diag H. Then by turns,
    ``rounds`` times, each in closed form on the output's squared error: h, g, and the signs one row after the other (the paper trains them instead). Whatever
    the grid says, it takes ``1 + 16 (1 / K + 1 / M)`` bits a weight.
    """

    name: ClassVar[str] = "onebit"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    rounds: int = 4
    damp: float = DAMP

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Binaries:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = damped(moment_of(statistics, weight, self.name), self.damp)
        signs = np.where(weight < 0, -1.0, 1.0)
        rows, columns = _rank_one(np.abs(weight.astype(np.float64)), np.sqrt(importance(moment)))
        for _ in range(self.rounds):
            columns = fit_columns(weight, signs * rows[:, None], moment)
            rows = fit_rows(weight, signs * columns, moment, rows)
            held = np.abs(rows)[:, None] * np.abs(columns)
            signs = np.where(rows < 0, -1.0, 1.0)[:, None] * np.where(columns < 0, -1.0, 1.0) * signs
            rows, columns = np.abs(rows), np.abs(columns)
            turned = descend(signs * held, weight, moment, lambda row, ahead, held=held: np.where(ahead[0] < 0, -held[row], held[row]), 1)  # type: ignore[misc]
            signs = np.where(turned < 0, -1.0, 1.0)
        columns = fit_columns(weight, signs * rows[:, None], moment)
        size = float(np.sqrt(np.abs(columns).max(initial=0.0) / max(rows.max(initial=0.0), np.finfo(np.float64).tiny))) or 1.0
        left, left_bits = halved(rows * size)
        scales, scale_bits = halved(columns / size)
        return Binaries(signs.astype(np.int8)[None], scales[None, None], len(weight), left=left, scale_bits=max(left_bits, scale_bits))


def fit_columns(weight: np.ndarray, basis: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """h [M] with the least ``|| X (W - basis diag(h)) ||``: for each column one quotient."""
    seen = moment @ basis
    below = np.einsum("km,km->m", basis, seen)
    return np.divide(np.einsum("km,km->m", weight, seen), below, out=np.zeros(weight.shape[1]), where=below > 0)


def fit_rows(weight: np.ndarray, basis: np.ndarray, moment: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """g [K] with the least ``|| X (W - diag(g) basis) ||``: the solution of ``(H * basis basis') g = diag(H W basis')``; ``otherwise`` where there is none."""
    left = moment * (basis @ basis.T)
    right = np.einsum("km,km->k", moment @ weight.astype(np.float64), basis)
    try:
        return np.linalg.solve(left + np.eye(len(left)) * 1e-9 * max(float(np.trace(left)) / len(left), np.finfo(np.float64).tiny), right)
    except np.linalg.LinAlgError:
        return otherwise


def _rank_one(magnitudes: np.ndarray, row_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positive g [K], h [M] of the best rank one of a non-negative matrix, its rows weighted: power iteration, which Perron and Frobenius keep positive."""
    weighted = magnitudes * row_weights[:, None]
    columns = weighted.mean(axis=0)
    for _ in range(POWER_STEPS):
        rows = weighted @ columns
        rows /= max(float(np.linalg.norm(rows)), np.finfo(np.float64).tiny)
        columns = weighted.T @ rows
    return np.divide(rows, row_weights, out=magnitudes.mean(axis=1), where=row_weights > 0), columns
