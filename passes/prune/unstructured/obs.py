"""OBS: what the error grows by when a weight goes and the others make good for it (Hassibi and Stork, "Second Order Derivatives for Network Pruning", 1992)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.statistics import SiteStatistics
from ...quantize.feedback import descend
from ...quantize.hessian import damped, feedback_factor, moment_of
from .method import Sparsifier
from .pattern import Pattern, kept


@dataclass(frozen=True)
class Obs(Sparsifier):
    """Those of the least ``w^2 / [H^-1]_kk`` (equation 5) over all weights of the site go at once, and the others move to where the error is least.

    The saliency counts on that; `sparsegpt` chooses anew as weights move. ``sweeps`` of coordinate descent stand for the least-squares answer.
    """

    name: ClassVar[str] = "obs"
    refines: ClassVar[str | None] = "magnitude"
    moments: ClassVar[bool] = True

    sweeps: int = 10

    def pruned(self, weight: np.ndarray, statistics: SiteStatistics | None, pattern: Pattern, gradient: np.ndarray | None) -> np.ndarray:
        """As `Sparsifier.pruned`."""
        moment = moment_of(statistics, weight, self.name)
        stays = kept(np.square(weight.astype(np.float64)) / inverse_diagonal(moment)[:, None], pattern, "weight")
        start = np.where(stays, weight, 0.0).astype(np.float64)
        return descend(start, weight, damped(moment), lambda row, ahead: np.where(stays[row], ahead[0], 0.0), self.sweeps)


def inverse_diagonal(moment: np.ndarray) -> np.ndarray:
    """The diagonal of (H + damp)^-1, float64 [K]: U'U is that inverse."""
    return np.asarray(np.square(feedback_factor(moment)).sum(axis=0))
