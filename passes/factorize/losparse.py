"""Low rank plus a few whole output channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import moment_of, output_error
from .factors import Factors
from .method import Decomposition, MatrixMethod, finite
from .svd import decomposed
from .whitening import DAMP, Whitening

__all__ = ["LoSparse"]

PARTS = (0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class LoSparse(MatrixMethod):
    """Li et al., "LoSparse: Structured Compression of Large Language Models based on Low-Rank and Sparse Approximation" (ICML 2023), section 3, untrained.

    ``W ~ U V + S``, S with whole columns of what the low rank misses. The paper chooses them while it trains, by the gradients of the loss; here those are
    kept that miss most, and the low rank is that of the whitened weight. ``part`` of what may be kept goes to U V; 0: as much of some parts as loses least.
    In the graph S stands beside U as further inner channels.
    """

    name: ClassVar[str] = "losparse"
    refines: ClassVar[str | None] = "svd"
    moments: ClassVar[bool] = True

    part: float = 0.0
    damp: float = DAMP

    def numbers(self, inputs: int, outputs: int, rank: int) -> int:
        """As `MatrixMethod.numbers`."""
        return round(rank * (inputs + outputs) / (self.part or 1.0))

    def factor(self, weight: np.ndarray, statistics: SiteStatistics | None, room: int) -> Factors:
        """As `MatrixMethod.factor`. Raises UsageError without statistics."""
        finite(weight)
        whitening, moment = Whitening.of(statistics, weight, self.name, self.damp), moment_of(statistics, weight, self.name)
        found = decomposed(whitening.root @ weight)
        whole = Decomposition(whitening.inverse @ found.left, found.values, found.right)
        tried = [_parted(weight, whole, moment, room, part) for part in ((self.part,) if self.part else PARTS)]
        return min(tried, key=lambda factors: float(output_error(weight - factors.matrix(), moment).sum()))


def _parted(weight: np.ndarray, whole: Decomposition, moment: np.ndarray, room: int, part: float) -> Factors:
    """With this part of the room for the low rank, and the rest for columns."""
    rank = max(1, min(int(part * room / sum(weight.shape)), len(whole.values)))
    left, right = whole.cut(rank).chain
    missed = weight - left @ right
    columns = min(max(room - rank * sum(weight.shape), 0) // (len(weight) + 1), weight.shape[1]) if part < 1 else 0
    if not columns:
        return Factors((left, right), form=f"rank {rank}")
    chosen = np.sort(np.argsort(-output_error(missed, moment), kind="stable")[:columns])
    selected = np.zeros((columns, weight.shape[1]))
    selected[np.arange(columns), chosen] = 1.0
    return Factors((np.concatenate([left, missed[:, chosen]], axis=1), np.concatenate([right, selected])), form=f"rank {rank} + {columns} columns")
