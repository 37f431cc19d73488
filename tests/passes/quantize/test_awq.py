"""awq for weights alone: scaled, clipped, and its scales fitted to the codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from graphwright.passes.quantize.awq import Awq
from graphwright.passes.quantize.coded import Affine
from graphwright.passes.quantize.equivalent import Rescaled
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.hessian import output_error
from graphwright.passes.quantize.rtn import Rtn


def loss(case: object, coded: Affine | Rescaled) -> np.ndarray:
    """The error of each column on the calibration rows."""
    return output_error(case.weight - coded.matrix().astype(np.float64), case.statistics.moment)  # type: ignore[attr-defined]


@pytest.mark.parametrize("grid", [Grid(4, False, 32), Grid(3, True, 32), Grid(4, True, 0), Grid(2, False, 40)])
def test_no_other_scale_of_the_last_block_comes_closer(grid: Grid, planted: Callable) -> None:
    case = planted()
    found = Awq().quantize(case.weight, case.statistics, grid)
    assert isinstance(found, Rescaled)
    assert isinstance(found.inner, Affine)
    for factor in (0.98, 1.02):
        scales = found.inner.scales.copy()
        scales[-1] *= factor
        other = Rescaled(dataclasses.replace(found.inner, scales=scales), found.scale)
        assert (loss(case, found) <= loss(case, other) * (1 + 1e-6)).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_what_comes_out_is_not_systematically_smaller(bits: int, planted: Callable) -> None:
    case = planted(outliers=0)
    grid = Grid(bits, False, 32)
    found = Awq().quantize(case.weight, case.statistics, grid).matrix().astype(np.float64)
    moment, weight = case.statistics.moment, case.weight.astype(np.float64)
    kept = np.sum(weight * (moment @ found)) / np.sum(weight * (moment @ weight))
    share = np.sqrt(loss(case, Awq().quantize(case.weight, case.statistics, grid)).sum() / output_error(weight, moment).sum())
    assert abs(1 - kept) <= 2 * share**2


@pytest.mark.parametrize("block", [-1, 0, 32])
@pytest.mark.parametrize("symmetric", [True, False])
def test_it_is_never_further_off_than_rounding_to_nearest_on_its_own_data(block: int, symmetric: bool, planted: Callable) -> None:
    for seed in range(3):
        case = planted(seed=seed)
        for bits in (4, 3):
            grid = Grid(bits, symmetric, block)
            plain = Rtn().quantize(case.weight, None, grid)
            assert loss(case, Awq().quantize(case.weight, case.statistics, grid)).sum() <= loss(case, plain).sum() * (1 + 1e-6)


def test_a_weight_of_zeros_stays_one(planted: Callable) -> None:
    case = planted()
    found = Awq().quantize(np.zeros_like(case.weight), case.statistics, Grid(4, False, 32))
    assert not found.matrix().any()
