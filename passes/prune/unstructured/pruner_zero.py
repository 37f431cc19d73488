"""Pruner-Zero: a metric that was searched for (Dong et al., "Pruner-Zero: Evolving Symbolic Pruning Metric from Scratch for Large Language Models", 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from .method import Metric, gradient_of


@dataclass(frozen=True)
class PrunerZero(Metric):
    """``|w| |w| scaled(|G|)``, with gradients scaled to [0, 1] over the site (the expression of the paper's section 4.3), within each output channel.

    Where gradients are the same everywhere, they tell nothing, and the weights decide.
    """

    name: ClassVar[str] = "pruner-zero"
    refines: ClassVar[str | None] = "magnitude"
    gradients: ClassVar[bool] = True

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`."""
        slopes = gradient_of(gradient, weight, self.name)
        low, high = float(slopes.min()), float(slopes.max())
        scaled = (slopes - low) / (high - low) if high > low else np.ones_like(slopes)
        return np.square(weight.astype(np.float64)) * scaled
