"""DSnoT: what went and what stays change places (Zhang et al., "Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs", 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from ...quantize.hessian import damped, moment_of
from .method import Sparsifier, find_sparsifier
from .pattern import Pattern


@dataclass(frozen=True)
class Dsnot(Sparsifier):
    """From what ``start`` leaves, in each column the weight comes back that lowers ``||X (W - W^)||^2`` most, and for it the one goes that raises it least.

    At most ``cycles`` times, and only while the error falls. The paper estimates the error from means and variances of the inputs; here it is exact, from
    the second moment. With n of m both are of one group.
    """

    name: ClassVar[str] = "dsnot"
    refines: ClassVar[str | None] = "wanda"
    moments: ClassVar[bool] = True

    start: str = "wanda"
    cycles: int = 50

    def pruned(self, weight: np.ndarray, statistics: SiteStatistics | None, pattern: Pattern, gradient: np.ndarray | None) -> np.ndarray:
        """As `Sparsifier.pruned`."""
        moment = damped(moment_of(statistics, weight, self.name))
        start = find_sparsifier(self.start)().prune(weight, statistics, pattern, gradient)
        stays = start != 0
        group = _group_of(pattern, len(weight))
        wide = weight.astype(np.float64)
        slope = moment @ np.where(stays, 0.0, wide)
        open_columns = np.arange(weight.shape[1])
        for _ in range(self.cycles):
            open_columns = _swap(wide, stays, slope, moment, group, open_columns)
            if not len(open_columns):
                break
        return np.where(stays, wide, 0.0)


def _swap(wide: np.ndarray, stays: np.ndarray, slope: np.ndarray, moment: np.ndarray, group: np.ndarray | None, columns: np.ndarray) -> np.ndarray:
    """One swap in each of these columns where one helps; those where it did. ``slope`` is H (W - W^), kept up to date."""
    here, mask, sloped = wide[:, columns], stays[:, columns], slope[:, columns]
    own = np.square(here) * np.diagonal(moment)[:, None]
    back = np.where(mask | (here == 0), np.inf, own - 2 * here * sloped)
    grown = back.argmin(axis=0)
    at = np.arange(len(columns))
    cross = moment[:, grown]
    away = np.where(mask, own + 2 * here * sloped - 2 * here * here[grown, at] * cross, np.inf)
    if group is not None:
        away = np.where(group[:, None] == group[grown], away, np.inf)
    gone = away.argmin(axis=0)
    change = back[grown, at] + away[gone, at]
    helps = np.isfinite(change) & (change < -1e-9 * np.maximum(own.sum(axis=0), np.finfo(float).tiny))
    chosen, grown, gone, at = columns[helps], grown[helps], gone[helps], at[helps]
    stays[grown, chosen], stays[gone, chosen] = True, False
    slope[:, chosen] += moment[:, gone] * here[gone, at] - moment[:, grown] * here[grown, at]
    return chosen


def _group_of(pattern: Pattern, rows: int) -> np.ndarray | None:
    """The group that each row is in, int64 [K]; None where there are none."""
    if not pattern.of:
        return None
    groups = pattern.groups(rows)
    found = np.empty(rows + 1, np.int64)
    found[groups] = np.arange(len(groups))[:, None]
    return found[:rows]
