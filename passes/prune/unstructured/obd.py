"""OBD: what the error grows by when a weight goes, were there no others (LeCun et al., "Optimal Brain Damage", 1990)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from ...quantize.hessian import importance, moment_of
from .method import Metric
from .pattern import Scope


@dataclass(frozen=True)
class Obd(Metric):
    """``w^2 H_kk``, with H = X'X / N the Hessian of the site's output error (equation 5), compared over all weights of the site."""

    name: ClassVar[str] = "obd"
    refines: ClassVar[str | None] = "magnitude"
    moments: ClassVar[bool] = True
    scope: ClassVar[Scope] = "weight"

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`."""
        return np.square(weight.astype(np.float64)) * importance(moment_of(statistics, weight, self.name))[:, None]
