"""ZeroQuant (Yao et al., NeurIPS 2022): weights rounded in groups, activations token by token when they come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .joint import JointMethod, Precision, Rounded, Unchanged, row_extremes, whole_range

__all__ = ["ZeroQuant"]


@dataclass(frozen=True)
class ZeroQuant(JointMethod):
    """A scale for every ``group`` rows of a column where the grid asks for none finer, and one for every token (sections 4.1 and 4.2)."""

    name: ClassVar[str] = "zeroquant"

    group: int = 64

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
        """As `JointMethod.apply`."""
        row_extremes(weight, statistics)
        grouped = precision if precision.weight.block > 0 else replace(precision, weight=replace(precision.weight, block=self.group))
        grid = replace(precision.inputs, token=True)
        return Rounded(Unchanged(), grid, whole_range(statistics), grouped.rounded(weight, statistics))
