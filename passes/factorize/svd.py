"""The truncated singular value decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .method import Decomposition, LowRank

__all__ = ["Svd", "decomposed"]


@dataclass(frozen=True)
class Svd(LowRank):
    """Eckart & Young, "The approximation of one matrix by another of lower rank" (1936): ``W ~ U_r S_r V_r'``, nearest in the Frobenius norm."""

    name: ClassVar[str] = "svd"

    def decompose(self, weight: np.ndarray, statistics: SiteStatistics | None) -> Decomposition:
        """As `LowRank.decompose`."""
        return decomposed(weight)


def decomposed(weight: np.ndarray) -> Decomposition:
    """A matrix by its singular vectors."""
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    return Decomposition(left, values, right)
