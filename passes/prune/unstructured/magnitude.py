"""Magnitude: small weights go (Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from .method import Metric
from .pattern import Scope


@dataclass(frozen=True)
class Magnitude(Metric):
    """``|w|``, compared over all weights of a site; over all sites when shares are allocated so (`shares.shares_of`, "global")."""

    name: ClassVar[str] = "magnitude"
    scope: ClassVar[Scope] = "weight"

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`."""
        return np.abs(weight.astype(np.float64))
