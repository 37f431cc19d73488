"""FLAP: what hardly fluctuates is missed least, as a bias can stand for it (An et al., "Fluctuation-based Adaptive Structured Pruning", 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .score import Score


@dataclass(frozen=True)
class Flap(Score):
    """Var(X_j) ||W_j||^2, summed over the rows of a member (equation 5)."""

    name: ClassVar[str] = "flap"
    refines: ClassVar[str | None] = "magnitude"
    calibrated: ClassVar[bool] = True

    def of_reader(self, weight: np.ndarray, statistics: SiteStatistics, places: np.ndarray) -> np.ndarray:
        """As `Score.of_reader`."""
        variance = np.maximum(np.diagonal(statistics.moment) - np.square(statistics.mean), 0.0)
        rows = variance * np.square(weight.astype(np.float64)).sum(axis=1)
        return np.asarray(rows[places].sum(axis=1))
