"""Magnitude: what has small weights is missed least (Li et al., "Pruning Filters for Efficient ConvNets", 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .score import Score


@dataclass(frozen=True)
class Magnitude(Score):
    """The sum of squares of all weights that go with a member."""

    name: ClassVar[str] = "magnitude"
    refines: ClassVar[str | None] = "chance"

    def of_weight(self, rows: np.ndarray) -> np.ndarray:
        """As `Score.of_weight`."""
        return np.asarray(np.square(rows.astype(np.float64)).sum(axis=1))
