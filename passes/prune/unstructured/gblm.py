"""GBLM-Pruner: gradients beside activations (Das et al., "Beyond Size: How Gradients Shape Pruning Decisions in Large Language Models", 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from .method import Metric, gradient_of, input_norms


@dataclass(frozen=True)
class Gblm(Metric):
    """``|w| (share |G| + ||X||)``, compared within each output channel (equation 6).

    Both factors are brought to a mean of 1 over the site, so that ``share`` means the same for every loss and number of samples (the paper has 100, of
    gradients and norms in units of their own).
    """

    name: ClassVar[str] = "gblm"
    refines: ClassVar[str | None] = "magnitude"
    moments: ClassVar[bool] = True
    gradients: ClassVar[bool] = True

    share: float = 0.3

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`."""
        slopes, norms = gradient_of(gradient, weight, self.name), input_norms(statistics, weight, self.name)
        mean = slopes.mean()
        return np.abs(weight.astype(np.float64)) * (self.share * slopes / (mean if mean > 0 else 1.0) + norms / norms.mean())
