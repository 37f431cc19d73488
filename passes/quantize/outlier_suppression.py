"""Outlier Suppression (Wei et al., NeurIPS 2022) and Outlier Suppression+ (Wei et al., EMNLP 2023): outliers scaled and shifted out of the activations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import SiteStatistics
from .equivalent import Equivalence, Equivalent, rounded_after, tame
from .joint import Precision, product_error, row_extremes, some_columns

__all__ = ["GammaMigration", "OutlierSuppressionPlus"]

FEWEST = 8
"""Rows below this say nothing about an error."""
MOST_ROWS = 256
TRIED = 16
"""How many thresholds are tried."""
LEAST = 1e-3
"""The least threshold against the widest channel, doubled."""


@dataclass(frozen=True)
class GammaMigration(Equivalence):
    """``s = |gamma|``: the scale of the norm, which amplifies the outliers, goes into the weights that read it (section 4.2)."""

    name: ClassVar[str] = "outlier-suppression"

    def find(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, gain: np.ndarray | None = None) -> Equivalent:
        """As `Equivalence.find`. Raises UsageError where no norm makes the input."""
        row_extremes(weight, statistics)
        if gain is None:
            raise UsageError("outlier-suppression moves the scale of a norm, and no norm makes this input")
        scale = np.abs(gain).astype(np.float64)
        return Equivalent(tame(scale, scale > 0), np.zeros(len(scale)))


@dataclass(frozen=True)
class OutlierSuppressionPlus(Equivalence):
    """``z_j = (max X_j + min X_j) / 2`` and ``s_j = max(1, max |X_j - z_j| / t)``, with the threshold t that leaves the least error of the output.

    Equations 4 and 7 of the second paper; no shift is tried as well, as the middle of a range with one long tail is far from most of its numbers. What is
    tried is made of every other row of the statistics and judged by the rest: on the rows that made a range nothing is ever clipped, and the tightest
    threshold would win. Without rows the shift is taken, and a threshold from the middle of those tried. ``shifts`` False leaves the shift out.
    """

    name: ClassVar[str] = "outlier-suppression+"
    refines: ClassVar[str] = "smoothquant"
    rows: ClassVar[int] = 256

    shifts: bool = True

    def find(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, gain: np.ndarray | None = None) -> Equivalent:
        """As `Equivalence.find`. A channel that is constant is shifted to zero and keeps its scale."""
        row_extremes(weight, statistics)
        found = _candidates(statistics.low, statistics.high, self.shifts)
        if len(statistics.rows) < FEWEST:
            return found[TRIED // 2]
        seen, unseen = statistics.rows[:MOST_ROWS:2].astype(np.float64), statistics.rows[1:MOST_ROWS:2]
        low, high = seen.min(axis=0), seen.max(axis=0)
        narrower, weight = replace(statistics, low=low, high=high), some_columns(weight)
        errors = [product_error(rounded_after(change, weight, narrower, precision), weight, unseen) for change in _candidates(low, high, self.shifts)]
        return found[int(np.argmin(errors))]


def _candidates(low: np.ndarray, high: np.ndarray, shifts: bool) -> list[Equivalent]:
    """Transforms for channels with these ranges: thresholds from the widest channel down to half the middle one, shifted; then the same unshifted."""
    middle = (high + low) / 2
    found = []
    for shift in (middle, np.zeros(len(middle)))[0 if shifts else 1 :]:
        reach = np.maximum(high - shift, shift - low).astype(np.float64)
        widest = float(reach.max()) or 1.0
        for threshold in np.geomspace(widest, max(float(np.median(reach)), widest * LEAST) / 2, TRIED):
            found.append(Equivalent(np.maximum(1.0, reach / threshold), shift.astype(np.float64)))
    return found
