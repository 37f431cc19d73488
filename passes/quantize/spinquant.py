"""SpinQuant (Liu et al., ICLR 2025): the rotation is learned instead of drawn; only those merged into weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .joint import JointMethod, Precision, Rounded, row_extremes
from .learned_turn import Learning, learn_turn
from .orthogonal import random_hadamard
from .quarot import Rotation, rounded_in

__all__ = ["SpinQuant"]


@dataclass(frozen=True)
class SpinQuant(JointMethod):
    """From a randomised Hadamard matrix, by gradients through the Cayley transform (section 3.2), on the error of the site's own output."""

    name: ClassVar[str] = "spinquant"
    rows: ClassVar[int] = 512

    seed: int = 0
    steps: int = 60

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
        """As `JointMethod.apply`. Without rows there is nothing to learn from: the rotation is drawn."""
        row_extremes(weight, statistics)
        turn = random_hadamard(len(weight), np.random.default_rng(self.seed))
        if len(statistics.rows):
            turn, _ = learn_turn([(weight, statistics.rows)], precision, [turn], Learning(self.steps))
        return rounded_in(Rotation(turn), weight, statistics, precision)
