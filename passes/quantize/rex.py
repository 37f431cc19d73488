"""The error of a quantised weight is quantised again, and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Affine, Coded, Rows, Sum
from .grid import Grid
from .hessian import importance
from .method import Method
from .steps import finite

__all__ = ["Rex"]


@dataclass(frozen=True)
class Rex(Method):
    """Yvinec et al., "REx: Data-Free Residual Quantization Error Expansion" (2022), equations 2 and 4.

    ``W ~ sum over k of Q_k(W - Q_1 - ... - Q_k-1)``: every order divides the error by about 2^bits. With a ``share`` below 1 the later orders only have that
    share of the rows (inputs), those with the greatest error (times the moment of the input where it is known); the paper keeps outputs by their norm.
    """

    name: ClassVar[str] = "rex"
    refines: ClassVar[str | None] = "rtn"

    orders: int = 2
    share: float = 1.0
    clipping: Clipping = "minmax"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """As `Method.quantize`; ``statistics`` may be None."""
        finite(weight, grid)
        weights = np.ones(len(weight)) if statistics is None else importance(np.asarray(statistics.moment))
        parts: list[Coded] = [_rounded(weight, grid, self.clipping)]
        rest = weight - parts[0].matrix()
        rows = np.sort(np.argsort(-weights * np.square(rest).sum(axis=1), kind="stable")[: round(self.share * len(weight))])
        for _ in range(1, self.orders if len(rows) else 1):
            coded = _rounded(rest[rows], grid, self.clipping)
            found = coded.matrix()
            rest[rows] -= found
            parts.append(coded if len(rows) == len(weight) else Rows((len(weight), weight.shape[1]), rows, found, coded.stored_bits / found.size))
        return Sum(tuple(parts)) if len(parts) > 1 else parts[0]


def _rounded(weight: np.ndarray, grid: Grid, clipping: Clipping) -> Affine:
    steps = fit_steps(weight, grid, clipping)
    return steps.affine(steps.codes(weight))
