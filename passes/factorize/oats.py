"""Low rank plus sparse, weighted by the second moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..prune.unstructured.pattern import Pattern, kept
from ..quantize.hessian import importance, moment_of
from .factors import Factors, balanced
from .method import MatrixMethod, finite

__all__ = ["Oats", "leading"]


@dataclass(frozen=True)
class Oats(MatrixMethod):
    """Zhang & Papyan, "OATS: Outlier-Aware Pruning Through Sparse and Low Rank Decomposition" (ICLR 2025), algorithms 1 and 2.

    With ``D = sqrt(diag H)``, ``D W ~ L + S`` by turns, ``sweeps`` times: L the truncation of ``D W - S``, S the greatest numbers of each column of
    ``D W - L``; ``D^-1`` is put back afterwards. ``part`` of what may be kept goes to L.
    """

    name: ClassVar[str] = "oats"
    refines: ClassVar[str | None] = "svd"
    moments: ClassVar[bool] = True
    size_only: ClassVar[bool] = True

    part: float = 0.25
    sweeps: int = 80

    def numbers(self, inputs: int, outputs: int, rank: int) -> int:
        """As `MatrixMethod.numbers`: of a low-rank part of that rank, and the sparse part that goes with it."""
        return round(rank * (inputs + outputs) / self.part)

    def factor(self, weight: np.ndarray, statistics: SiteStatistics | None, room: int) -> Factors:
        """As `MatrixMethod.factor`. Raises UsageError without statistics."""
        finite(weight)
        scales = np.sqrt(importance(moment_of(statistics, weight, self.name)))
        scales = np.maximum(scales, scales.max() * np.finfo(np.float64).eps)[:, None]
        scaled = weight * scales
        rank = max(1, int(self.part * room / sum(weight.shape)))
        pattern = Pattern(1 - min(1.0, max(room - rank * sum(weight.shape), 0) / weight.size))
        sparse = np.zeros_like(scaled)
        for _ in range(self.sweeps):
            left, right = leading(scaled - sparse, rank)
            beside = scaled - left @ right
            sparse = np.where(kept(np.abs(beside), pattern), beside, 0.0)
        left, right = balanced(left / scales, right)
        return Factors((left, right), sparse / scales, form=f"rank {rank} + {np.count_nonzero(sparse) / sparse.size:.0%} dense")


def leading(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best approximation of a rank as (float64 [K, r], [r, M]), by the eigenvectors of the smaller of ``A A'`` and ``A' A``."""
    if len(matrix) < matrix.shape[1]:
        span = np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1][:, :rank]
        return span, span.T @ matrix
    span = np.linalg.eigh(matrix.T @ matrix)[1][:, ::-1][:, :rank]
    return matrix @ span, span.T
