"""What learned rounding descends on: ``|X W - X W^|^2 / N = tr((W - W^)' H (W - W^))``, from the second moment alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .grid import Grid
from .hessian import damped, moment_of, output_error
from .steps import finite

__all__ = ["Reconstruction"]


@dataclass(frozen=True)
class Reconstruction:
    """A weight float32 [K, M], and H damped and brought to a mean diagonal of 1, float32 [K, K].

    The error of a column depends on that column alone, so columns are learned, and judged, apart.
    """

    weight: np.ndarray
    moment: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid, method: str) -> Reconstruction:
        """Raises what `finite` and `moment_of` raise: for a broken weight, no such grid, no calibration, or that of another site."""
        finite(weight, grid)
        moment = damped(moment_of(statistics, weight, method))
        return cls(weight.astype(np.float32), (moment / np.diagonal(moment).mean()).astype(np.float32))

    def slope(self, rounded: np.ndarray) -> np.ndarray:
        """Half the gradient of the error with respect to ``rounded`` [K, M]: H (W^ - W)."""
        return np.asarray(self.moment @ (rounded - self.weight))

    def errors(self, rounded: np.ndarray) -> np.ndarray:
        """The error of each column, float64 [M], in units of the mean square of an input."""
        return output_error(rounded - self.weight, self.moment.astype(np.float64))
