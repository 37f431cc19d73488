"""One basis for the weights of several layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import moment_of
from .apart import nearest
from .factors import Factors, balanced
from .method import SharingMethod, finite
from .svd import decomposed
from .svd_llm import SvdLlm
from .whitening import DAMP, Whitening

__all__ = ["BasisSharing"]


@dataclass(frozen=True)
class BasisSharing(SharingMethod):
    """Wang et al., "Basis Sharing: Cross-Layer Parameter Sharing for Large Language Model Compression" (ICLR 2025), section 3.1.

    The weights of ``group`` layers side by side, [K, n M], are whitened by the second moment of all their inputs and decomposed: the left factor is the
    basis of all, each layer keeps its own columns of the right one. Layers that lose less with a basis each, at equal size, get one each, and so does
    one without a like.
    """

    name: ClassVar[str] = "basis_sharing"
    refines: ClassVar[str | None] = "svd"
    singles: ClassVar[bool] = True

    damp: float = DAMP

    def factor(self, weights: Sequence[np.ndarray], statistics: Sequence[SiteStatistics | None], share: float) -> list[Factors]:
        """As `SharingMethod.factor`. Raises UsageError without statistics."""
        moments = [moment_of(one, finite(weight), self.name) for weight, one in zip(weights, statistics, strict=True)]
        inputs, outputs = weights[0].shape
        apart = int(share * inputs * outputs / (inputs + outputs))
        together = int(len(weights) * share * inputs * outputs / (inputs + len(weights) * outputs))
        alone = [SvdLlm(damp=self.damp).decompose(weight, one).cut(apart) for weight, one in zip(weights, statistics, strict=True)]
        if len(weights) == 1:
            return alone
        shared = self._shared(weights, sum(moments) / len(moments), together)  # type: ignore[arg-type]
        return nearest(weights, moments, shared, alone)

    def _shared(self, weights: Sequence[np.ndarray], moment: np.ndarray, rank: int) -> list[Factors]:
        whitening = Whitening.of_moment(moment, self.damp)
        found = decomposed(whitening.root @ np.concatenate(weights, axis=1))
        rank = max(1, min(rank, len(found.values)))
        basis, right = whitening.inverse @ found.left[:, :rank], found.values[:rank, None] * found.right[:rank]
        basis, right = balanced(basis, right)
        return [Factors((basis, part), form=f"rank {rank}, a basis for {len(weights)}") for part in np.split(right, len(weights), axis=1)]
