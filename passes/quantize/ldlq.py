"""Adaptive rounding with linear feedback from an LDL' decomposition of H."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Affine
from .feedback import LAZY, descend
from .gptq import Table
from .grid import Grid
from .hessian import DAMP, damped, importance, moment_of, upper_factor
from .method import Method
from .steps import finite

__all__ = ["Ldlq", "ldlq", "with_feedback"]

Nearest = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Ldlq(Method):
    """Chee et al., "QuIP: 2-Bit Quantization of Large Language Models With Guarantees" (2023), section 3, equation 2.

    With ``H = U D U'`` and U unit upper triangular, row k is rounded after it has taken up ``sum over j < k of (w_j - q_j) U_jk``. The paper shows that no
    other linear feedback has a smaller error at worst or on average, and that GPTQ computes the same (its theorem 6): so does this one, without an inverse
    of H. ``sweeps`` are the paper's greedy updates.
    """

    name: ClassVar[str] = "ldlq"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    clipping: Clipping = "mse"
    damp: float = DAMP
    sweeps: int = 3

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        return ldlq(weight, moment_of(statistics, weight, self.name), grid, self.clipping, self.damp, self.sweeps)


def ldlq(weight: np.ndarray, moment: np.ndarray, grid: Grid, clipping: Clipping, damp: float, sweeps: int, order: np.ndarray | None = None) -> Affine:
    """``weight`` [K, M] rounded with the feedback of ``moment`` [K, K], its rows taken in ``order`` [K] (None: from the first to the last)."""
    steps = fit_steps(weight, grid, clipping, importance=importance(moment))
    table = Table(steps, len(weight))
    return steps.affine(table.codes(with_feedback(weight, moment, table.nearest, damp, sweeps, order)))


def with_feedback(weight: np.ndarray, moment: np.ndarray, nearest: Nearest, damp: float, sweeps: int, order: np.ndarray | None = None) -> np.ndarray:
    """As `ldlq`, with any rounding: ``nearest(row, values [M])`` gives what numbers of that row may be rounded to. Float64 [K, M]."""
    order = np.arange(len(weight)) if order is None else order
    factor = upper_factor(moment[np.ix_(order, order)], damp)
    rounded = np.empty(weight.shape)
    rounded[order] = _fed_back(weight[order], factor / np.diagonal(factor), lambda row, wanted: nearest(int(order[row]), wanted))
    return descend(rounded, weight, damped(moment, damp), lambda row, ahead: nearest(row, ahead[0]), sweeps)


def _fed_back(weight: np.ndarray, feedback: np.ndarray, nearest: Nearest) -> np.ndarray:
    rounded, errors = np.empty(weight.shape), np.zeros(weight.shape)
    for start in range(0, len(weight), LAZY):
        block = slice(start, min(start + LAZY, len(weight)))
        pulls = weight[block] + feedback[:start, block].T @ errors[:start]
        for row in range(start, block.stop):
            rounded[row] = nearest(row, pulls[row - start] + feedback[start:row, row] @ errors[start:row])
            errors[row] = weight[row] - rounded[row]
    return rounded
