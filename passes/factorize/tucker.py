"""A convolution with its channels narrowed before it and widened after it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .factors import Stage
from .method import KernelMethod, finite
from .refitting import refitted
from .vbmf import rank_of

__all__ = ["Tucker"]


@dataclass(frozen=True)
class Tucker(KernelMethod):
    """Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications" (ICLR 2016), section 3.1 (Tucker-2).

    A kernel [M, C, *taps] is ``U_o G U_c'`` with a core G [s, r, *taps]: 1 x 1 to r channels (left out where r is C), the core, 1 x 1 to M. U_o and U_c start
    as singular vectors of the two unfoldings and are refined in turn ``sweeps`` times; with calibration data the last one is fitted to the outputs. A
    ``rank`` stands for the greater of r and s, the other is narrower in the proportion of C and M; `within` finds the pair that loses least in some room,
    `chosen` finds ranks by variational Bayes, as the paper does.
    """

    name: ClassVar[str] = "tucker"

    sweeps: int = 4

    def ranks(self, shape: tuple[int, ...], rank: int) -> tuple[int, int]:
        """(s of M, r of C)."""
        widest = max(shape[0], shape[1])
        return max(1, round(rank * shape[0] / widest)), max(1, round(rank * shape[1] / widest))

    def most(self, shape: tuple[int, ...]) -> int:
        """As `KernelMethod.most`."""
        return max(shape[0], shape[1])

    def numbers(self, shape: tuple[int, ...], rank: int) -> int:
        """As `KernelMethod.numbers`."""
        outer, inner = self.ranks(shape, rank)
        first = shape[1] * inner if inner < shape[1] else 0
        return first + inner * outer * math.prod(shape[2:]) + outer * shape[0]

    def chosen(self, kernel: np.ndarray) -> int:
        """The rank that variational Bayes finds in the unfoldings along M and C, whichever asks for more."""
        wide = finite(kernel)
        share = max(rank_of(_unfolded(wide, axis)) / wide.shape[axis] for axis in (0, 1))
        return max(1, math.ceil(share * self.most(wide.shape)))

    def within(self, kernel: np.ndarray, room: float) -> tuple[int, int]:
        """(s, r) with at most ``room`` numbers whose unfoldings lose least when they are cut there; (0, 0) when there is no room for any."""
        wide = finite(kernel)
        outputs, inputs = wide.shape[:2]
        lost = [_tails(_unfolded(wide, axis)) for axis in (0, 1)]
        best, least = (0, 0), np.inf
        for inner in range(1, inputs + 1):
            spent = inputs * inner if inner < inputs else 0
            outer = min(outputs, int((room - spent) / (inner * math.prod(wide.shape[2:]) + outputs)))
            if outer >= 1 and lost[0][outer] + lost[1][inner] < least:
                best, least = (outer, inner), float(lost[0][outer] + lost[1][inner])
        return best

    def factor(self, kernel: np.ndarray, statistics: SiteStatistics | None, rank: int) -> list[Stage]:
        """As `KernelMethod.factor`."""
        return self.at(kernel, statistics, self.ranks(kernel.shape, rank))

    def at(self, kernel: np.ndarray, statistics: SiteStatistics | None, ranks: tuple[int, int]) -> list[Stage]:
        """The stages at ranks (s, r)."""
        wide, (outer, inner) = finite(kernel), ranks
        widened, narrowed = _leading(_unfolded(wide, 0), outer), _leading(_unfolded(wide, 1), inner)
        for _ in range(self.sweeps):
            widened = _leading(_unfolded(np.einsum("oi...,ir->or...", wide, narrowed), 0), outer)
            narrowed = _leading(_unfolded(np.einsum("oi...,os->si...", wide, widened), 1), inner)
        core = np.einsum("oi...,os->si...", wide, widened)
        ones, axes = [1] * (wide.ndim - 2), wide.ndim - 2
        still = (False,) * axes
        stages = [Stage(core, (True,) * axes), Stage(widened.reshape(wide.shape[0], -1, *ones), still)]
        if inner < wide.shape[1]:
            core = np.einsum("si...,ir->sr...", core, narrowed)
            stages = [Stage(narrowed.T.reshape(-1, wide.shape[1], *ones), still), Stage(core, (True,) * axes), stages[-1]]
        return refitted(stages, wide, statistics)


def _unfolded(kernel: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)


def _leading(matrix: np.ndarray, count: int) -> np.ndarray:
    """The first left singular vectors, float64 [rows, count]."""
    return np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1][:, :count]


def _tails(matrix: np.ndarray) -> np.ndarray:
    """The energy beyond the first n singular values, for each n from 0 on."""
    values = np.maximum(np.linalg.eigvalsh(matrix @ matrix.T)[::-1], 0.0)
    return np.concatenate([[values.sum()], np.maximum(values.sum() - np.cumsum(values), 0.0)])
