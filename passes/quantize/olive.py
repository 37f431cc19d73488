"""OliVe (Guo et al., ISCA 2023): the neighbour of an outlier is given up, and its code widens that of the outlier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import SiteStatistics
from .activation import ActivationGrid
from .coded import Coded, Dense
from .grid import Grid
from .joint import JointMethod, Precision, row_extremes
from .method import Method
from .steps import block_starts, finite

__all__ = ["Olive", "OlivePairs", "OliveProduct", "outlier_values", "paired"]

FEWEST_BITS = 3
SHARES = np.concatenate([np.linspace(1.0, 0.4, 25), np.geomspace(0.37, 1 / 24, 12)])
"""Shares of the greatest number that the ordinary codes may reach to."""
SCALE_BITS = 32


@dataclass(frozen=True)
class Olive(Method):
    """Weights in pairs of neighbouring rows: both ordinary codes, or one an outlier and the other 0.

    The lowest code says that the other of its pair is an outlier, in a float of its own (abfloat, section 3.3). The scale of each block of a column is the
    one with the least squared error.
    """

    name: ClassVar[str] = "olive"
    refines: ClassVar[str] = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """As `Method.quantize`. The grid is symmetric, whatever was asked for: an ordinary code and a code of an outlier have a sign each."""
        finite(weight, grid)
        if grid.bits < FEWEST_BITS:
            raise UsageError(f"olive has no code for outliers in {grid.bits} bits: it takes {FEWEST_BITS} or more")
        if grid.block == -1:
            parts = [paired_by_column(weight.reshape(-1, 1), grid.bits).reshape(weight.shape)]
            scales = 1
        else:
            rows = grid.block if grid.block > 0 else len(weight)
            parts = [paired_by_column(weight[start : start + rows], grid.bits) for start in block_starts(grid.block, len(weight))]
            scales = len(parts) * weight.shape[1]
        return Dense(np.concatenate(parts).astype(np.float32), float(weight.size * grid.bits + scales * SCALE_BITS))


@dataclass(frozen=True)
class OliveProduct:
    """Both sides in pairs along the input channels; the ordinary codes of the inputs reach to ``reach``, for tokens a share of the greatest of each."""

    grid: ActivationGrid
    reach: float
    weight: Coded

    def output(self, inputs: np.ndarray) -> np.ndarray:
        """As `Product.output`."""
        wide = inputs.astype(np.float64)
        reach = np.abs(wide).max(axis=1, keepdims=True) * self.reach if self.grid.token else np.full((len(wide), 1), self.reach)
        return np.asarray(paired(wide.T, reach.T, self.grid.bits).T @ self.weight.matrix().astype(np.float64))

    @property
    def stored_bits(self) -> float:
        """As `Product.stored_bits`."""
        return self.weight.stored_bits


@dataclass(frozen=True)
class OlivePairs(JointMethod):
    """The same for weights and inputs; the reach of the inputs is the one with the least squared error on the rows of the statistics."""

    name: ClassVar[str] = "olive"
    rows: ClassVar[int] = 256

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> OliveProduct:
        """As `JointMethod.apply`."""
        inputs, _ = row_extremes(weight, statistics)
        grid, rows = precision.inputs, statistics.rows.astype(np.float64)
        whole = np.abs(rows).max(axis=1, keepdims=True) if grid.token else np.full((len(rows), 1), float(inputs.max()))
        errors = [float(np.square(paired(rows.T, (whole * share).T, grid.bits).T - rows).sum()) for share in SHARES]
        share = float(SHARES[int(np.argmin(errors))])
        return OliveProduct(grid, share if grid.token else share * float(inputs.max()), Olive().quantize(weight, statistics, precision.weight))


def outlier_values(bits: int) -> np.ndarray:
    """What outliers are rounded to, in steps of the ordinary codes: E2M1 for 4 bits (12, 16, 24 ... 96), E4M3 for 8, ascending; 0 is not among them."""
    mantissa = max(1, (bits - 2) // 2)
    exponents = 2 ** (bits - 1 - mantissa)
    start = 2 ** (bits - 1 - mantissa)
    values = [(2**mantissa + part) * start * 2.0**power for power in range(exponents) for part in range(2**mantissa)]
    return np.array(values[1:])


def paired(values: np.ndarray, reach: np.ndarray, bits: int) -> np.ndarray:
    """``values`` float64 [K, M] as pairs of rows are stored, with ordinary codes up to ``reach`` [1, M]."""
    most = 2 ** (bits - 1) - 1
    scale = np.where(reach > 0, reach, 1.0) / most
    odd = len(values) % 2
    steps = np.pad(values, ((0, odd), (0, 0))) / scale
    pairs = steps.reshape(-1, 2, values.shape[1])
    ordinary = np.clip(np.rint(pairs), -most, most)
    size = np.abs(pairs)
    outlying = np.rint(size.max(axis=1, keepdims=True)) > most
    greater = np.concatenate([size[:, :1] >= size[:, 1:], size[:, :1] < size[:, 1:]], axis=1)
    codes = np.concatenate([[most], outlier_values(bits)])
    wide = np.sign(pairs) * codes[np.searchsorted((codes[1:] + codes[:-1]) / 2, size)]
    found = np.where(outlying, np.where(greater, wide, 0.0), ordinary)
    return np.asarray((found.reshape(-1, values.shape[1]) * scale)[: len(values)])


def paired_by_column(values: np.ndarray, bits: int) -> np.ndarray:
    """``values`` [K, M] in pairs, each column with the reach of the least squared error; float64."""
    wide = values.astype(np.float64)
    most = np.abs(wide).max(axis=0, keepdims=True)
    best, least = np.zeros_like(wide), np.full(wide.shape[1], np.inf)
    for share in SHARES:
        found = paired(wide, most * share, bits)
        error = np.square(found - wide).sum(axis=0)
        better = error < least
        least[better], best[:, better] = error[better], found[:, better]
    return best
