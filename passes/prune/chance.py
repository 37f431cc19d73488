"""Chance: what every other score has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .score import Score


@dataclass(frozen=True)
class Chance(Score):
    """Numbers drawn anew for each weight, the same ones each time."""

    name: ClassVar[str] = "chance"

    seed: int = 0

    def of_weight(self, rows: np.ndarray) -> np.ndarray:
        """As `Score.of_weight`."""
        return np.random.default_rng([self.seed, *rows.shape]).random(len(rows))
