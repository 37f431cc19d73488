"""Statistics of a site's input, collected row by row."""

from __future__ import annotations

import numpy as np

from ..core.statistics import SiteStatistics

__all__ = ["Counts", "Moments"]


class Moments:
    """Adds up what `SiteStatistics` of ``groups`` groups of K inputs hold, in float64. Rows with NaN or an infinity are left out and counted.

    Of the rows that come with a ``share`` below 1 only that share, drawn by ``seed``, is multiplied, and counts for the rest.
    """

    def __init__(self, groups: int, width: int, *, moments: bool, rows: int, seed: int) -> None:
        self.count = 0
        self.strange = 0
        self._shown = 0
        self._moment = np.zeros((groups, width, width) if moments else (groups, 0, 0))
        self._low, self._high = np.full((groups, width), np.inf), np.full((groups, width), -np.inf)
        self._sum, self._abs_sum = np.zeros((groups, width)), np.zeros((groups, width))
        self._rows = np.zeros((groups, rows, width), np.float32)
        self._random, self._sieve = np.random.default_rng(seed), np.random.default_rng([seed, 1])

    def add(self, rows: np.ndarray, share: float = 1.0) -> None:
        """Count rows [groups, n, K]."""
        exact = np.array(rows, np.float64, order="K")
        if not np.isfinite(exact.sum()):
            fine = np.isfinite(exact).all(axis=(0, 2))
            self.strange += int((~fine).sum())
            exact = exact[:, fine]
        if not exact.shape[1]:
            return
        self._draw(exact)
        self.count += exact.shape[1]
        np.minimum(self._low, exact.min(axis=1), out=self._low)
        np.maximum(self._high, exact.max(axis=1), out=self._high)
        self._sum += exact.sum(axis=1)
        if self._moment.size:
            self._multiply(exact, share)
        self._abs_sum += np.abs(exact, out=exact).sum(axis=1)

    def add_drawn(self, rows: np.ndarray, total: int, low: np.ndarray, high: np.ndarray) -> None:
        """Count finite rows [groups, n, K] that were drawn evenly from ``total`` ones, all of which lie between ``low`` and ``high`` [groups, K]."""
        exact, weight = np.array(rows, np.float64, order="K"), total / rows.shape[1]
        self._draw(exact)
        self.count += total
        np.minimum(self._low, low, out=self._low)
        np.maximum(self._high, high, out=self._high)
        self._sum += weight * exact.sum(axis=1)
        if self._moment.size:
            self._moment += weight * (exact.transpose(0, 2, 1) @ exact)
        self._abs_sum += weight * np.abs(exact, out=exact).sum(axis=1)

    def statistics(self) -> list[SiteStatistics]:
        """One for each group; empty when there was no row."""
        if not self.count:
            return []
        kept = min(self._shown, self._rows.shape[1])
        most = np.maximum(np.abs(self._low), np.abs(self._high))
        return [
            SiteStatistics(
                moment=self._moment[group] / self.count,
                low=self._low[group],
                high=self._high[group],
                abs_max=most[group],
                abs_mean=self._abs_sum[group] / self.count,
                mean=self._sum[group] / self.count,
                rows=self._rows[group, :kept],
                count=self.count,
                strange=self.strange,
            )
            for group in range(len(most))
        ]

    def _multiply(self, rows: np.ndarray, share: float) -> None:
        drawn = rows if share >= 1 else rows[:, self._sieve.random(rows.shape[1]) < share]
        for group, part in zip(self._moment, drawn, strict=True):
            group += (part.T @ part) / share if share < 1 else part.T @ part

    def _draw(self, rows: np.ndarray) -> None:
        """Keep some rows so that each row seen so far is kept with the same chance (reservoir sampling, Vitter's algorithm R)."""
        room = self._rows.shape[1]
        if not room:
            return
        places = np.arange(self._shown, self._shown + rows.shape[1])
        self._shown += rows.shape[1]
        chances = self._random.random(len(places))
        slots = np.where(places < room, places, (chances * (places + 1)).astype(np.int64))
        chosen = np.flatnonzero(slots < room)
        self._rows[:, slots[chosen]] = rows[:, chosen]


class Counts:
    """How often an embedding was asked for each of its ``width`` rows: its X is one-hot, so the moment is diagonal, and kept as that diagonal."""

    def __init__(self, width: int) -> None:
        self._counts = np.zeros(width, np.int64)

    def add(self, indices: np.ndarray, share: float = 1.0) -> None:
        """Count flat indices, whatever the share; negative ones are counted from the end."""
        del share
        width = len(self._counts)
        self._counts += np.bincount(np.where(indices < 0, indices + width, indices).astype(np.int64), minlength=width)

    def statistics(self) -> list[SiteStatistics]:
        """One, with no rows; empty when there was no index."""
        total = int(self._counts.sum())
        if not total:
            return []
        share, seen = self._counts / total, (self._counts > 0).astype(np.float64)
        low = (self._counts == total).astype(np.float64)
        return [SiteStatistics(share, low, seen, seen, share, share, np.zeros((0, len(share)), np.float32), total)]
