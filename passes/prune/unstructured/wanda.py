"""Wanda: what a weight adds to its output goes by (Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from .method import Metric, input_norms


@dataclass(frozen=True)
class Wanda(Metric):
    """``|w_kj| ||X_k||``, compared within each output channel (equation 1)."""

    name: ClassVar[str] = "wanda"
    refines: ClassVar[str | None] = "magnitude"
    moments: ClassVar[bool] = True

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`."""
        return np.abs(weight.astype(np.float64)) * input_norms(statistics, weight, self.name)
