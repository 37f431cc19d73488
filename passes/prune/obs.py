"""OBS: what the others can stand for is missed least (Hassibi and Stork, "Optimal Brain Surgeon", 1993; by structures: Kurtic et al., "ZipLM", 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .covariance import covariance, inverse
from .score import Score


@dataclass(frozen=True)
class Obs(Score):
    """The output error that is left once all other rows have been fitted anew: tr(W_m' ((C^-1)_mm)^-1 W_m), for C the covariance of the inputs."""

    name: ClassVar[str] = "obs"
    refines: ClassVar[str | None] = "flap"
    calibrated: ClassVar[bool] = True

    def of_reader(self, weight: np.ndarray, statistics: SiteStatistics, places: np.ndarray) -> np.ndarray:
        """As `Score.of_reader`."""
        inverted = inverse(covariance(statistics))
        blocks = inverted[places[:, :, None], places[:, None, :]]
        rows = weight.astype(np.float64)[places]
        return np.asarray(np.einsum("mik,mik->m", rows, np.linalg.solve(blocks, rows)))
