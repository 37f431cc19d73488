"""SparseGPT: what pruning a row costs is made good in the rows still to come (Frantar and Alistarh, "SparseGPT", 2023)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from ...quantize.feedback import LAZY, descend, feed_back
from ...quantize.hessian import DAMP, damped, feedback_factor, moment_of
from .method import Sparsifier
from .pattern import Pattern, kept

__all__ = ["Masks", "SparseGpt"]


@dataclass(frozen=True)
class SparseGpt(Sparsifier):
    """Algorithm 1: rows (input channels) in order; the weights of a block of rows that go are those of the least ``w^2 / U_kk^2`` as the rows before have
    moved them, over all columns (n of m: in each group and column); what that costs goes into the rows behind (`feedback.feed_back`).

    ``sweeps`` of coordinate descent over the weights that stay follow, which the paper does not have; 0 leaves them out.
    """

    name: ClassVar[str] = "sparsegpt"
    refines: ClassVar[str | None] = "wanda"
    moments: ClassVar[bool] = True

    damp: float = DAMP
    sweeps: int = 3

    def pruned(self, weight: np.ndarray, statistics: SiteStatistics | None, pattern: Pattern, gradient: np.ndarray | None) -> np.ndarray:
        """As `Sparsifier.pruned`."""
        moment = moment_of(statistics, weight, self.name)
        factor = feedback_factor(moment, self.damp)
        masks = Masks(np.diagonal(factor), pattern)
        found = feed_back(weight, factor, masks.round_row, masks.lazy)
        return descend(found, weight, damped(moment, self.damp), lambda row, ahead: np.where(masks.stays[row], ahead[0], 0.0), self.sweeps)


class Masks:
    """Chooses, block by block, which weights stay, given the diagonal of the factor of the inverse moment, in the order of the rows.

    ``lazy`` rows make a block of `feed_back`: whole groups, or whole runs of them.
    """

    def __init__(self, diagonal: np.ndarray, pattern: Pattern) -> None:
        self.stays: list[np.ndarray] = []
        self._price, self._pattern = 1 / np.square(diagonal), pattern
        run = pattern.run or len(diagonal)
        self._ends = _ends(len(diagonal), run, pattern.of or LAZY)
        whole = not pattern.of or run % pattern.of == 0 or run == len(diagonal)
        size = (pattern.of or LAZY) if whole else run
        self.lazy = size * -(-LAZY // size)

    def round_row(self, row: int, ahead: np.ndarray) -> np.ndarray:
        """The row with zeros where its weights go."""
        if row == len(self.stays):
            part = ahead[: self._ends[row] - row]
            metric = np.square(part) * self._price[row : row + len(part), None]
            self.stays += list(kept(metric, replace(self._pattern, run=0), "weight"))
        return np.where(self.stays[row], ahead[0], 0.0)


def _ends(rows: int, run: int, size: int) -> list[int]:
    """Where the group ends that starts at a row, had one started there: groups of ``size`` rows, starting anew after ``run``."""
    return [min(row // run * run + (row % run // size + 1) * size, (row // run + 1) * run, rows) for row in range(rows)]
