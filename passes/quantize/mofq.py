"""Integers or floats, whichever suits a site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .activation import ActivationGrid
from .clipping import fit_steps
from .coded import Affine, Codebook, Coded
from .fp8 import FORMATS, Format, float_book, float_codes
from .grid import Grid
from .hessian import importance, moment_of, output_error
from .joint import JointMethod, Precision, Product, Rounded, Unchanged, row_extremes, whole_range
from .method import Method
from .steps import finite

__all__ = ["FloatInputs", "Mofq", "MofqInputs", "input_format"]

BYTES = ActivationGrid()


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


@dataclass(frozen=True)
class FloatInputs:
    """``Q(X) W'`` with X in a float format, the greatest number the format has standing for ``greatest``, or for that of each row where the grid says so."""

    form: Format
    grid: ActivationGrid
    greatest: float
    weight: Coded

    def output(self, inputs: np.ndarray) -> np.ndarray:
        """As `Product.output`."""
        return np.asarray(_as_float(inputs.astype(np.float64), self.form, self.grid, self.greatest) @ self.weight.matrix().astype(np.float64))

    @property
    def stored_bits(self) -> float:
        """As `Product.stored_bits`."""
        return self.weight.stored_bits


@dataclass(frozen=True)
class MofqInputs(JointMethod):
    """The same for the input of a site: what its output minds less on calibration data, integers with a zero point or one of the floats of equal bits."""

    name: ClassVar[str] = "mofq"
    rows: ClassVar[int] = 512

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Product:
        """As `JointMethod.apply`. Without rows to measure on the input stays integers."""
        row_extremes(weight, statistics)
        grid, coded = precision.inputs, precision.rounded(weight, statistics)
        form = input_format(statistics, weight, grid)
        if form is None:
            return Rounded(Unchanged(), grid, whole_range(statistics), coded)
        return FloatInputs(form, grid, float(statistics.abs_max.max()), coded)


def input_format(statistics: SiteStatistics, weight: np.ndarray, grid: ActivationGrid = BYTES) -> Format | None:
    """The format of the bits of ``grid`` in which this site's *input* costs its output least; None is the integers of the grid.

    Measured on ``statistics.rows`` [n, K] against ``weight`` [K, M]; integers where there are no rows.
    """
    rows = statistics.rows.astype(np.float64)
    if not rows.size:
        return None
    errors: dict[Format | None, float] = {None: _cost(rows, grid.rounded(rows, whole_range(statistics)), weight)}
    for form, (_, width) in FORMATS.items():
        if width == grid.bits:
            errors[form] = _cost(rows, _as_float(rows, form, grid, float(statistics.abs_max.max())), weight)
    return min(errors, key=lambda form: errors[form])


def _as_float(rows: np.ndarray, form: Format, grid: ActivationGrid, greatest: float) -> np.ndarray:
    import ml_dtypes

    limit = float(np.nanmax(np.where(np.isfinite(book := float_book(form)), book, 0.0)))
    reach = np.abs(rows).max(axis=1, keepdims=True) if grid.token else np.array([[greatest]])
    scale = np.where(reach > 0, reach, limit) / limit
    return np.asarray(np.clip(rows / scale, -limit, limit).astype(getattr(ml_dtypes, FORMATS[form][0])).astype(np.float64) * scale)


def _cost(rows: np.ndarray, found: np.ndarray, weight: np.ndarray) -> float:
    return float(np.square((rows - found) @ weight).sum())
