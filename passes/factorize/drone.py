"""Data-aware low rank within what the inputs span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import moment_of
from .method import Decomposition, LowRank
from .svd import decomposed

__all__ = ["Drone"]


@dataclass(frozen=True)
class Drone(LowRank):
    """Chen et al., "DRONE: Data-aware Low-rank Compression for Large NLP Models" (NeurIPS 2021), theorem 1.

    ``X = U S V'`` of rank t, ``Z = S_t V_t' W`` is decomposed, and the left factor is ``V_t S_t^-1 U_Z``: directions that the inputs never take
    (less than ``floor`` of the greatest eigenvalue of H) get no weight at all.
    """

    name: ClassVar[str] = "drone"
    refines: ClassVar[str | None] = "svd"
    moments: ClassVar[bool] = True

    floor: float = 1e-6

    def decompose(self, weight: np.ndarray, statistics: SiteStatistics | None) -> Decomposition:
        """As `LowRank.decompose`. Raises UsageError without statistics."""
        values, basis = np.linalg.eigh(moment_of(statistics, weight, self.name))
        taken = values > max(float(values.max()), 0.0) * self.floor
        if not taken.any():
            return decomposed(weight)
        roots, span = np.sqrt(values[taken]), basis[:, taken]
        found = decomposed(roots[:, None] * (span.T @ weight))
        return Decomposition((span / roots) @ found.left, found.values, found.right)
