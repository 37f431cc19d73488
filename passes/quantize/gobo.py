"""One small codebook for the bulk of a weight, and full precision for what does not belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .coded import SCALE_BITS, Codebook, Coded, Sum
from .grid import Grid
from .kmeans import nearest_codes
from .method import Method
from .outliers import sparse
from .steps import finite

__all__ = ["Gobo"]

ROUNDS = 50


@dataclass(frozen=True)
class Gobo(Method):
    """Zadeh et al., "GOBO: Quantizing Attention-Based NLP Models for Low Latency and Energy Efficient Inference" (2020), section IV.

    Outliers are the numbers further than ``deviations`` from the mean; they are kept. (The paper cuts at a log-likelihood of -4 under the Gaussian of all,
    which is 3.5 deviations at its weights' deviation of 0.04 and depends on the unit otherwise.) The others share one
    codebook of 2^bits entries that starts with equally many numbers for each entry and is moved to the means of its clusters for as long as the *absolute*
    error falls. No data is needed. Of ``grid`` only the bits count.
    """

    name: ClassVar[str] = "gobo"
    refines: ClassVar[str | None] = "rtn"

    deviations: float = 3.0

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """As `Method.quantize`."""
        finite(weight, grid)
        mask = self._outliers(weight)
        book = _book(np.sort(weight[~mask].astype(np.float64)), 2**grid.bits) if not mask.all() else np.zeros(2**grid.bits)
        book = book.astype(np.float32)
        dense = Codebook(nearest_codes(weight, book), book, grid.bits, book_bits=SCALE_BITS)
        return Sum((dense, sparse(weight - dense.matrix(), mask))) if mask.any() else dense

    def _outliers(self, weight: np.ndarray) -> np.ndarray:
        wide = weight.astype(np.float64)
        return np.asarray(np.abs(wide - wide.mean()) > self.deviations * wide.std())


def _book(ranked: np.ndarray, count: int) -> np.ndarray:
    edges = np.linspace(0, len(ranked), count + 1).astype(np.int64)
    sums = np.concatenate([[0.0], np.cumsum(ranked)])
    book = ranked[np.minimum((edges[1:] + edges[:-1]) // 2, len(ranked) - 1)]
    best, least = book, np.inf
    for _ in range(ROUNDS):
        held = np.diff(edges)
        book = np.where(held > 0, np.diff(sums[edges]) / np.maximum(held, 1), book)
        edges[1:-1] = np.searchsorted(ranked, (book[1:] + book[:-1]) / 2)
        error = float(np.abs(ranked - np.repeat(book, np.diff(edges))).sum())
        if error >= least:
            break
        best, least = book, error
    return best
