"""SmoothQuant (Xiao et al., ICML 2023): outliers of the activations are moved into the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .equivalent import Equivalence, Equivalent, tame
from .joint import Precision, row_extremes

__all__ = ["SmoothQuant"]


@dataclass(frozen=True)
class SmoothQuant(Equivalence):
    """``s_j = max |X_j|^alpha / max |W_j|^(1 - alpha)`` (equation 4): both sides are equally hard to round at alpha 0.5."""

    name: ClassVar[str] = "smoothquant"

    alpha: float = 0.5

    def find(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, gain: np.ndarray | None = None) -> Equivalent:
        """As `Equivalence.find`. A channel that is never active, or never read, keeps its scale."""
        inputs, rows = row_extremes(weight, statistics)
        alive = (inputs > 0) & (rows > 0)
        scale = np.where(alive, inputs, 1.0) ** self.alpha / np.where(alive, rows, 1.0) ** (1 - self.alpha)
        return Equivalent(tame(scale, alive), np.zeros(len(scale)))
