"""One weight for several layers, and a low-rank difference for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import damped, moment_of
from .apart import nearest
from .factors import Factors
from .method import SharingMethod, finite
from .svd_llm import SvdLlm
from .whitening import DAMP

__all__ = ["RelaxedRecursive"]

SPACIOUS = 1.5


@dataclass(frozen=True)
class RelaxedRecursive(SharingMethod):
    """Bae et al., "Relaxed Recursive Transformers: Effective Parameter Sharing with Layer-wise LoRA" (ICLR 2025), section 2.3, before any training.

    ``W_i ~ W + U_i V_i``: one weight W for some layers, the least-squares mean ``(sum H_i)^-1 sum H_i W_i`` of theirs, and the truncation of what is left
    of each, whitened by its own H. Everything is computed twice over, so only the file is smaller. Weights that lose less each by itself, at equal size,
    share nothing, as do those for which one weight takes all the room, and one without a like.
    """

    name: ClassVar[str] = "relaxed_recursive"
    refines: ClassVar[str | None] = "svd"
    size_only: ClassVar[bool] = True
    singles: ClassVar[bool] = True

    group: int = 0
    damp: float = DAMP

    def together(self, share: float) -> int:
        """As `SharingMethod.together`; with a ``group`` of 0 as many as leave a third of the room for what tells them apart."""
        return self.group or math.ceil(SPACIOUS / share)

    def factor(self, weights: Sequence[np.ndarray], statistics: Sequence[SiteStatistics | None], share: float) -> list[Factors]:
        """As `SharingMethod.factor`. Raises UsageError without statistics."""
        moments = [damped(moment_of(one, finite(weight), self.name), self.damp) for weight, one in zip(weights, statistics, strict=True)]
        inputs, outputs = weights[0].shape
        alone = self._truncated(weights, statistics, int(share * inputs * outputs / (inputs + outputs)))
        rank = int((share - 1 / len(weights)) * inputs * outputs / (inputs + outputs))
        if len(weights) == 1 or rank < 1:
            return alone
        weighed = sum(moment @ weight for moment, weight in zip(moments, weights, strict=True))
        common = np.linalg.solve(sum(moments), weighed)
        found = self._truncated([weight - common for weight in weights], statistics, rank)
        shared = [Factors(part.chain, common, form=f"one weight for {len(weights)} + {part.form}") for part in found]
        return nearest(weights, moments, shared, alone)

    def _truncated(self, weights: Sequence[np.ndarray], statistics: Sequence[SiteStatistics | None], rank: int) -> list[Factors]:
        return [SvdLlm(damp=self.damp).decompose(weight, one).cut(max(1, rank)) for weight, one in zip(weights, statistics, strict=True)]
