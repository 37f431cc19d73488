"""Principal components of the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import moment_of
from .method import Decomposition, LowRank
from .svd import decomposed

__all__ = ["Afm"]


@dataclass(frozen=True)
class Afm(LowRank):
    """Yu & Wu, "Compressing Transformers: Features Are Low-Rank, but Weights Are Not!" (AAAI 2023), equations 4 to 7 (atomic feature mimicking).

    With Q the principal components of the outputs Y = X W and m their mean, ``W ~ (W Q) Q'`` and ``m - m Q Q'`` is added to the bias: outputs that hardly vary
    are no rank at all.
    """

    name: ClassVar[str] = "afm"
    refines: ClassVar[str | None] = "svd"
    moments: ClassVar[bool] = True

    def numbers(self, inputs: int, outputs: int, rank: int) -> int:
        """As `MatrixMethod.numbers`, the bias included."""
        return rank * (inputs + outputs) + outputs

    def decompose(self, weight: np.ndarray, statistics: SiteStatistics | None) -> Decomposition:
        """As `LowRank.decompose`. Raises UsageError without statistics."""
        moment = moment_of(statistics, weight, self.name)
        assert statistics is not None
        mean = statistics.mean @ weight
        spread = weight.T @ (moment - np.outer(statistics.mean, statistics.mean)) @ weight
        values, basis = np.linalg.eigh((spread + spread.T) / 2)
        most = min(weight.shape)
        order = np.argsort(values)[::-1][:most]
        if not values[order[0]] > 0:
            return decomposed(weight)
        span = basis[:, order]
        energies = np.sqrt(np.maximum(values[order], 0.0))
        known = np.maximum(energies, energies[0] * np.finfo(np.float64).eps)
        return Decomposition((weight @ span) / known, known, span.T, mean)
