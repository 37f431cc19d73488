"""LoftQ (Li et al., ICLR 2024): a quantised weight and a low-rank part beside it, each fitted to what the other leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Sum
from .grid import Grid
from .lorc import with_low_rank
from .method import Method
from .steps import finite

__all__ = ["LoftQ"]


@dataclass(frozen=True)
class LoftQ(Method):
    """``Q = q(W - A B)``, then ``A B`` the best low rank of ``W - Q``, by turns (algorithm 1); the best of all turns is kept.

    The first turn is lorc. ``rank`` 0 is what lorc takes. The low-rank part is also where training of adapters starts.
    """

    name: ClassVar[str] = "loftq"
    refines: ClassVar[str | None] = "lorc"

    rank: int = 0
    turns: int = 5
    clipping: Clipping = "mse"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Sum:
        """As `Method.quantize`; ``statistics`` may be None."""
        left = finite(weight, grid)
        plain = np.ones(len(weight))
        best: Sum | None = None
        least = np.inf
        for _ in range(max(1, self.turns)):
            steps = fit_steps(left, grid, self.clipping)
            found = with_low_rank(weight, steps.affine(steps.codes(left)), self.rank, plain)
            error = float(np.square(found.matrix() - weight, dtype=np.float64).sum())
            if error < least:
                best, least = found, error
            if len(found.parts) == 1:
                break
            left = weight - found.parts[1].matrix()
        assert best is not None
        return best
