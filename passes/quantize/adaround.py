"""AdaRound (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020): each weight learns whether to round up or down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping, fit_steps
from .coded import Affine
from .grid import Grid
from .method import Method
from .reconstruction import Reconstruction
from .steps import Steps, spread_rows

__all__ = ["AdaRound"]

ZETA, GAMMA = 1.1, -0.1
"""How far the sigmoid is stretched beyond 1 and 0, so that it reaches both."""
BETAS = (20.0, 2.0)
WARM = 0.2
"""Share of the steps without the pull towards 0 and 1."""
MOMENTUM, SPREAD, TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class AdaRound(Method):
    """``W^ = s clip(floor(W / s) + h(V), low, high)`` with ``h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)``.

    Adam minimises ``tr((W - W^)' H (W - W^)) / s^2 + pull sum(1 - |2 h - 1|^beta)`` over V (equations 22 to 24) with beta falling from 20 to 2. The paper
    draws batches of inputs; their second moment gives the same gradient without noise. Scales stay where ``clipping`` puts them. A column
    that ends up worse than rounded to nearest stays rounded to nearest.
    """

    name: ClassVar[str] = "adaround"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    iterations: int = 400
    rate: float = 0.1
    pull: float = 1.0
    clipping: Clipping = "mse"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        """As `Method.quantize`. Raises UsageError without calibration."""
        goal = Reconstruction.of(weight, statistics, grid, self.name)
        steps = fit_steps(weight, grid, self.clipping, importance=np.diagonal(goal.moment))
        nearest = steps.affine(steps.codes(weight))
        learned = steps.affine(self._codes(goal, steps))
        better = goal.errors(learned.matrix()) < goal.errors(nearest.matrix())
        return steps.affine(np.where(better, learned.codes, nearest.codes))

    def _codes(self, goal: Reconstruction, steps: Steps) -> np.ndarray:
        """Learned codes, int32 [K, M]."""
        grid, rows = steps.grid, len(goal.weight)
        scales = np.broadcast_to(spread_rows(steps.scales, grid.block, rows), goal.weight.shape)
        zeros = np.float32(0) if steps.zeros is None else spread_rows(steps.zeros, grid.block, rows).astype(np.float32)
        place = goal.weight / scales + zeros
        floor = np.floor(place)
        doubt = _inverse(place - floor)
        ease = scales / np.square(scales).mean(axis=0)
        first, second = np.zeros_like(doubt), np.zeros_like(doubt)
        warm = int(WARM * self.iterations)
        for step in range(self.iterations):
            sigmoid = 1.0 / (1.0 + np.exp(-doubt))
            stretched = (ZETA - GAMMA) * sigmoid + GAMMA
            share = np.clip(stretched, 0.0, 1.0)
            codes = floor + share
            clipped = np.clip(codes, grid.low, grid.high)
            slope = 2.0 * goal.slope((clipped - zeros) * scales) * ease
            slope[clipped != codes] = 0.0
            if step >= warm:
                slope -= self.pull * _decisiveness(share, _beta(step - warm, self.iterations - warm))
            slope *= (ZETA - GAMMA) * sigmoid * (1.0 - sigmoid)
            slope[stretched != share] = 0.0
            first += (1 - MOMENTUM) * (slope - first)
            second += (1 - SPREAD) * (np.square(slope) - second)
            unbiased = np.sqrt(second / (1 - SPREAD ** (step + 1))) + TINY
            doubt -= self.rate / (1 - MOMENTUM ** (step + 1)) * first / unbiased
        return np.clip(floor + (doubt >= 0), grid.low, grid.high).astype(np.int32)


def _inverse(share: np.ndarray) -> np.ndarray:
    """The V with ``h(V) = share``, for shares from 0 to 1."""
    return np.asarray(-np.log((ZETA - GAMMA) / (share - GAMMA) - 1.0), dtype=np.float32)


def _beta(step: int, steps: int) -> float:
    """Falls from 20 to 2 along half a cosine."""
    start, end = BETAS
    return end + 0.5 * (start - end) * (1.0 + float(np.cos(np.pi * step / steps)))


def _decisiveness(share: np.ndarray, beta: float) -> np.ndarray:
    """The gradient of ``|2 h - 1|^beta``."""
    centred = 2.0 * share - 1.0
    return np.asarray(2.0 * beta * np.abs(centred) ** (beta - 1.0) * np.sign(centred))
