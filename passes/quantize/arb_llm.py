"""Signs with scales and an offset, refined by turns on the output; the inputs that count most get a second layer of signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .coded import Binaries, Coded, Rows, Sum
from .feedback import descend
from .grid import Grid
from .halves import halved
from .hessian import DAMP, damped, importance, moment_of
from .method import Method
from .onebit import fit_columns
from .steps import finite

__all__ = ["ArbLlm"]


@dataclass(frozen=True)
class ArbLlm(Method):
    """Li et al., "ARB-LLM: Alternating Refined Binarizations for Large Language Models" (2024), ARB-X, with the salient columns of BiLLM (Huang et al. 2024).

    ``W ~ a_m B + mu_m``, a scale and an offset for each output. In each of ``rounds`` turns mu, then a are set to what the squared error of the output wants
    with the others as they are (the paper's equations 8 and 9, here on H), then B one row after the other. The ``salient`` share of the inputs, those with
    the greatest ``H_kk |w_k|^2``, gets ``a'_m B'`` on top, refined the same way. It takes about ``1 + salient`` bits and three half-precision numbers an
    output, whatever the grid says.
    """

    name: ClassVar[str] = "arb_llm"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    salient: float = 0.1
    rounds: int = 4
    damp: float = DAMP

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = damped(moment_of(statistics, weight, self.name), self.damp)
        wide = weight.astype(np.float64)
        scores = importance(moment) * np.square(wide).sum(axis=1)
        rows = np.sort(np.argsort(-scores, kind="stable")[: round(self.salient * len(weight))])
        weights = importance(moment)[:, None]
        middle = (weights * wide).sum(axis=0) / weights.sum()
        first = _Layer(np.arange(len(weight)), wide - middle, weights)
        second = _Layer(rows, wide - middle - first.value(len(weight)), weights) if len(rows) else None
        for _ in range(self.rounds):
            beside = second.value(len(weight)) if second else 0.0
            middle = fit_columns(wide - beside - first.value(len(weight)), np.ones(weight.shape), moment)
            first.refine(wide - middle - beside, moment)
            if second:
                second.refine(wide - middle - first.value(len(weight)), moment)
        return _packed(first, second, middle, weight.shape)


class _Layer:
    """Signs of some rows with a scale for each column."""

    def __init__(self, rows: np.ndarray, target: np.ndarray, weights: np.ndarray) -> None:
        self.rows = rows
        self.signs = np.where(target[rows] < 0, -1.0, 1.0)
        self.scales = (weights[rows] * np.abs(target[rows])).sum(axis=0) / max(float(weights[rows].sum()), np.finfo(np.float64).tiny)

    def value(self, count: int) -> np.ndarray:
        found = np.zeros((count, self.signs.shape[1]))
        found[self.rows] = self.signs * self.scales
        return found

    def refine(self, target: np.ndarray, moment: np.ndarray) -> None:
        """Scales, then signs, for the least output error against ``target`` [K, M]. What rows without signs here leave is part of the error."""
        unit = np.zeros(target.shape)
        unit[self.rows] = self.signs
        scales = fit_columns(target, unit, moment)
        self.signs, self.scales = self.signs * np.where(scales < 0, -1.0, 1.0), np.abs(scales)
        here, held = np.zeros(len(target), bool), self.scales
        here[self.rows] = True
        turned = descend(self.value(len(target)), target, moment, lambda row, ahead: np.where(ahead[0] < 0, -held, held) * here[row], 1)
        self.signs = np.where(turned[self.rows] < 0, -1.0, 1.0)


def _packed(first: _Layer, second: _Layer | None, middle: np.ndarray, shape: tuple[int, ...]) -> Coded:
    scales, scale_bits = halved(first.scales)
    offset, offset_bits = halved(middle)
    whole = Binaries(first.signs.astype(np.int8)[None], scales[None, None], shape[0], offset[None], scale_bits=max(scale_bits, offset_bits))
    if second is None:
        return whole
    extra, extra_bits = halved(second.scales)
    values = (second.signs * extra).astype(np.float32)
    return Sum((whole, Rows((shape[0], shape[1]), second.rows, values, 1 + extra_bits / len(second.rows))))
