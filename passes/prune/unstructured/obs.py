"""OBS: what the error grows by when a weight goes and the others make good for it (Hassibi and Stork, "Second Order Derivatives for Network Pruning", 1992)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from ...quantize.hessian import feedback_factor, moment_of
from .method import Metric
from .pattern import Scope


@dataclass(frozen=True)
class Obs(Metric):
    """``w^2 / [H^-1]_kk`` (equation 5), compared over all weights of the site. The others stay as they are; `sparsegpt` makes good with them."""

    name: ClassVar[str] = "obs"
    refines: ClassVar[str | None] = "magnitude"
    moments: ClassVar[bool] = True
    scope: ClassVar[Scope] = "weight"

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """As `Metric.metric`."""
        return np.square(weight.astype(np.float64)) / inverse_diagonal(moment_of(statistics, weight, self.name))[:, None]


def inverse_diagonal(moment: np.ndarray) -> np.ndarray:
    """The diagonal of (H + damp)^-1, float64 [K]: U'U is that inverse."""
    return np.asarray(np.square(feedback_factor(moment)).sum(axis=0))
