"""A grid whose steps lie where rounding would cost most, in the loop of error feedback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import fit_steps
from .coded import Affine, Codebook
from .feedback import descend, feed_back
from .gptq import Table
from .grid import Grid
from .halves import halved
from .hessian import DAMP, damped, feedback_factor, importance, moment_of, output_error
from .kmeans import book_pays, book_steps, cluster, nearest_codes
from .method import Method
from .steps import finite

__all__ = ["LeanQuant"]

PAPER = 4.0
"""The paper's power."""
Nearest = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class LeanQuant(Method):
    """Zhang and Shrivastava, "LeanQuant: Accurate and Scalable Large Language Model Quantization with Loss-error-aware Grid" (2024), equations 4 to 6.

    In the loop of GPTQ a row's rounding costs ``(w - q)^2 / (2 [H^-1]_ii)``; so the grid of each column is the one with the least
    ``sum of ([H^-1]_ii)^-power (w_i - q_i)^2``. ``steps``: "free" is a codebook of 2^bits half-precision entries for each column (k-means with these
    weights), "even" the clipping of an affine grid with them, which takes the same bits as gptq; "auto" the first unless its books take more than an eighth
    of a bit a weight. The paper's ``power`` is 4; with a few hundred inputs 1 is better. Which even steps cost a column least depends on where the loop takes
    its numbers: those for this power, for the paper's and for diag H are all rounded to, and each column keeps the one that the error of its output favours.
    """

    name: ClassVar[str] = "leanquant"
    refines: ClassVar[str | None] = "gptq"
    moments: ClassVar[bool] = True

    steps: Literal["auto", "free", "even"] = "auto"
    power: float = 1.0
    damp: float = DAMP
    sweeps: int = 3

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine | Codebook:
        """As `Method.quantize`; also raises UsageError without statistics. The codebook takes only the bits from ``grid``."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        order = np.argsort(-np.diagonal(moment), kind="stable")
        factor = feedback_factor(moment[np.ix_(order, order)], self.damp)
        costs = np.empty(len(weight))
        costs[order] = np.square(factor).sum(axis=0)  # diag of U'U = H^-1
        shares = costs.min() / costs
        free = book_pays(len(weight), grid.bits) if self.steps == "auto" else self.steps == "free"
        if free:
            return self._free(weight, moment, order, factor, shares**self.power, grid)
        weights = [shares**power for power in dict.fromkeys((self.power, PAPER))]
        tried = [self._even(weight, moment, order, factor, each, grid) for each in (*weights, importance(moment))]
        return tried[0] if grid.block == -1 else _best_columns(tried, [output_error(one.matrix() - weight, moment) for one in tried])

    def _even(self, weight: np.ndarray, moment: np.ndarray, order: np.ndarray, factor: np.ndarray, weights: np.ndarray, grid: Grid) -> Affine:
        steps = fit_steps(weight, grid, "mse", importance=weights)
        table = Table(steps, len(weight))
        return steps.affine(table.codes(self._rounded(weight, moment, order, factor, table.nearest)))

    def _free(self, weight: np.ndarray, moment: np.ndarray, order: np.ndarray, factor: np.ndarray, weights: np.ndarray, grid: Grid) -> Codebook:
        books, width = halved(cluster(weight, 2**grid.bits, weights))
        nearest = book_steps(books.astype(np.float64))
        rounded = self._rounded(weight, moment, order, factor, lambda row, values: nearest(values))
        return Codebook(nearest_codes(rounded, books), books, grid.bits, book_bits=width)

    def _rounded(self, weight: np.ndarray, moment: np.ndarray, order: np.ndarray, factor: np.ndarray, nearest: Nearest) -> np.ndarray:
        rounded = np.empty(weight.shape)
        rounded[order] = feed_back(weight[order], factor, lambda row, ahead: nearest(order[row], ahead[0]))
        return descend(rounded, weight, damped(moment, self.damp), lambda row, ahead: nearest(row, ahead[0]), self.sweeps)


def _best_columns(tried: Sequence[Affine], errors: Sequence[np.ndarray]) -> Affine:
    """Each column from the one with the least error [M]; all have a scale for each column."""
    best = np.argmin(np.stack(errors), axis=0)
    columns = np.arange(len(best))

    def picked(parts: list[np.ndarray]) -> np.ndarray:
        return np.ascontiguousarray(np.stack(parts)[best, :, columns].T)

    zeros = [one.zeros for one in tried if one.zeros is not None]
    return replace(tried[0], codes=picked([one.codes for one in tried]), scales=picked([one.scales for one in tried]), zeros=picked(zeros) if zeros else None)
