"""ISC: the saliencies of OBD and OBS together (Shao et al., "One-Shot Sensitivity-Aware Mixed Sparsity Pruning for Large Language Models", 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from ...quantize.hessian import importance, moment_of
from .method import Metric
from .obs import inverse_diagonal
from .pattern import Scope


@dataclass(frozen=True)
class Isc(Metric):
    """``w^2 (H_kk + 1 / [H^-1]_kk)`` (equation 3), compared over all weights of the site."""

    name: ClassVar[str] = "isc"
    refines: ClassVar[str | None] = "magnitude"
    moments: ClassVar[bool] = True
    scope: ClassVar[Scope] = "weight"

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`."""
        moment = moment_of(statistics, weight, self.name)
        return np.square(weight.astype(np.float64)) * (importance(moment) + 1 / inverse_diagonal(moment))[:, None]
