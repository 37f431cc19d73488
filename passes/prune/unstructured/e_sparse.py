"""E-Sparse: inputs that tell more count more (Li et al., "E-Sparse: Boosting the Large Language Model Inference through Entropy-based N:M Sparsity", 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.errors import UsageError
from ....compiler.core.statistics import SiteStatistics
from .method import Metric, input_norms


@dataclass(frozen=True)
class ESparse(Metric):
    """``|w_kj| (entropy(X_k) + share ||X_k||)``, compared within each output channel: the entropy of a histogram of the input, and its norm.

    Both are brought to a mean of 1 over the inputs, so that ``share`` means the same at every site; that of 0.25 to 4 which lost
    least on calibration text.
    """

    name: ClassVar[str] = "e-sparse"
    refines: ClassVar[str | None] = "wanda"
    moments: ClassVar[bool] = True
    rows: ClassVar[int] = 2048

    share: float = 3.0
    bins: int = 64

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`. Raises UsageError without rows of X."""
        norms = input_norms(statistics, weight, self.name)
        if statistics is None or not len(statistics.rows):
            raise UsageError(f"{self.name} needs rows of the input, and there are none")
        told = entropies(statistics.rows, self.bins)[:, None]
        mean = told.mean()
        return np.abs(weight.astype(np.float64)) * ((told / mean if mean > 0 else 1.0) + self.share * norms / norms.mean())


def entropies(rows: np.ndarray, bins: int) -> np.ndarray:
    """The entropy of each column of ``rows`` [n, K] in nats, float64 [K], from ``bins`` equal bins between its least and its greatest number."""
    wide = rows.astype(np.float64)
    low, high = wide.min(axis=0), wide.max(axis=0)
    placed = np.divide(wide - low, high - low, out=np.zeros_like(wide), where=high > low)
    codes = np.minimum(placed * bins, bins - 1).astype(np.int64) + np.arange(rows.shape[1]) * bins
    shares = np.bincount(codes.reshape(-1), minlength=rows.shape[1] * bins).reshape(-1, bins) / len(rows)
    return -np.asarray((shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1))
