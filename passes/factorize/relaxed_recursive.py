"""One weight for several layers, and a low-rank difference for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import damped, moment_of
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
    of each, whitened by its own H. Everything is computed twice over, so only the file is smaller.
    """

    name: ClassVar[str] = "relaxed_recursive"
    refines: ClassVar[str | None] = "svd"
    size_only: ClassVar[bool] = True

    group: int = 0
    damp: float = DAMP

    def together(self, share: float) -> int:
        """As `SharingMethod.together`; with a ``group`` of 0 as many as leave a third of the room for what tells them apart."""
        return self.group or math.ceil(SPACIOUS / share)

    def factor(self, weights: Sequence[np.ndarray], statistics: Sequence[SiteStatistics | None], share: float) -> list[Factors]:
        """As `SharingMethod.factor`. Raises UsageError without statistics. Less room than the one weight takes leaves a rank of 1."""
        moments = [damped(moment_of(one, finite(weight), self.name), self.damp) for weight, one in zip(weights, statistics, strict=True)]
        weighed = sum(moment @ weight for moment, weight in zip(moments, weights, strict=True))
        common = np.linalg.solve(sum(moments), weighed)
        inputs, outputs = common.shape
        rank = max(1, int((share - 1 / len(weights)) * inputs * outputs / (inputs + outputs)))
        found = [SvdLlm(damp=self.damp).decompose(weight - common, one).cut(rank) for weight, one in zip(weights, statistics, strict=True)]
        return [Factors(part.chain, common, form=f"one weight for {len(weights)} + {part.form}") for part in found]
