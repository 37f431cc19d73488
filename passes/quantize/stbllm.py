"""Of every few weights only some have a sign, the others are zero: less than one bit a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import SiteStatistics
from .coded import Binaries
from .feedback import descend
from .grid import Grid
from .halves import halved
from .hessian import DAMP, damped, importance, moment_of
from .method import Method
from .onebit import fit_columns, fit_rows
from .steps import finite

__all__ = ["StbLlm"]


@dataclass(frozen=True)
class StbLlm(Method):
    """Dong et al., "STBLLM: Breaking the 1-Bit Barrier with Structured Binary LLMs" (2024), section 3: N:M sparse signs.

    Of every ``group`` inputs of an output the ``keep`` with the greatest ``|w| sqrt(H_kk)``, both standardised as in the paper's equation 3, have a sign; a
    value for each output and one for each input multiply them. Values and signs are then refined by turns on the squared error of the output. The mask is
    stored as well, which the paper's bits leave out: ``(log2 C(group, keep) + keep) / group`` bits a weight, 0.85 for 2 of 8. The paper's three scales by
    magnitude are not here: telling which weight has which takes more bits than its sign.
    """

    name: ClassVar[str] = "stbllm"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    keep: int = 4
    group: int = 8
    rounds: int = 4
    damp: float = DAMP

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Binaries:
        """As `Method.quantize`; also raises UsageError without statistics, and for a group that cannot be kept so. Nothing of ``grid`` counts."""
        finite(weight, grid)
        if not 1 <= self.keep <= self.group:
            raise UsageError(f"stbllm cannot keep {self.keep} of {self.group} weights")
        moment = damped(moment_of(statistics, weight, self.name), self.damp)
        mask = self._mask(weight, importance(moment))
        signs = np.where(weight < 0, -1.0, 1.0) * mask
        rows = np.ones(len(weight))
        columns = np.abs(weight * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
        for _ in range(self.rounds):
            columns = fit_columns(weight, signs * rows[:, None], moment)
            rows = fit_rows(weight, signs * columns, moment, rows)
            flips = np.where(rows < 0, -1.0, 1.0)[:, None] * np.where(columns < 0, -1.0, 1.0)
            rows, columns = np.abs(rows), np.abs(columns)
            held = rows[:, None] * columns * mask
            turned = descend(signs * flips * held, weight, moment, lambda row, ahead, held=held: np.where(ahead[0] < 0, -held[row], held[row]), 1)  # type: ignore[misc]
            signs = np.where(turned < 0, -1.0, 1.0) * mask
        columns = fit_columns(weight, signs * rows[:, None], moment)
        left, left_bits = halved(rows)
        scales, scale_bits = halved(columns)
        bits = (math.log2(math.comb(self.group, self.keep)) + self.keep) / self.group
        return Binaries(signs.astype(np.int8)[None], scales[None, None], len(weight), left=left, sign_bits=bits, scale_bits=max(left_bits, scale_bits))

    def _mask(self, weight: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """1.0 where a weight is kept, float64 [K, M]; a shorter last group keeps as many as it has, up to ``keep``."""
        magnitude = np.abs(weight.astype(np.float64))
        shares = magnitude / np.maximum(magnitude.sum(axis=0), np.finfo(np.float64).tiny) + magnitude / np.maximum(
            magnitude.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny
        )
        scores = shares * np.sqrt(weights)[:, None]
        mask = np.zeros(weight.shape)
        for start in range(0, len(weight), self.group):
            part = scores[start : start + self.group]
            np.put_along_axis(mask[start : start + self.group], np.argsort(-part, axis=0, kind="stable")[: self.keep], 1.0, axis=0)
        return mask
