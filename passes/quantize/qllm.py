"""QLLM (Liu et al., ICLR 2024): channels with outliers are split into several, and as many like ones are merged to keep the width."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .equivalent import Equivalent
from .joint import JointMethod, Precision, Product, Rounded, product_error, row_extremes, some_columns, whole_range
from .smoothquant import SmoothQuant

__all__ = ["Qllm", "Reassembled"]

FEWEST = 8
TRIED = 8
MOST_ROWS = 256


@dataclass(frozen=True)
class Reassembled:
    """``X' = (X / scale)[:, of] / share``, with merged channels the mean of two: ``pairs`` int64 [P, 2] number the columns before they are merged.

    ``of`` int64 [K'] says which channel each column is a part of, ``share`` float64 [K'] into how many that was split.
    """

    scale: np.ndarray
    of: np.ndarray
    share: np.ndarray
    pairs: np.ndarray

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """As `Change.inputs`."""
        parts = (rows.astype(np.float64) / self.scale)[:, self.of] / self.share
        if not len(self.pairs):
            return np.asarray(parts)
        first, second = self.pairs[:, 0], self.pairs[:, 1]
        parts[:, first] = (parts[:, first] + parts[:, second]) / 2
        return np.delete(parts, second, axis=1)

    def weight(self, weight: np.ndarray) -> np.ndarray:
        """The rows for these columns, float32: those of merged channels are added."""
        rows = (weight.astype(np.float64) * self.scale[:, None])[self.of]
        if len(self.pairs):
            rows[self.pairs[:, 0]] += rows[self.pairs[:, 1]]
            rows = np.delete(rows, self.pairs[:, 1], axis=0)
        return np.asarray(rows).astype(np.float32)


@dataclass(frozen=True)
class Qllm(JointMethod):
    """A channel whose greatest is above a threshold t becomes ``ceil(max |X_j| / t)`` equal parts with the same weight (section 4.1.1).

    For each part too many, the two channels i, j with the least ``E (x_i - x_j)^2 |W_i - W_j|^2 / 4`` become their mean, with their weights added (4.1.2).
    t is the one with the least error (4.1.3) on rows that did not make the ranges; channels are tried as they are and as smoothquant scales them.
    """

    name: ClassVar[str] = "qllm"
    refines: ClassVar[str | None] = "smoothquant"
    moments: ClassVar[bool] = True
    rows: ClassVar[int] = 256

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Product:
        """As `JointMethod.apply`."""
        row_extremes(weight, statistics)
        smooth = SmoothQuant().find(weight, statistics, precision)
        starts = (smooth, Equivalent.none(len(weight)))
        if len(statistics.rows) < FEWEST:
            return _product(_reassembled(smooth, 1.0, weight, statistics), weight, statistics, precision)
        seen, unseen = statistics.rows[:MOST_ROWS:2].astype(np.float64), statistics.rows[1:MOST_ROWS:2]
        low, high = seen.min(axis=0), seen.max(axis=0)
        narrower = replace(statistics, low=low, high=high, abs_max=np.maximum(np.abs(low), np.abs(high)), rows=seen.astype(np.float32))
        some, best, least = some_columns(weight), (smooth, 1.0), np.inf
        for start in starts:
            for ratio in np.geomspace(1.0, 0.05, TRIED):
                change = _reassembled(start, ratio, some, narrower)
                error = product_error(_product(change, some, narrower, precision), some, unseen)
                if error < least:
                    best, least = (start, ratio), error
        return _product(_reassembled(*best, weight, statistics), weight, statistics, precision)


def _product(change: Reassembled, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
    ends = change.inputs(np.stack([statistics.low, statistics.high]))
    changed = replace(statistics, low=ends.min(axis=0), high=ends.max(axis=0))
    return Rounded(change, precision.inputs, whole_range(changed), precision.rounded(change.weight(weight), changed))


def _reassembled(start: Equivalent, ratio: float, weight: np.ndarray, statistics: SiteStatistics) -> Reassembled:
    """Channels above ``ratio`` times the widest are split, as far as there are others to merge."""
    reach = statistics.abs_max / start.scale
    threshold = float(reach.max()) * ratio
    parts = np.ceil(np.where(reach > 0, reach / threshold, 1.0) - 1e-9).astype(np.int64) if threshold > 0 else np.ones(len(reach), np.int64)
    parts = np.maximum(parts, 1)
    free = np.flatnonzero(parts == 1)
    room = len(free) // 2
    while parts.sum() - len(parts) > room:
        parts = np.maximum(1, parts - (parts == parts.max()))
    of = np.repeat(np.arange(len(parts)), parts)
    place = np.cumsum(parts) - parts
    pairs = place[_alike(start, weight, statistics, free, int(parts.sum() - len(parts)))]
    return Reassembled(start.scale, of, parts[of].astype(np.float64), pairs.reshape(-1, 2))


def _alike(start: Equivalent, weight: np.ndarray, statistics: SiteStatistics, free: np.ndarray, count: int) -> np.ndarray:
    """Disjoint pairs of channels that cost least to merge, int64 [count, 2]."""
    if not count:
        return np.zeros((0, 2), np.int64)
    scale = start.scale[free]
    rows = weight[free].astype(np.float64) * scale[:, None]
    if statistics.moment.size:
        moment = statistics.moment[np.ix_(free, free)] / np.outer(scale, scale)
    else:
        level = statistics.abs_mean[free] / scale
        moment = np.diag(level**2)
    cost = _distances(moment) * _distances(rows @ rows.T)
    cost[np.tril_indices(len(free))] = np.inf
    found, used = [], np.zeros(len(free), bool)
    for flat in np.argsort(cost, axis=None, kind="stable"):
        i, j = divmod(int(flat), len(free))
        if not used[i] and not used[j]:
            used[i] = used[j] = True
            found.append((free[i], free[j]))
            if len(found) == count:
                break
    return np.array(found, np.int64)


def _distances(products: np.ndarray) -> np.ndarray:
    """Squared distances from inner products."""
    squares = np.diagonal(products)
    return np.asarray(np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0))
