"""Integers or floats, whichever suits a site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import fit_steps
from .coded import Affine, Codebook
from .fp8 import FORMATS, Format, float_book, float_codes
from .grid import Grid
from .hessian import importance, moment_of, output_error
from .method import Method
from .steps import Steps, finite, steps_for

__all__ = ["Mofq", "input_format"]


@dataclass(frozen=True)
class Mofq(Method):
    """Zhang et al., "Integer or Floating Point? New Outlooks for Low-Bit Quantization on Large Language Models" (2023), algorithm 1.

    Every site gets the format of equal bits with the least error of its output on the calibration data: integers of the grid, or each of the floating-point
    formats of that many bits (8: E4M3, E5M2; 6: E3M2, E2M3; 4: E2M1; others have none), all with scales searched by squared error.
    """

    name: ClassVar[str] = "mofq"
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = True

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine | Codebook:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        weights = importance(moment)
        found: list[Affine | Codebook] = []
        for clipping in ("minmax", "mse"):
            steps = fit_steps(weight, grid, clipping, importance=weights)
            found.append(steps.affine(steps.codes(weight)))
            found += [float_codes(weight, form, grid.block, clipping == "mse", weights) for form, (_, bits) in FORMATS.items() if bits == grid.bits]
        errors = [float(output_error(coded.matrix() - weight, moment).sum()) for coded in found]
        return found[int(np.argmin(errors))]


def input_format(statistics: SiteStatistics, weight: np.ndarray, bits: int = 8) -> Format | None:
    """The format of ``bits`` in which this site's *input*, with one scale for all of it, costs its output least; None is integers with a zero point.

    Measured on ``statistics.rows`` [n, K] against ``weight`` [K, M]; integers where there are no rows.
    """
    rows = statistics.rows.astype(np.float64)
    if not rows.size:
        return None
    grid = Grid(bits, symmetric=False, block=-1)
    steps: Steps = steps_for(np.array([[statistics.low.min()]]), np.array([[statistics.high.max()]]), grid)
    errors: dict[Format | None, float] = {None: _cost(rows, steps.rounded(rows), weight)}
    for form, (_, width) in FORMATS.items():
        if width == bits:
            errors[form] = _cost(rows, _as_float(rows, form, float(statistics.abs_max.max())), weight)
    return min(errors, key=lambda form: errors[form])


def _as_float(rows: np.ndarray, form: Format, greatest: float) -> np.ndarray:
    import ml_dtypes

    limit = float(np.nanmax(np.where(np.isfinite(book := float_book(form)), book, 0.0)))
    scale = greatest / limit or 1.0
    return np.clip(rows / scale, -limit, limit).astype(getattr(ml_dtypes, FORMATS[form][0])).astype(np.float64) * scale


def _cost(rows: np.ndarray, found: np.ndarray, weight: np.ndarray) -> float:
    return float(np.square((rows - found) @ weight).sum())
