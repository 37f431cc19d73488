"""A quantised weight, and beside it a low-rank factor of what quantisation lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import HALF_BITS, Affine, LowRank, Sum
from .grid import Grid
from .halves import halved
from .method import Method
from .steps import finite

__all__ = ["Lorc", "chosen_rank", "low_rank", "with_low_rank"]

QUARTER = 0.25


@dataclass(frozen=True)
class Lorc(Method):
    """Yao et al., "ZeroQuant-V2: Exploring Post-training Quantization in LLMs from Comprehensive Study to Low Rank Compensation" (2023), section 4.

    ``W ~ Q(W) + (U sqrt S)(sqrt S V')`` of the truncated singular value decomposition of ``W - Q(W)``: no other matrix of that ``rank`` is nearer in the
    Frobenius norm. The factors take ``16 rank (1 / K + 1 / M)`` bits a weight; ``rank`` 0 is as many as take a quarter of a bit, or one where that takes at
    most half a bit: of small matrices (depthwise kernels) a single one would take more than the codes, and they have none.
    """

    name: ClassVar[str] = "lorc"
    refines: ClassVar[str | None] = "rtn"

    rank: int = 0
    clipping: Clipping = "mse"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Sum:
        """As `Method.quantize`."""
        steps = fit_steps(finite(weight, grid), grid, self.clipping)
        return with_low_rank(weight, steps.affine(steps.codes(weight)), self.rank, np.ones(len(weight)))


def with_low_rank(weight: np.ndarray, coded: Affine, rank: int, row_scales: np.ndarray) -> Sum:
    """``coded`` plus the best ``rank`` (see `Lorc`) of its error after its rows were multiplied by ``row_scales`` float64 [K], all positive."""
    rank = chosen_rank(rank, weight)
    if not rank:
        return Sum((coded,))
    left, values, right = np.linalg.svd((weight.astype(np.float64) - coded.matrix()) * row_scales[:, None], full_matrices=False)
    return Sum((coded, low_rank(left[:, :rank] / row_scales[:, None], values[:rank], right[:rank])))


def low_rank(left: np.ndarray, values: np.ndarray, right: np.ndarray) -> LowRank:
    """``left diag(values) right`` in half precision, the root of each value on either side."""
    root = np.sqrt(values)
    first, first_bits = halved(left * root)
    second, second_bits = halved(root[:, None] * right)
    return LowRank(first, second, max(first_bits, second_bits))


def chosen_rank(rank: int, weight: np.ndarray) -> int:
    """``rank`` itself, or for 0 what `Lorc` says; never more than the weight has."""
    one = HALF_BITS * sum(weight.shape) / weight.size
    return min(rank or (max(1, round(QUARTER / one)) if one <= 2 * QUARTER else 0), *weight.shape)
