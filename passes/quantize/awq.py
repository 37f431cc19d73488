"""AWQ (Lin et al., MLSys 2024): the weights that see large inputs are scaled up before they are rounded, the inputs down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .coded import Coded
from .equivalent import Equivalence, Equivalent, Rescaled, tame
from .grid import Grid
from .joint import Precision, row_extremes
from .method import Method, find_method
from .steps import finite

__all__ = ["Awq", "AwqScales", "output_error"]

TRIED = 20


@dataclass(frozen=True)
class AwqScales(Equivalence):
    """``s_j = mean |X_j|^a``, with the a from 0 to 1 that leaves the least error of the output when the weight alone is rounded (equation 5)."""

    name: ClassVar[str] = "awq"
    moments: ClassVar[bool] = True

    def find(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, gain: np.ndarray | None = None) -> Equivalent:
        """As `Equivalence.find`. A channel that is never active keeps its scale."""
        row_extremes(weight, statistics)
        method = find_method(precision.method)()
        alive = statistics.abs_mean > 0
        level = np.where(alive, statistics.abs_mean, 1.0).astype(np.float64)
        best, least = Equivalent.none(len(level)), np.inf
        for exponent in np.arange(TRIED) / TRIED:
            change = Equivalent(tame(level**exponent, alive), np.zeros(len(level)))
            coded = Rescaled(method.quantize(change.weight(weight), change.statistics(statistics), precision.weight), change.scale)
            error = output_error(weight, coded.matrix(), statistics)
            if error < least:
                best, least = change, error
        return best


@dataclass(frozen=True)
class Awq(Method):
    """The same as a method for the weight alone: its rows are divided by the scales again, which the operator before the site does in a graph.

    ``inner`` is the method that rounds what is scaled.
    """

    name: ClassVar[str] = "awq"
    refines: ClassVar[str] = "rtn"
    moments: ClassVar[bool] = True
    channels: ClassVar[bool] = True

    inner: str = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """As `Method.quantize`; without statistics it is the inner method."""
        finite(weight, grid)
        method = find_method(self.inner)()
        if statistics is None:
            return method.quantize(weight, None, grid)
        change = AwqScales().find(weight, statistics, Precision(grid, method=self.inner))
        return Rescaled(method.quantize(change.weight(weight), change.statistics(statistics), grid), change.scale)


def output_error(weight: np.ndarray, other: np.ndarray, statistics: SiteStatistics) -> float:
    """``mean ||x (W - W')||^2`` over the calibration data, from X'X; were the inputs independent, where only their levels are known."""
    off = weight.astype(np.float64) - other.astype(np.float64)
    if statistics.moment.size:
        return float(np.einsum("ij,ij->", off, statistics.moment @ off))
    return float(np.square(off * statistics.abs_mean[:, None]).sum())
