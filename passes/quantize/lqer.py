"""The low-rank part of a quantisation error that the output feels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Sum
from .grid import Grid
from .hessian import DAMP, damped, importance, moment_of
from .lorc import chosen_rank, low_rank, with_low_rank
from .method import Method
from .steps import finite

__all__ = ["Lqer"]


@dataclass(frozen=True)
class Lqer(Method):
    """Zhang et al., "LQER: Low-Rank Quantization Error Reconstruction for LLMs" (2024), equations 8 to 11: ``S (W - Q(W))`` is decomposed, not ``W - Q(W)``.

    ``whiten``: "moment" takes for S the square root of H, which makes the truncation optimal for the output (Zhang et al., "QERA", 2024, theorem 1);
    "magnitude" LQER's own diagonal, mean |x| of each input over the root of its least times its greatest.
    """

    name: ClassVar[str] = "lqer"
    refines: ClassVar[str | None] = "lorc"
    moments: ClassVar[bool] = True
    channels: ClassVar[bool] = True

    rank: int = 0
    clipping: Clipping = "mse"
    whiten: Literal["moment", "magnitude"] = "moment"
    damp: float = DAMP

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Sum:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        steps = fit_steps(weight, grid, self.clipping, importance=importance(moment))
        coded = steps.affine(steps.codes(weight))
        if self.whiten == "magnitude":
            assert statistics is not None
            return with_low_rank(weight, coded, self.rank, _magnitudes(statistics.abs_mean))
        rank = chosen_rank(self.rank, weight)
        if not rank:
            return Sum((coded,))
        values, basis = np.linalg.eigh(damped(moment, self.damp))
        root = np.sqrt(np.maximum(values, values.max() * np.finfo(np.float64).eps))
        error = (basis.T @ (weight - coded.matrix())) * root[:, None]
        left, singular, right = np.linalg.svd(error, full_matrices=False)
        return Sum((coded, low_rank(basis @ (left[:, :rank] / root[:, None]), singular[:rank], right[:rank])))


def _magnitudes(abs_mean: np.ndarray) -> np.ndarray:
    """Positive float64 [K]; an input that was always zero counts like the least of the others."""
    positive = abs_mean[abs_mean > 0]
    if not positive.size:
        return np.ones(len(abs_mean))
    return np.asarray(np.maximum(abs_mean, positive.min()) / np.sqrt(positive.min() * positive.max()))
