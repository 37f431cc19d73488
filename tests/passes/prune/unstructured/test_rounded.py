"""Pruned and rounded in one sweep: both forms hold, and less is lost than where rounding is not made good for."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.errors import ModelError, UsageError
from graphwright.passes.prune.unstructured.pattern import Pattern, within
from graphwright.passes.prune.unstructured.rounded import SparseAndRounded
from graphwright.passes.prune.unstructured.sparsegpt import SparseGpt
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn

from .planted import plant

PATTERNS = [Pattern(0.5), Pattern(0.7), Pattern(0.5, 2, 4), Pattern(0.5, 4, 8), Pattern(0.5, 2, 4, run=50)]
GRIDS = [Grid(4, True, 32), Grid(3, True, 16), Grid(4, False, 32), Grid(4, True, 0), Grid(8, True, -1), Grid(4, False, 24)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("inputs", [100, 160])
def test_zeros_are_where_the_pattern_has_them_and_the_rest_is_on_the_grid(inputs: int, pattern: Pattern, grid: Grid) -> None:
    case = plant(inputs, 12)
    found = SparseAndRounded(pattern=pattern).quantize(case.weight, case.statistics, grid)
    assert within(found.matrix() != 0, pattern)
    assert found.codes.min() >= grid.low and found.codes.max() <= grid.high
    assert found.scales.shape == Rtn().quantize(case.weight, None, grid).scales.shape


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_it_errs_less_than_sparsegpt_and_rounding_to_nearest(bits: int, pattern: Pattern) -> None:
    case, grid = plant(160, 12), Grid(bits, True, 32)
    apart = Rtn().quantize(SparseGpt().prune(case.weight, case.statistics, pattern), None, grid).matrix()
    assert case.error(SparseAndRounded(pattern=pattern).quantize(case.weight, case.statistics, grid).matrix()) < 0.95 * case.error(apart)


def test_what_it_needs_is_asked_for() -> None:
    case = plant(32, 8)
    with pytest.raises(UsageError, match="sparsegpt needs calibration data"):
        SparseAndRounded().quantize(case.weight, None, Grid())
    with pytest.raises(ModelError, match="NaN|finite"):
        SparseAndRounded().quantize(np.full((32, 8), np.nan, np.float32), case.statistics, Grid())
