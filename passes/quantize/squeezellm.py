"""A codebook for each column that puts its entries where the output feels them, and a sparse part for what lies far out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .coded import Codebook, Coded, Sum
from .grid import Grid
from .halves import halved
from .hessian import importance, moment_of
from .kmeans import book_pays, cluster, nearest_codes
from .method import Method
from .outliers import greatest, sparse
from .steps import finite

__all__ = ["SqueezeLlm", "shared_book"]

FITS = 4


@dataclass(frozen=True)
class SqueezeLlm(Method):
    """Kim et al., "SqueezeLLM: Dense-and-Sparse Quantization" (2023), equations 4 and 5.

    Weighted k-means: an entry of the codebook goes where ``sum of F_ii (w_i - Q(w_i))^2`` is least. For F the paper takes squared gradients of the loss;
    here it is diag H, the same for the squared error of the site's own output, which needs no labels. The ``sensitive`` share of the weights with the
    greatest ``F w^2`` and the ``outliers`` share with the greatest distance from their column's mean stay in half precision.

    ``books``: "column" is one of 2^bits half-precision entries for each column (the paper's), "tensor" one for the whole weight with a scale for each
    column; "auto" takes the first unless its 2^bits 16 / K bits a weight are more than an eighth.
    """

    name: ClassVar[str] = "squeezellm"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    sensitive: float = 0.0005
    outliers: float = 0.004
    books: Literal["auto", "column", "tensor"] = "auto"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """As `Method.quantize`; also raises UsageError without statistics. Of ``grid`` only the bits count."""
        finite(weight, grid)
        weights = importance(moment_of(statistics, weight, self.name))
        mask = greatest(np.abs(weight - weight.mean(axis=0)), self.outliers) | greatest(weights[:, None] * np.square(weight), self.sensitive)
        mass = np.where(mask, 0.0, weights[:, None])
        apart = book_pays(len(weight), grid.bits) if self.books == "auto" else self.books == "column"
        dense = _column_books(weight, mass, grid.bits) if apart else shared_book(weight, mass, grid.bits)
        return Sum((dense, sparse(weight - dense.matrix(), mask))) if mask.any() else dense


def _column_books(weight: np.ndarray, mass: np.ndarray, bits: int) -> Codebook:
    books, width = halved(cluster(weight, 2**bits, mass))
    return Codebook(nearest_codes(weight, books), books, bits, book_bits=width)


def shared_book(weight: np.ndarray, mass: np.ndarray, bits: int) -> Codebook:
    """One book for all columns with a scale for each, fitted in turn from scales of weighted mean square 1; numbers with ``mass`` [K, M] 0 do not count."""
    scales, width = _positive(np.sqrt(_ratio((mass * np.square(weight, dtype=np.float64)).sum(axis=0), mass.sum(axis=0))))
    best, least = None, np.inf
    for _ in range(FITS):
        flat = (weight / scales).reshape(-1, 1)
        book, book_width = halved(cluster(flat, 2**bits, (mass * np.square(scales, dtype=np.float64)).reshape(-1, 1))[:, 0])
        codes = nearest_codes(weight / scales, book)
        values = book[codes].astype(np.float64)
        scales, width = _positive(_ratio((mass * weight * values).sum(axis=0), (mass * values * values).sum(axis=0)), scales)
        found = Codebook(codes, book, bits, scales[None], len(weight), width, book_width)
        error = float((mass * np.square(weight - found.matrix(), dtype=np.float64)).sum())
        if error < least:
            best, least = found, error
    assert best is not None
    return best


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below > 0))


def _positive(scales: np.ndarray, otherwise: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    found, width = halved(np.where(scales > 0, scales, 1.0 if otherwise is None else otherwise))
    return np.where(found > 0, found, np.float32(1.0)), width
