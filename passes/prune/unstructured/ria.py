"""RIA: a weight counts for its share of its row and its column (Zhang et al., "Plug-and-Play: An Efficient Post-training Pruning Method", ICLR 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from .method import Metric, input_norms
from .pattern import Scope


@dataclass(frozen=True)
class Ria(Metric):
    """``(|w_kj| / sum_k |w_kj| + |w_kj| / sum_j |w_kj|) ||X_k||^power`` (equation 4), compared over all weights of the site, as the authors' code does."""

    name: ClassVar[str] = "ria"
    refines: ClassVar[str | None] = "wanda"
    moments: ClassVar[bool] = True
    scope: ClassVar[Scope] = "weight"

    power: float = 0.5

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`."""
        sizes = np.abs(weight.astype(np.float64))
        return relative(sizes) * input_norms(statistics, weight, self.name) ** self.power


def relative(sizes: np.ndarray) -> np.ndarray:
    """The share that each size [K, M] has of its column, and of its row, added up; 0 where those are all zeros."""
    shares = np.zeros_like(sizes)
    for axis in (0, 1):
        total = sizes.sum(axis=axis, keepdims=True)
        shares += np.divide(sizes, total, out=np.zeros_like(sizes), where=total > 0)
    return shares
