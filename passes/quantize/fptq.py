"""FPTQ (Li et al., 2023): logarithmic activation equalisation, for weights of 4 bits under activations of 8."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .equivalent import Equivalence, Equivalent, rounded_after
from .joint import Precision, Rounded, row_extremes

__all__ = ["Fptq"]


@dataclass(frozen=True)
class Fptq(Equivalence):
    """``s_j = max |X_j| / log2(2 + max |X_j|)`` (equation 7): the greatest of a channel becomes ``log2(2 + max |X_j|)``, whatever the weight is.

    Only where the greatest of all is above ``mild``: below it the input is rounded as it is. Above ``wild`` no scale helps, and every token gets its own
    range when it comes (section 3.3, where the two are 15 and 150). Weights have a scale for every ``group`` rows where the grid asks for none finer.
    """

    name: ClassVar[str] = "fptq"
    refines: ClassVar[str] = "smoothquant"

    mild: float = 15.0
    wild: float = 150.0
    group: int = 128

    def find(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, gain: np.ndarray | None = None) -> Equivalent:
        """As `Equivalence.find`. A channel that is never active keeps its scale."""
        inputs, _ = row_extremes(weight, statistics)
        if not self.mild < inputs.max() <= self.wild:
            return Equivalent.none(len(inputs))
        alive = inputs > 0
        greatest = np.where(alive, inputs, 1.0)
        return Equivalent(np.where(alive, greatest / np.log2(2 + greatest), 1.0), np.zeros(len(greatest)))

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
        """As `JointMethod.apply`."""
        inputs, _ = row_extremes(weight, statistics)
        if inputs.max() > self.wild:
            precision = replace(precision, inputs=replace(precision.inputs, token=True))
        if precision.weight.block <= 0:
            precision = replace(precision, weight=replace(precision.weight, block=self.group))
        return rounded_after(self.find(weight, statistics, precision), weight, statistics, precision)
