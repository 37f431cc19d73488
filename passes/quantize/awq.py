"""AWQ (Lin et al., MLSys 2024): the weights that see large inputs are scaled up before they are rounded, the inputs down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .coded import Affine, Coded
from .equivalent import Equivalence, Equivalent, Rescaled, tame
from .grid import Grid
from .hessian import moment_of, output_error
from .joint import Precision, row_extremes
from .method import Method, find_method
from .steps import block_rows, block_starts, finite, reduce_blocks, spread_rows, steps_for

__all__ = ["Awq", "AwqScales"]

TRIED = 10
RATIOS = np.linspace(1.0, 0.55, 10)
"""Shares of the full range that are tried when a block is clipped: the paper's go down to a half."""


@dataclass(frozen=True)
class AwqScales(Equivalence):
    """``s_j = mean |X_j|^a`` (equation 5), or ``mean |X_j|^a / mean |W_j|^(1 - a)`` as the authors' later code has it.

    The form, and the a from 0 to 1, are those that leave the least error of the output when the weight alone is rounded.
    """

    name: ClassVar[str] = "awq"
    moments: ClassVar[bool] = True

    def find(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, gain: np.ndarray | None = None) -> Equivalent:
        """As `Equivalence.find`. A channel that is never active keeps its scale."""
        row_extremes(weight, statistics)
        method, moment = find_method(precision.method)(), moment_of(statistics, weight, self.name)
        best, least = Equivalent.none(len(weight)), np.inf
        for change in _tried(weight, statistics):
            coded = Rescaled(method.quantize(change.weight(weight), change.statistics(statistics), precision.weight), change.scale)
            error = float(output_error(weight - coded.matrix(), moment).sum())
            if error < least:
                best, least = change, error
        return best


@dataclass(frozen=True)
class Awq(Method):
    """The same for the weight alone: its rows are divided by the scales again, which the operator before the site does in a graph.

    Then each block of a column is clipped where the error of its part of the output is least (section 4.1 of the paper). Clipping alone makes all outputs
    a little smaller, and a head that is so shrunk too unsure: the scales are fitted to the codes once more, which the paper does not do. ``inner`` is the
    method that rounds; only rtn is clipped.
    """

    name: ClassVar[str] = "awq"
    refines: ClassVar[str] = "rtn"
    moments: ClassVar[bool] = True
    channels: ClassVar[bool] = True

    inner: str = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """As `Method.quantize`."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        assert statistics is not None
        change = AwqScales().find(weight, statistics, Precision(grid, method=self.inner))
        scaled, changed = change.weight(weight), change.statistics(statistics)
        if self.inner != "rtn":
            return Rescaled(find_method(self.inner)().quantize(scaled, changed, grid), change.scale)
        turned = moment / np.outer(change.scale, change.scale)
        return Rescaled(_refitted(_clipped(scaled, turned, grid), scaled, turned), change.scale)


def _tried(weight: np.ndarray, statistics: SiteStatistics) -> Iterator[Equivalent]:
    """No scale first, so that it stays where nothing is better."""
    alive = (statistics.abs_mean > 0) & weight.any(axis=1)
    level = np.where(alive, statistics.abs_mean, 1.0).astype(np.float64)
    size = np.where(alive, np.abs(weight).mean(axis=1), 1.0).astype(np.float64)
    none = np.zeros(len(weight))
    for exponent in np.arange(TRIED + 1) / TRIED:
        yield Equivalent(tame(level**exponent, alive), none)
    for exponent in np.arange(1, TRIED) / TRIED:
        yield Equivalent(tame(level**exponent / size ** (1 - exponent), alive), none)


def _clipped(weight: np.ndarray, moment: np.ndarray, grid: Grid) -> Affine:
    """Rounded to nearest, each block of each column between the share of its extremes with the least ``d' H d`` over the rows of the block."""
    low, high = reduce_blocks(np.minimum, weight, grid.block), reduce_blocks(np.maximum, weight, grid.block)
    best, least = np.ones(low.shape), np.full(low.shape, np.inf)
    for ratio in RATIOS:
        off = weight - steps_for(low * ratio, high * ratio, grid).rounded(weight)
        loss = _block_errors(off, moment, grid)
        better = loss < least
        least[better], best[better] = loss[better], ratio
    steps = steps_for(low * best, high * best, grid)
    return steps.affine(steps.codes(weight))


def _refitted(coded: Affine, weight: np.ndarray, moment: np.ndarray) -> Affine:
    """The same codes, each block's scale in turn where the error of the whole output is least: one step of least squares a block."""
    if len(coded.scales) != len(block_starts(coded.block, len(weight))) or coded.scales.shape[1] != weight.shape[1]:
        return coded
    numbers = coded.codes.astype(np.float64)
    numbers -= 0 if coded.zeros is None else spread_rows(coded.zeros, coded.block, len(weight))
    scales, off = coded.scales.astype(np.float64), weight - coded.matrix().astype(np.float64)
    for group, start in enumerate(block_starts(coded.block, len(weight))):
        part = slice(start, start + coded.block)
        gain, size = np.einsum("km,km->m", numbers[part], moment[part] @ off), output_error(numbers[part], moment[part, part])
        wanted = scales[group] + gain / np.where(size > 0, size, np.inf)
        wanted = np.where(wanted > 0, wanted, scales[group])
        off[part] -= (wanted - scales[group]) * numbers[part]
        scales[group] = wanted
    return replace(coded, scales=scales.astype(np.float32))


def _block_errors(off: np.ndarray, moment: np.ndarray, grid: Grid) -> np.ndarray:
    """The error that each block makes by itself, of the shape of its scales."""
    if grid.block == -1:
        return output_error(off, moment).sum().reshape(1, 1)
    rows = block_rows(grid.block, len(off))
    parts = [slice(start, start + rows) for start in block_starts(grid.block, len(off))]
    return np.stack([output_error(off[part], moment[part, part]) for part in parts])
