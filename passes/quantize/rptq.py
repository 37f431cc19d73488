"""RPTQ (Yuan et al., 2023): channels of activations are put in order, so that those of like range lie together and share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .activation import ActivationGrid, Ranges
from .channels import channels_of
from .coded import Coded
from .joint import JointMethod, Precision, row_extremes

__all__ = ["Clustered", "Rptq", "clusters_of"]

ROUNDS = 50


@dataclass(frozen=True)
class Clustered:
    """``X[:, order]``, each cluster of channels rounded by itself: norms and weights before take the order up, as the rows of the weight after do.

    ``labels`` and ``ranges`` are in the new order.
    """

    order: np.ndarray
    labels: np.ndarray
    grid: ActivationGrid
    ranges: Ranges
    weight: Coded

    def output(self, inputs: np.ndarray) -> np.ndarray:
        """As `Product.output`."""
        ordered = inputs.astype(np.float64)[:, self.order]
        for label in np.unique(self.labels):
            inside = self.labels == label
            ordered[:, inside] = self.grid.rounded(ordered[:, inside], Ranges(self.ranges.low[inside], self.ranges.high[inside]))
        return np.asarray(ordered @ self.weight.matrix().astype(np.float64))

    @property
    def stored_bits(self) -> float:
        """As `Product.stored_bits`."""
        return self.weight.stored_bits


@dataclass(frozen=True)
class Rptq(JointMethod):
    """Channels are clustered by their least and greatest number (k-means, section 3.2), and each cluster is rounded between its own."""

    name: ClassVar[str] = "rptq"

    clusters: int = 8

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Clustered:
        """As `JointMethod.apply`. The weight is rounded in the new order."""
        row_extremes(weight, statistics)
        labels = clusters_of(statistics.low, statistics.high, self.clusters)
        order = np.argsort(labels, kind="stable")
        low, high = statistics.low.astype(np.float64), statistics.high.astype(np.float64)
        for label in np.unique(labels):
            inside = labels == label
            low[inside], high[inside] = low[inside].min(), high[inside].max()
        coded = precision.rounded(np.ascontiguousarray(weight[order]), channels_of(statistics, order))
        return Clustered(order, labels[order], precision.inputs, Ranges(low[order], high[order]), coded)


def clusters_of(low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """A label for each channel, int64 [K], those of narrow ranges first: k-means on (least, greatest), from seeds evenly spaced over the widths."""
    points = np.stack([low, high], axis=1).astype(np.float64)
    ranked = np.argsort(high - low, kind="stable")
    count = max(1, min(count, len(points)))
    centres = points[ranked[(np.arange(count) * 2 + 1) * len(points) // (2 * count)]]
    labels = np.full(len(points), -1)
    for _ in range(ROUNDS):
        found = np.square(points[:, None] - centres[None]).sum(axis=2).argmin(axis=1)
        if np.array_equal(found, labels):
            break
        labels = found
        centres = np.stack([points[labels == label].mean(axis=0) if (labels == label).any() else centres[label] for label in range(count)])
    return np.asarray(labels)
