"""BinaryBERT (Bai et al., ACL 2021): a ternary weight is split into two binary ones, which then go on by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .binary_coding import by_turns
from .coded import Binaries
from .grid import Grid
from .halves import halved
from .hessian import importance
from .method import Method
from .steps import block_rows, finite
from .ternarybert import ternary

__all__ = ["BinaryBert"]

PLANES = 2


@dataclass(frozen=True)
class BinaryBert(Method):
    """Ternary weight splitting: ``a T = (a / 2) B1 + (a / 2) B2``, where T is zero the two disagree, B1 having the sign of the weight (section 3.1).

    Then scales and signs are refined by turns, each column's error weighted by diag H where statistics are given; so it starts as ternarybert and ends nearer.
    One scale for each block, column and binary; a grid with one scale for all has one for each column. The bits of the grid are not used.
    """

    name: ClassVar[str] = "binarybert"
    refines: ClassVar[str | None] = "ternarybert"

    rounds: int = 15

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Binaries:
        """As `Method.quantize`; ``statistics`` may be None."""
        finite(weight, grid)
        weights = np.ones(len(weight)) if statistics is None else importance(np.asarray(statistics.moment))
        step = block_rows(max(0, grid.block), len(weight))
        parts = [self._split(weight[start : start + step].astype(np.float64), weights[start : start + step]) for start in range(0, len(weight), step)]
        scales, bits = halved(np.stack([part[1] for part in parts], axis=1))
        return Binaries(np.concatenate([part[0] for part in parts], axis=1), scales, step, scale_bits=bits)

    def _split(self, weight: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signs int8 [2, r, M] and scales float64 [2, M] of one block."""
        weights = weights if weights.any() else np.ones(len(weights))
        _, scales = ternary(weight, weights)
        return by_turns(weight, np.stack([scales / 2, scales / 2]), PLANES, weights, False, self.rounds)
