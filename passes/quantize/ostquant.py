"""OSTQuant (Hu et al., ICLR 2025): an orthogonal and a scaling transform learned together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .equivalent import Equivalent
from .joint import JointMethod, Precision, Rounded, row_extremes, whole_range
from .learned_turn import Learning, learn_turn
from .orthogonal import random_hadamard
from .quarot import Rotation

__all__ = ["OstQuant", "Turned"]


@dataclass(frozen=True)
class Turned:
    """``X R / s``: the rotation goes into the weights before a norm, the scales into its own."""

    turn: Rotation
    scales: Equivalent

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """As `Change.inputs`."""
        return self.scales.inputs(self.turn.inputs(rows))

    def weight(self, weight: np.ndarray) -> np.ndarray:
        """``s R' W``, float32 [K, M]."""
        return self.scales.weight(self.turn.weight(weight))

    def statistics(self, found: SiteStatistics) -> SiteStatistics:
        """Those of ``X R / s``."""
        return self.scales.statistics(self.turn.statistics(found))


@dataclass(frozen=True)
class OstQuant(JointMethod):
    """R starts as a randomised Hadamard matrix and s as 1; both follow the gradient of the error of the site's output (section 3.2)."""

    name: ClassVar[str] = "ostquant"
    refines: ClassVar[str | None] = "quarot"
    rows: ClassVar[int] = 512

    seed: int = 0
    steps: int = 60

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
        """As `JointMethod.apply`. Without rows there is nothing to learn from: the rotation is drawn, and nothing scaled."""
        row_extremes(weight, statistics)
        turn, scale = random_hadamard(len(weight), np.random.default_rng(self.seed)), np.ones(len(weight))
        if len(statistics.rows):
            turn, scale = learn_turn([(weight, statistics.rows)], precision, [turn], Learning(self.steps), scaled=True)
        change = Turned(Rotation(turn), Equivalent(scale, np.zeros(len(scale))))
        changed = change.statistics(statistics)
        return Rounded(change, precision.inputs, whole_range(changed), precision.rounded(change.weight(weight), changed))
