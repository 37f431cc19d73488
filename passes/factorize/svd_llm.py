"""The singular value decomposition of the whitened weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .method import Decomposition, LowRank
from .svd import decomposed
from .whitening import DAMP, Whitening

__all__ = ["SvdLlm"]


@dataclass(frozen=True)
class SvdLlm(LowRank):
    """Wang et al., "SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model Compression" (ICLR 2025), section 3.1.

    With S S' = H, ``S' W`` is decomposed: dropping a singular value then costs exactly that much of ``|| X W - X W^ ||``, so the truncation is the best there
    is on the calibration data.
    """

    name: ClassVar[str] = "svd_llm"
    refines: ClassVar[str | None] = "svd"
    moments: ClassVar[bool] = True

    damp: float = DAMP

    def decompose(self, weight: np.ndarray, statistics: SiteStatistics | None) -> Decomposition:
        """As `LowRank.decompose`. Raises UsageError without statistics."""
        whitening = Whitening.of(statistics, weight, self.name, self.damp)
        found = decomposed(whitening.root @ weight)
        return Decomposition(whitening.inverse @ found.left, found.values, found.right)
