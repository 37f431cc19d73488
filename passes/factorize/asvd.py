"""Activation-aware singular value decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import moment_of, output_error
from .method import Decomposition, LowRank
from .svd import decomposed

__all__ = ["Asvd"]

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Asvd(LowRank):
    """Yuan et al., "ASVD: Activation-aware Singular Value Decomposition for Compressing Large Language Models" (2023), equations 5 to 9.

    ``S W`` is decomposed, S diagonal with ``(mean |x_j|)^alpha``, and ``S^-1`` put back before the left factor. ``alpha`` 0: whichever of some loses least
    of the outputs at the rank that is kept, none (svd) among them; the paper found 0.5 to be good on its models. Before ranks are known, at the middle one.
    """

    name: ClassVar[str] = "asvd"
    refines: ClassVar[str | None] = "svd"
    moments: ClassVar[bool] = True
    channels: ClassVar[bool] = True

    alpha: float = 0.0

    def decompose(self, weight: np.ndarray, statistics: SiteStatistics | None) -> Decomposition:
        """As `LowRank.decompose`. Raises UsageError without statistics."""
        return self.decompose_for(weight, statistics, min(weight.shape) // 2)

    def decompose_for(self, weight: np.ndarray, statistics: SiteStatistics | None, rank: int) -> Decomposition:
        """As `LowRank.decompose_for`. Raises UsageError without statistics."""
        if statistics is None:
            raise UsageError(f"{self.name} needs calibration data: it looks at what a weight is multiplied by")
        tried = [_decomposed(weight, _scales(statistics.abs_mean, alpha)) for alpha in ((self.alpha,) if self.alpha else ALPHAS)]
        moment = moment_of(statistics, weight, self.name)
        return min(tried, key=lambda found: float(output_error(weight - found.cut(rank).matrix(), moment).sum()))


def _decomposed(weight: np.ndarray, scales: np.ndarray) -> Decomposition:
    found = decomposed(weight * scales[:, None])
    return Decomposition(found.left / scales[:, None], found.values, found.right)


def _scales(abs_mean: np.ndarray, alpha: float) -> np.ndarray:
    """Positive float64 [K]; an input that was always zero counts like the least of the others."""
    positive = abs_mean[abs_mean > 0]
    if not positive.size:
        return np.ones(len(abs_mean))
    return np.asarray(np.maximum(abs_mean, positive.min()) ** alpha)
