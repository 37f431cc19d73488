"""Rotated Runtime Smooth (Yi et al., 2024): a rotation for the lone outliers, and scales of groups of channels, found when the inputs come, for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .activation import ActivationGrid, Ranges
from .channels import channels_of
from .coded import Coded
from .joint import JointMethod, Precision, row_extremes
from .orthogonal import random_hadamard
from .quarot import Rotation

__all__ = ["RuntimeSmooth", "RuntimeSmoothed"]


@dataclass(frozen=True)
class RuntimeSmoothed:
    """``sum over groups g of s_g Q(X_g / s_g) W_g``, channels in the basis ``change`` and in ``order``; ``s_g = max |X_g|`` of the rows that come together."""

    change: Rotation
    order: np.ndarray
    group: int
    grid: ActivationGrid
    weight: Coded

    def output(self, inputs: np.ndarray) -> np.ndarray:
        """As `Product.output`."""
        turned = self.change.inputs(inputs)[:, self.order]
        size = np.abs(turned).max(axis=0, initial=0.0)
        starts = np.arange(0, len(size), self.group)
        scale = np.repeat(np.maximum.reduceat(size, starts), self.group)[: len(size)]
        scale = np.where(scale > 0, scale, 1.0)
        one = Ranges(np.array([-1.0]), np.array([1.0]))
        return np.asarray((self.grid.rounded(turned / scale, one) * scale) @ self.weight.matrix().astype(np.float64))

    @property
    def stored_bits(self) -> float:
        """As `Product.stored_bits`."""
        return self.weight.stored_bits


@dataclass(frozen=True)
class RuntimeSmooth(JointMethod):
    """Each channel has its own scale (section 3.1), or ``group`` channels share one, which is what a tile of a kernel asks for (section 3.2).

    Channels are then ordered by their greatest number on calibration data, so that those of a group are alike; of a few hundred channels a group is much
    of the whole, and a scale for all does nothing. The rotation is the randomised Hadamard matrix of quarot with the same ``seed``.
    """

    name: ClassVar[str] = "rrs"
    refines: ClassVar[str | None] = "quarot"
    rows: ClassVar[int] = 512

    group: int = 1
    seed: int = 0

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> RuntimeSmoothed:
        """As `JointMethod.apply`."""
        row_extremes(weight, statistics)
        change = Rotation(random_hadamard(len(weight), np.random.default_rng(self.seed)))
        changed = change.statistics(statistics)
        order = np.argsort(changed.abs_max, kind="stable")
        coded = precision.rounded(np.ascontiguousarray(change.weight(weight)[order]), channels_of(changed, order))
        return RuntimeSmoothed(change, order, self.group, precision.inputs, coded)
